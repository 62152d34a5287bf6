"""A batch: what is written at once."""

from dataclasses import dataclass, field

from contract.event import Decoded
from worker.delivery import Delivery
from worker.ledger import STAMPED_EVENTS, Entry, EntryId
from worker.policies import MessageShape


@dataclass(slots=True)
class Batch:
    """Whole messages of one channel in the order of their delivery, decoded."""

    named: dict[EntryId, Entry] = field(default_factory=dict)
    """Messages that the ledger knows by a name of their own."""
    unnamed: Entry = field(default_factory=lambda: Entry(EntryId.new()))
    """All others together."""
    messages: int = 0
    events: int = 0
    """Those of all its messages, rejected ones included."""
    size: int = 0
    last_tag: int = 0
    opened_at: float = 0.0
    copies: int = 0
    """Messages that it holds already: a republish arrives beside what was thought lost."""
    redelivered: int = 0
    """How many of its messages were delivered before."""
    earlier_deliveries: int = 0
    """How often its last message was delivered before."""

    def add(self, delivery: Delivery, decoded: Decoded, now: float) -> None:
        """Append a message; `now` is in seconds of a monotonic clock."""
        if not self.messages:
            self.opened_at = now
        self._enter(delivery, decoded)
        self.messages += 1
        self.events += len(decoded.events) + len(decoded.rejected)
        self.size += len(delivery.body)
        self.last_tag = delivery.tag
        self.redelivered += delivery.earlier_deliveries > 0
        self.earlier_deliveries = delivery.earlier_deliveries

    def _enter(self, delivery: Delivery, decoded: Decoded) -> None:
        name = delivery.entry_id
        if name is not None and len(decoded.events) + len(decoded.rejected) <= STAMPED_EVENTS:
            entry = Entry(name, decoded.events, decoded.rejected, delivery.stamp, delivery.digest)
            known = self.named.setdefault(name, entry)
            if known is entry:
                return
            if known.digest == entry.digest:
                self.copies += 1
                return
        self.unnamed.events += decoded.events
        self.unnamed.rejected += decoded.rejected

    @property
    def entries(self) -> list[Entry]:
        """What is to be stored, and entered into the ledger."""
        return [entry for entry in (*self.named.values(), self.unnamed) if not entry.is_empty]

    @property
    def shape(self) -> MessageShape:
        """What its messages look like on the average."""
        count = max(1, self.messages)
        return MessageShape(self.events / count, self.size / count)
