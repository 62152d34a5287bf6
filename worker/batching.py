"""A batch: what is written at once."""

from dataclasses import dataclass, field

from contract.event import Decoded, Rejected, UsageEvent
from worker.policies import MessageShape


@dataclass(slots=True)
class Batch:
    """Whole messages of one channel in the order of their delivery, decoded."""

    events: list[UsageEvent] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    messages: int = 0
    size: int = 0
    last_tag: int = 0
    opened_at: float = 0.0
    redelivered: int = 0
    """How many of its messages were delivered before."""
    earlier_deliveries: int = 0
    """How often its last message was delivered before."""

    def add(self, tag: int, size: int, decoded: Decoded, *, earlier_deliveries: int, now: float) -> None:
        """Append a message of `size` bytes; `now` is in seconds of a monotonic clock."""
        if not self.messages:
            self.opened_at = now
        self.events += decoded.events
        self.rejected += decoded.rejected
        self.messages += 1
        self.size += size
        self.last_tag = tag
        self.redelivered += earlier_deliveries > 0
        self.earlier_deliveries = earlier_deliveries

    @property
    def shape(self) -> MessageShape:
        """What its messages look like on the average."""
        count = max(1, self.messages)
        return MessageShape((len(self.events) + len(self.rejected)) / count, self.size / count)
