"""When a batch is full, how much to prefetch: decisions as frozen values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """A batch is written when it holds this many events or bytes, or its first message has waited this long."""

    events: int = 10_000
    bytes: int = 8 * 1024 * 1024
    seconds: float = 0.02

    def is_full(self, events: int, size: int) -> bool:
        """Whether nothing more should be added."""
        return events >= self.events or size >= self.bytes


@dataclass(frozen=True, slots=True)
class MessageShape:
    """What the messages of a queue look like, on the average."""

    events: float
    bytes: float

    def blend(self, other: "MessageShape", weight: float) -> "MessageShape":
        """Move towards `other` by `weight`, from 0 to 1."""
        return MessageShape(
            self.events + (other.events - self.events) * weight, self.bytes + (other.bytes - self.bytes) * weight
        )


@dataclass(frozen=True, slots=True)
class PrefetchPolicy:
    """How many unacknowledged messages the broker may send ahead.

    One fixed number cannot serve messages of one event and of 500. A session starts with 1, looks, then takes as
    many messages as make two batches: one to write, one to collect meanwhile.
    """

    batch: BatchPolicy = BatchPolicy()
    least: int = 20
    most: int = 5000
    grow_factor: float = 1.5
    shrink_factor: float = 4.0
    """So much more or less must fit before it is changed, which costs milliseconds. With too little, nothing is
    collected while a batch is written; too much costs memory only.
    """
    growth: float = 16.0
    """At the most so many times more than what was just looked at: a few small messages say little of the next."""
    memory: int = 50
    """Messages after which the average has forgotten what came before."""
    suspicious_deliveries: int = 2

    def first(self) -> int:
        """What a session starts with, when it has seen nothing."""
        return 1

    def is_suspect(self, earlier_deliveries: int) -> bool:
        """Whether a message has crashed workers before: it is then taken alone, so that it takes no other with it."""
        return earlier_deliveries >= self.suspicious_deliveries

    def next(self, current: int, shape: MessageShape, *, suspect: bool) -> int:
        """What to prefetch from now on: `current`, unless something much different would fit better."""
        if current == self.first() and suspect:
            return current
        wanted = min(self._fitting(shape), max(self.least, int(current * self.growth)))
        if current == self.first() or wanted >= current * self.grow_factor or wanted <= current / self.shrink_factor:
            return wanted
        return current

    def _fitting(self, shape: MessageShape) -> int:
        """Two batches' worth by events, four by bytes."""
        by_events = 2 * self.batch.events / max(1.0, shape.events)
        by_bytes = 4 * self.batch.bytes / max(1.0, shape.bytes)
        return max(1, int(min(max(by_events, self.least), self.most, by_bytes)))


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Ingest validates with the model that the worker does: when what it sent is invalid, one of the two is wrong.

    So many such messages in a row are no accident of one sender, and parking all that comes would help nobody.
    """

    invalid_in_a_row: int = 20
