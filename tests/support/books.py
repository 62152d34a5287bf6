"""What clients tried and what they were told, kept outside of every process that a test breaks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from functools import cached_property
from itertools import count
from typing import Any
from uuid import UUID

from contract.event import Source, event_id
from contract.fields import current_time, format_timestamp

BAD_EVERY = 50
"""So often a client sends what must not be stored."""
METRICS = ("api_calls", "storage gb", "tokens")


class Way(IntEnum):
    """How a record comes in; the remainder of its number says which."""

    SINGLE = 0
    BATCH = 1
    DIRECT = 2
    PRODUCER = 3


@dataclass(frozen=True)
class Numbered:
    """The record that a number stands for: all of it follows from the number, so each stored copy can be checked."""

    number: int
    project: str
    began: datetime
    """When the books were opened: what timestamps are counted back from."""

    @cached_property
    def id(self) -> UUID:
        return event_id(self.project, self.key)

    @property
    def key(self) -> str:
        return f"key-{self.number}"

    @property
    def way(self) -> Way:
        return Way(self.number % len(Way))

    @property
    def is_bad(self) -> bool:
        """Whether it breaks a rule."""
        return self.number // len(Way) % BAD_EVERY == BAD_EVERY - 1

    @property
    def customer(self) -> str:
        return f"customer{self.number % 7}@example.com"

    @property
    def metric(self) -> str:
        return METRICS[self.number // len(Way) % len(METRICS)]

    @property
    def quantity(self) -> Decimal:
        return self.number + Decimal("0.000000001")

    @property
    def timestamp(self) -> datetime | None:
        return None if self.number % 3 else self.began - timedelta(minutes=self.number % 97)

    @property
    def properties(self) -> dict[str, Any] | None:
        return None if self.number % 5 else {"region": "eu-1", "trial": False, "n": self.number}

    def to_record(self) -> dict[str, Any]:
        """As a client posts it."""
        given: dict[str, Any] = {
            "email": "no address" if self.is_bad else self.customer,
            "metric": self.metric,
            "quantity": str(self.quantity),
            "idempotencyKey": self.key,
            "timestamp": self.timestamp and format_timestamp(self.timestamp),
            "properties": self.properties,
        }
        return {name: value for name, value in given.items() if value is not None}

    def to_event(self) -> dict[str, Any]:
        """As a producer publishes it."""
        return {"projectId": self.project, **self.to_record()}

    def wrong_fields(self, document: dict[str, Any]) -> list[str]:
        """The fields in which a stored document is not this record."""
        expected = {
            "_id": self.id,
            "projectId": self.project,
            "email": self.customer,
            "metric": self.metric,
            "timestamp": self.timestamp or document["receivedAt"],
            "source": Source.QUEUE if self.way in {Way.DIRECT, Way.PRODUCER} else Source.HTTP,
            "properties": self.properties,
        }
        wrong = [name for name, value in expected.items() if document.get(name) != value]
        return wrong if document["quantity"].to_decimal() == self.quantity else [*wrong, "quantity"]


@dataclass
class Books:
    """Sets of numbers: what was attempted, and what became of it as far as its sender knows."""

    project: str = "load"
    began: datetime = field(default_factory=current_time)
    attempted: set[int] = field(default_factory=set)
    confirmed: set[int] = field(default_factory=set)
    """Answered with 200, or confirmed by the broker."""
    refused: set[int] = field(default_factory=set)
    """Answered with 400, or not even sent: must not be stored."""
    doomed: set[int] = field(default_factory=set)
    """Of those confirmed by the broker: bad, so that they must be found among the dead letters."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How often each status came; 0 stands for a connection that broke."""
    broken_at: list[datetime] = field(default_factory=list)
    """When connections broke on which an answer was awaited."""
    slowest: float = 0.0
    """Seconds of the slowest answer."""
    _counters: dict[Way, "count[int]"] = field(default_factory=lambda: {way: count(int(way), len(Way)) for way in Way})

    @property
    def indeterminate(self) -> set[int]:
        """Sent, and never answered: either may be true."""
        return self.attempted - self.confirmed - self.refused

    @property
    def owed(self) -> set[int]:
        """What must be stored."""
        return self.confirmed - self.doomed

    def draw(self, way: Way) -> Numbered:
        """Take the next number for this way in."""
        number = next(self._counters[way])
        self.attempted.add(number)
        return self.record(number)

    def draw_good(self, way: Way) -> Numbered:
        """Take the next that breaks no rule."""
        while (record := self.record(next(self._counters[way]))).is_bad:
            pass
        self.attempted.add(record.number)
        return record

    def record(self, number: int) -> Numbered:
        return Numbered(number, self.project, self.began)

    def records(self, numbers: set[int]) -> Iterator[Numbered]:
        return map(self.record, numbers)

    def confirm(self, record: Numbered) -> None:
        """Its sender was told that it is safe."""
        self.confirmed.add(record.number)
        if record.is_bad:
            self.doomed.add(record.number)

    def refuse(self, record: Numbered) -> None:
        """Its sender was told that it will never do."""
        self.refused.add(record.number)
