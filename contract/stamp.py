"""The stamp of a published message: what lets anyone check later that no message was lost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

PUBLISHER: Final = "usage-publisher"
SEQ: Final = "usage-seq"
EVENTS: Final = "usage-events"
FLOOR: Final = "usage-floor"
CONFIRMED: Final = "usage-confirmed"
VOID: Final = "usage-void"

Ranges = tuple[tuple[int, int], ...]
"""Whole numbers as ranges, each from its first to its last, in order."""

_MOST: Final = 2**63 - 1
_MOST_RANGES: Final = 500
"""So that a stamp fits into one frame; void numbers in a row are one range, so few outages come near."""

_VOID_TEXT: Final = re.compile(
    r"[1-9][0-9]{0,18}(?:-[1-9][0-9]{0,18})?(?:,[1-9][0-9]{0,18}(?:-[1-9][0-9]{0,18})?)*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """One message's place among those of its publisher, with what was known of the others when it was first sent.

    A number is decided when the broker has confirmed its message, or when the publisher has given it up.
    """

    publisher: UUID
    """Made anew at each start of a publisher."""
    seq: int
    """1, 2, 3 and so on, in the order of first sending."""
    events: int
    """How many events the message holds; a message of none is a mark: it only carries its stamp."""
    floor: int = 0
    """The largest number up to which every message is decided."""
    confirmed: int = 0
    """Events in confirmed messages up to the floor."""
    void: Ranges = ()
    """Numbers up to the floor that were given up: refused, or sent and then wanted by nobody. They may have arrived."""

    @property
    def name(self) -> str:
        """What the message is called in logs, and in the books: `publisher:seq`."""
        return f"{self.publisher}:{self.seq}"

    def to_headers(self) -> dict[str, Any]:
        """Return the AMQP headers of the message."""
        headers: dict[str, Any] = {
            PUBLISHER: str(self.publisher),
            SEQ: self.seq,
            EVENTS: self.events,
            FLOOR: self.floor,
            CONFIRMED: self.confirmed,
        }
        if self.void:
            headers[VOID] = _spell(self.void)
        return headers

    @classmethod
    def from_headers(cls, headers: Mapping[str, Any] | None) -> Self | None:
        """Read the stamp of a message; None when it has none, or not a whole one: anybody may write headers."""
        if not headers or PUBLISHER not in headers:
            return None
        try:
            return cls(
                publisher=UUID(headers[PUBLISHER]),
                seq=_count(headers[SEQ], least=1),
                events=_count(headers[EVENTS]),
                floor=_count(headers[FLOOR]),
                confirmed=_count(headers[CONFIRMED]),
                void=_read(headers[VOID]) if VOID in headers else (),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


class Stamper:
    """Numbers one publisher's messages, and keeps account of which of them are decided."""

    def __init__(self, publisher: UUID) -> None:
        self._publisher = publisher
        self._seq = 0
        self._floor = 0
        self._confirmed = 0
        self._decided: dict[int, int | None] = {}
        """Above the floor: number -> events of a confirmed message, None for one that was given up."""
        self._void: list[tuple[int, int]] = []
        """Up to the floor, and in no confirmed message's stamp yet."""
        self._covered = 0
        """The highest floor that a confirmed message has carried."""
        self._last_with_events = 0

    @property
    def sent(self) -> int:
        """How many messages have been stamped."""
        return self._seq

    @property
    def owes_mark(self) -> bool:
        """Whether something became of a message with events that no confirmed message tells of."""
        return self._covered < min(self._floor, self._last_with_events)

    def stamp(self, events: int) -> Stamp:
        """Number a message that is about to be sent for the first time."""
        self._seq += 1
        return Stamp(self._publisher, self._seq, events, self._floor, self._confirmed, tuple(self._void))

    def confirm(self, stamp: Stamp) -> None:
        """The broker has it: what its stamp tells need not be told again."""
        self._covered = max(self._covered, stamp.floor)
        told = set(stamp.void)
        # A range may have grown since; then it is told again as a whole, which does no harm.
        self._void = [one for one in self._void if one not in told]
        self._decide(stamp, stamp.events)

    def give_up(self, stamp: Stamp) -> None:
        """It will not be sent again; whether it arrived is not known."""
        self._decide(stamp, None)

    def _decide(self, stamp: Stamp, confirmed: int | None) -> None:
        self._decided[stamp.seq] = confirmed
        if stamp.events:
            self._last_with_events = max(self._last_with_events, stamp.seq)
        while self._floor + 1 in self._decided and len(self._void) < _MOST_RANGES:
            self._floor += 1
            events = self._decided.pop(self._floor)
            if events is None:
                self._add_void(self._floor)
            else:
                self._confirmed += events

    def _add_void(self, seq: int) -> None:
        if self._void and self._void[-1][1] == seq - 1:
            self._void[-1] = (self._void[-1][0], seq)
        else:
            self._void.append((seq, seq))


def _count(value: object, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= _MOST:
        raise ValueError
    return value


def _spell(ranges: Ranges) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _read(text: object) -> Ranges:
    if not isinstance(text, str) or not _VOID_TEXT.fullmatch(text):
        raise ValueError
    ranges = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ranges.append((_count(int(first)), _count(int(last or first))))
    bounds = [bound for one in ranges for bound in one]
    if bounds != sorted(bounds):
        raise ValueError
    return tuple(ranges)
