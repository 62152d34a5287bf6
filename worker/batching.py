"""A batch: what is written at once."""

from dataclasses import dataclass, field

from contract.event import Decoded
from worker.delivery import Delivery
from worker.encoding import Drafts
from worker.ledger import STAMPED_EVENTS, Entry, EntryId
from worker.policies import MessageShape


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a batch, by itself: its receipt, and its entry."""

    tag: int
    entry: Entry


@dataclass(slots=True)
class Batch:
    """Whole messages of one channel in the order of their delivery, decoded."""

    single: dict[EntryId, Entry] = field(default_factory=dict)
    """Messages with an entry of their own: they have a name, or bring something that is to be parked."""
    shared: Entry = field(default_factory=lambda: Entry(EntryId.new()))
    """The entry of all others together."""
    tags: list[int] = field(default_factory=list)
    """The receipts of its messages."""
    events: int = 0
    """Those of all its messages, rejected ones included."""
    size: int = 0
    opened_at: float = 0.0
    copies: int = 0
    """Messages that it holds already: a republish arrives beside what was thought lost."""
    redelivered: int = 0
    """How many of its messages were delivered before."""
    earlier_deliveries: int = 0
    """How often its last message was delivered before."""
    drafts: Drafts = field(default_factory=Drafts)
    """The documents of some of its events."""
    _parts: list[Message | tuple[int, Decoded]] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """How many there are."""
        return len(self.tags)

    def add(self, delivery: Delivery, decoded: Decoded, now: float) -> None:
        """Append a message; `now` is in seconds of a monotonic clock."""
        if not self.tags:
            self.opened_at = now
        self._enter(delivery, decoded)
        self.tags.append(delivery.tag)
        self.events += len(decoded.events) + len(decoded.rejected)
        self.size += len(delivery.body)
        self.redelivered += delivery.earlier_deliveries > 0
        self.earlier_deliveries = delivery.earlier_deliveries

    def _enter(self, delivery: Delivery, decoded: Decoded) -> None:
        name = delivery.entry_id
        if name is not None and len(decoded.events) + len(decoded.rejected) <= STAMPED_EVENTS:
            digest = delivery.digest
            entry = Entry(name, decoded.events, decoded.rejected, delivery.stamp, digest, delivery.requests)
            known = self.single.setdefault(name, entry)
            if known is entry or known.digest == entry.digest:
                self.copies += known is not entry
                self._parts.append(Message(delivery.tag, known))
                return
        if decoded.rejected:
            entry = Entry(EntryId.new(), decoded.events, decoded.rejected, requests=delivery.requests)
            self.single[entry.id] = entry
            self._parts.append(Message(delivery.tag, entry))
            return
        self._parts.append((delivery.tag, decoded))
        self.shared.events += decoded.events

    @property
    def entries(self) -> list[Entry]:
        """What is to be stored, and entered into the ledger."""
        return [entry for entry in (*self.single.values(), self.shared) if not entry.is_empty]

    def apart(self) -> list[Message]:
        """Return each message by itself; those that had no name have one of their own."""
        return [
            part
            if isinstance(part, Message)
            else Message(part[0], Entry(EntryId.new(), part[1].events, part[1].rejected))
            for part in self._parts
        ]

    @property
    def shape(self) -> MessageShape:
        """What its messages look like on the average."""
        count = max(1, self.messages)
        return MessageShape(self.events / count, self.size / count)
