"""What is entered into the ledger: which messages came, and what became of their events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Self
from uuid import UUID, uuid5

import uuid_utils.compat as uuid_utils

from contract.event import EVENT_NAMESPACE, Rejected, UsageEvent
from contract.origin import Origin, request_at
from contract.stamp import Stamp

STAMPED_EVENTS: Final = 10_000
"""No publisher of ours puts more into one message, so a larger one is not taken for ours, and may be split."""

Document = Mapping[str, Any]
Kind = Literal["publisher", "replay", "batch"]


@dataclass(frozen=True, slots=True)
class EntryId:
    """The identity of an entry: a publisher's message, a replayed dead letter, or a batch's other messages together."""

    kind: Kind
    uuid: UUID
    seq: int | None = None

    @classmethod
    def of_stamp(cls, stamp: Stamp) -> Self:
        """The entry of a stamped message."""
        return cls("publisher", stamp.publisher, stamp.seq)

    @classmethod
    def of_replay(cls, key: UUID) -> Self:
        """The entry of a dead letter that was sent again."""
        return cls("replay", key)

    @classmethod
    def new(cls) -> Self:
        """An entry for messages that have no identity of their own."""
        return cls("batch", uuid_utils.uuid7())

    def __str__(self) -> str:
        """What it is called in logs: as in the audit, `publisher:seq`."""
        return f"{self.uuid}:{self.seq}" if self.kind == "publisher" else f"{self.kind} {self.uuid}"

    def to_document(self) -> dict[str, Any]:
        """Return the `_id` of the ledger's row."""
        return {self.kind: self.uuid} if self.seq is None else {self.kind: self.uuid, "seq": self.seq}

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Read the `_id` of a row."""
        kind: Kind = next(name for name in ("publisher", "replay", "batch") if name in document)
        return cls(kind, document[kind], document.get("seq"))

    def letter_key(self, position: int) -> UUID:
        """The key of the dead letter that this entry's item at `position` becomes: the same each time it is parked."""
        return uuid5(EVENT_NAMESPACE, f"{self.kind}:{self.uuid}:{self.seq}:{position}")


@dataclass(slots=True)
class Entry:
    """What came in as one: it is stored, and entered, whole."""

    id: EntryId
    events: list[UsageEvent] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    stamp: Stamp | None = None
    digest: bytes | None = None
    """Of the body; None where several messages share the entry. A row of this id with another is somebody else's."""
    requests: object = None
    """The header that tells by which requests its events came."""
    part_of: tuple["Entry", int] | None = None
    """What it was cut from, and the position there of its first item."""

    @property
    def size(self) -> int:
        """Events, with the rejected ones."""
        return len(self.events) + len(self.rejected)

    @property
    def weight(self) -> int:
        """What a transaction has to write for it, in events: a mark has its row."""
        return max(1, self.size)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to enter; a mark is empty but for its stamp."""
        return not self.size and self.stamp is None

    def letter_keys(self) -> Iterator[UUID]:
        """The keys of the dead letters that its items might become, one for each in order: the rejected ones first."""
        return (self.letter_key(position) for position in range(self.size))

    def letter_key(self, position: int) -> UUID:
        """The key of the dead letter that its item at `position` becomes: the same however it is cut."""
        if self.part_of is None:
            return self.id.letter_key(position)
        whole, first = self.part_of
        return whole.letter_key(first + position)

    def origin_of(self, position: int) -> Origin:
        """Where its item at `position` came from, rejected ones first."""
        if self.part_of is not None:
            whole, first = self.part_of
            return whole.origin_of(first + position)
        # Which of a message's items were rejected is not known any more, but that all were, or none.
        is_in_order = not (self.events and self.rejected)
        request = request_at(self.requests, position) if is_in_order else None
        return Origin(None if self.stamp is None else self.stamp.name, request)

    def disowned(self) -> "Entry":
        """The same under a new identity: its own belongs to a message of other content."""
        return Entry(EntryId.new(), self.events, self.rejected)


@dataclass(slots=True)
class Row:
    """What is known of an entry when its transaction commits."""

    entry: Entry
    stored: list[UUID]
    duplicates: int
    parked: list[UUID]
    """The keys of its dead letters."""

    def to_document(self, now: datetime) -> dict[str, Any]:
        """Return the row as it stands in the collection `ledger`."""
        document: dict[str, Any] = {
            "_id": self.entry.id.to_document(),
            "events": len(self.stored) + self.duplicates + len(self.parked),
            "stored": len(self.stored),
            "duplicates": self.duplicates,
            "rejected": len(self.parked),
            "ids": pack(self.stored),
            "parked": pack(self.parked),
            "at": now,
        }
        if self.entry.digest is not None:
            document["digest"] = self.entry.digest
        if self.entry.stamp is not None:
            document |= stamp_fields(self.entry.stamp)
        return document


def stamp_fields(stamp: Stamp) -> dict[str, Any]:
    """What a row keeps of the stamp beside its `_id`."""
    fields: dict[str, Any] = {"floor": stamp.floor, "confirmed": stamp.confirmed}
    if stamp.void:
        fields["void"] = [list(one) for one in stamp.void]
    return fields


def pack(ids: Iterable[UUID]) -> bytes:
    """Put ids behind each other, 16 bytes each."""
    return b"".join(one.bytes for one in ids)


def unpack(packed: bytes) -> Iterator[UUID]:
    """Take ids apart that were packed."""
    return (UUID(bytes=packed[start : start + 16]) for start in range(0, len(packed), 16))


def split(entries: Sequence[Entry], most: int) -> Iterator[Sequence[Entry]]:
    """Give, in order, what may be written in one transaction: so many events at the most.

    A message with an identity of its own is never split, however large. Others are entered in parts, each under an
    identity of its own: what is stored before a redelivery is a duplicate after it.
    """
    if entries and weigh(entries) <= most:  # as nearly always
        yield entries
        return
    together: list[Entry] = []
    weight = 0
    for entry in entries:
        for part in _parts(entry, most) if entry.size > most and _may_be_split(entry) else [entry]:
            if together and weight + part.weight > most:
                yield together
                together, weight = [], 0
            together.append(part)
            weight += part.weight
    if together:
        yield together


def weigh(entries: Iterable[Entry]) -> int:
    """What a transaction has to write for all of them, in events."""
    return sum(entry.weight for entry in entries)


def is_divisible(entries: Sequence[Entry]) -> bool:
    """Whether `split` could make several transactions of them."""
    return len(entries) > 1 or any(entry.size > 1 and _may_be_split(entry) for entry in entries)


def _may_be_split(entry: Entry) -> bool:
    return entry.id.kind == "batch"


def _parts(entry: Entry, most: int) -> Iterator[Entry]:
    for start in range(0, len(entry.events), most):
        some = entry.events[start : start + most]
        yield Entry(EntryId.new(), events=some, part_of=(entry, len(entry.rejected) + start))
    for start in range(0, len(entry.rejected), most):
        yield Entry(EntryId.new(), rejected=entry.rejected[start : start + most], part_of=(entry, start))
