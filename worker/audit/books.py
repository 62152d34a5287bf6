"""The books: what came in held against what became of it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from contract.stamp import Ranges, Stamp
from worker.audit.claims import Account, Claims
from worker.audit.findings import Finding, Kind
from worker.audit.fingerprint import ID_BYTES, Fingerprint

Row = Mapping[str, Any]
"""A row of the ledger; its UUIDs may be their 16 bytes."""


@dataclass(frozen=True, slots=True)
class Came:
    """Events that came in, by how."""

    confirmed: int
    """The broker has them, say their publishers."""
    refused: int
    """Given up by their publisher, and arrived all the same."""
    unclaimed: int
    """Arrived, and their publisher was killed, or has not yet said so."""
    direct: int
    """From producers that do not stamp."""
    replayed: int
    """Dead letters that were sent again."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.confirmed + self.refused + self.unclaimed + self.direct + self.replayed


@dataclass(frozen=True, slots=True)
class Became:
    """What became of them."""

    stored: int
    duplicates: int
    rejected: int
    apart: int
    """In whole messages among the dead letters, or purged."""
    open: int
    """Confirmed, and under way; or lost, when nothing is under way."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.stored + self.duplicates + self.rejected + self.apart + self.open


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters; those that workers parked, but for `whole`, `copies` and `depth`."""

    rejected: int
    replayed: int
    purged: int
    missing: int
    whole: int
    """Messages that the broker dead-lettered as they were, and that nobody has replayed."""
    copies: int
    """Left by a crash: of a letter that is there, that was settled, or that was parked before a commit failed."""
    depth: int
    """All that lie there."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The books at one moment."""

    came: Came
    became: Became
    letters: Letters
    publishers: Mapping[str, Account]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Sums:
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    direct: int = 0
    replayed: int = 0


@dataclass(slots=True)
class Books:
    """Takes in the ledger and the dead letters, one by one, and draws the balance."""

    ids: Fingerprint = field(default_factory=Fingerprint)
    """Of the stored events that the ledger lists."""
    _claims: dict[UUID, Claims] = field(default_factory=dict)
    _sums: _Sums = field(default_factory=_Sums)
    _parked: dict[bytes, str] = field(default_factory=dict)
    """Key of a dead letter -> the row that says so."""
    _replayed: set[bytes] = field(default_factory=set)
    _purged: set[bytes] = field(default_factory=set)
    _depth: int = 0
    _present: set[bytes] = field(default_factory=set)
    _whole: dict[bytes, Stamp | None] = field(default_factory=dict)
    _faults: list[Finding] = field(default_factory=list)

    # What is taken in.

    def enter(self, row: Row) -> None:
        """Take in a row of the ledger: each once, the cheapest order is that of their ids."""
        try:
            if "purged" in row["_id"]:
                self._enter_purge(row)
            else:
                self._enter_events(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            self._fault(row, f"it cannot be read: {exc!r}")

    def _enter_purge(self, row: Row) -> None:
        self._purged.add(_bytes(row["_id"]["purged"]))
        if "publisher" in row:
            claims = self._claims_of(row["publisher"])
            claims.set_apart(_number(row["seq"]), _number(row["events"]))
            claims.tell(_number(row.get("floor", 0)), _number(row.get("confirmed", 0)), _ranges(row))

    def _enter_events(self, row: Row) -> None:
        identity, ids, parked = row["_id"], _packed(row["ids"]), _packed(row["parked"])
        events, stored, duplicates, rejected = (
            _number(row[name]) for name in ("events", "stored", "duplicates", "rejected")
        )
        if "publisher" in identity:
            claims = self._claims_of(identity["publisher"])
            claims.tell(_number(row["floor"]), _number(row["confirmed"]), _ranges(row))
            claims.settle(_number(identity["seq"]), events)
        elif "replay" in identity:
            self._replayed.add(_bytes(identity["replay"]))
            self._sums.replayed += events
        else:
            _bytes(identity["batch"])
            self._sums.direct += events
        self._sums.stored += stored
        self._sums.duplicates += duplicates
        self._sums.rejected += rejected
        self.ids.add(ids)
        if parked:
            name = spell_row(row)
            self._parked.update((parked[at : at + ID_BYTES], name) for at in range(0, len(parked), ID_BYTES))
        if events != stored + duplicates + rejected:
            self._fault(row, f"{events} events are not {stored} stored, {duplicates} duplicates, {rejected} rejected")
        if (len(ids), len(parked)) != (ID_BYTES * stored, ID_BYTES * rejected):
            listed = f"{len(ids) // ID_BYTES} ids and {len(parked) // ID_BYTES} dead letters"
            self._fault(row, f"it lists {listed}, for {stored} stored and {rejected} rejected")

    def note_letter(self, key: UUID, stamp: Stamp | None, *, is_whole: bool) -> None:
        """Take in a dead letter that lies in the queue."""
        self._depth += 1
        self._present.add(key.bytes)
        if is_whole:
            self._whole[key.bytes] = stamp
        if stamp is not None:
            claims = self._claims_of(stamp.publisher)
            claims.set_apart(stamp.seq, stamp.events)
            claims.tell(stamp.floor, stamp.confirmed, stamp.void)

    def _claims_of(self, publisher: UUID | bytes) -> Claims:
        return self._claims.setdefault(UUID(bytes=_bytes(publisher)), Claims())

    def _fault(self, row: Row, why: str) -> None:
        self._faults.append(Finding.of(Kind.ROW, row=spell_row(row), why=why))

    # What comes out.

    def balance(self) -> Balance:
        """Draw the balance of all that was taken in."""
        accounts = {str(publisher): self._claims[publisher].account() for publisher in sorted(self._claims)}
        sums, all_accounts = self._sums, accounts.values()
        return Balance(
            Came(
                confirmed=sum(one.confirmed for one in all_accounts),
                refused=sum(one.refused for one in all_accounts),
                unclaimed=sum(one.unclaimed for one in all_accounts),
                direct=sums.direct,
                replayed=sums.replayed,
            ),
            Became(
                stored=sums.stored,
                duplicates=sums.duplicates,
                rejected=sums.rejected,
                apart=sum(one.apart for one in all_accounts),
                open=sum(one.open for one in all_accounts),
            ),
            self._letters(),
            accounts,
            (*self._faults, *_losses(accounts), *self._missing_letters()),
        )

    def _letters(self) -> Letters:
        outstanding = self._parked.keys() - self._replayed - self._purged
        # One that was parked, replayed, and then dead-lettered by the broker, is the parked one still.
        whole = sum(key not in self._parked and not self._is_copy(key, stamp) for key, stamp in self._whole.items())
        return Letters(
            rejected=len(self._parked),
            replayed=len(self._parked.keys() & (self._replayed - self._purged)),
            purged=len(self._parked.keys() & self._purged),
            missing=len(outstanding - self._present),
            whole=whole,
            copies=self._depth - len(outstanding & self._present) - whole,
            depth=self._depth,
        )

    def _is_copy(self, key: bytes, stamp: Stamp | None) -> bool:
        """Whether a whole message has been seen to already: the tool, or the worker, died half-way."""
        if stamp is not None and self._claims[stamp.publisher].is_settled(stamp.seq):
            return True
        return key in self._replayed or key in self._purged

    def _missing_letters(self) -> Iterator[Finding]:
        for key, row in self._parked.items():
            if key not in self._replayed and key not in self._purged and key not in self._present:
                yield Finding.of(Kind.LETTER, key=UUID(bytes=key), row=row)


def _losses(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    for publisher, account in accounts.items():
        for first, last in account.holes:
            seq = f"{first}" if first == last else f"{first}-{last}"
            yield Finding.of(Kind.HOLE, publisher=publisher, seq=seq)
        if not account.holes and account.open:
            yield Finding.of(
                Kind.SHORT,
                publisher=publisher,
                confirmed=account.confirmed,
                floor=account.floor,
                found=account.settled + account.apart,
            )


def name_ids(listed: Mapping[bytes, list[str]], stored: Collection[bytes]) -> Iterator[Finding]:
    """Say which ids are wrong, of those that the ledger lists in these rows."""
    for one, rows in listed.items():
        if one not in stored:
            yield Finding.of(Kind.LOST, id=UUID(bytes=one), row=rows[0])
        if len(rows) > 1:
            yield Finding.of(Kind.REPEATED, id=UUID(bytes=one), times=len(rows), row=" and ".join(rows))


def spell_row(row: Row) -> str:
    """Name a row of the ledger."""
    identity = row.get("_id")
    if not isinstance(identity, Mapping):
        return str(identity)
    parts = {name: _spell(value) for name, value in identity.items()}
    if parts.keys() == {"publisher", "seq"}:
        return f"{parts['publisher']}:{parts['seq']}"
    return " ".join(f"{name} {value}" for name, value in parts.items())


def _spell(value: object) -> str:
    return str(UUID(bytes=bytes(value))) if isinstance(value, bytes) and len(value) == ID_BYTES else str(value)


def _bytes(value: UUID | bytes) -> bytes:
    packed = value.bytes if isinstance(value, UUID) else _packed(value)
    if len(packed) != ID_BYTES:
        raise ValueError("a UUID has 16 bytes")
    return packed


def _packed(value: object) -> bytes:
    # Not simply bytes(), which makes zeros of a number.
    if not isinstance(value, bytes) or len(value) % ID_BYTES:
        raise TypeError("packed ids are expected")
    return bytes(value)


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value


def _ranges(row: Row) -> Ranges:
    return tuple((_number(first), _number(last)) for first, last in row.get("void", ()))
