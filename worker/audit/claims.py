"""What one publisher says of its messages, held against those that came."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from contract.stamp import Ranges


@dataclass(frozen=True, slots=True)
class Account:
    """One publisher's side of the books; all but the floor and the messages are events."""

    messages: int
    """Settled ones."""
    floor: int
    """The largest number up to which every message is known to be decided."""
    confirmed: int
    """In messages up to the floor that the broker has confirmed: the publisher's own word."""
    settled: int
    """In those of them that have a row in the ledger."""
    apart: int
    """In those of them that the broker dead-lettered whole; also when they were purged since."""
    refused: int
    """In messages that the publisher had given up, and that arrived all the same."""
    unclaimed: int
    """In messages that arrived, and that no floor covers."""
    holes: Ranges
    """Numbers up to the floor of which nothing is known."""

    @property
    def open(self) -> int:
        """Confirmed, and not there: negative where more is there than was confirmed."""
        return self.confirmed - self.settled - self.apart


class Claims:
    """One publisher's messages, noted in any order; the cheapest order is their own."""

    def __init__(self) -> None:
        self._floor = 0
        self._confirmed = 0
        self._void: set[tuple[int, int]] = set()
        self._came: list[tuple[int, int]] = []
        # 16 bytes for each message: there may be many millions.
        self._seqs = array("q")
        self._events = array("q")
        self._apart: dict[int, int] = {}

    def tell(self, floor: int, confirmed: int, void: Iterable[tuple[int, int]]) -> None:
        """Note what a stamp says of other messages."""
        self._floor = max(self._floor, floor)
        self._confirmed = max(self._confirmed, confirmed)
        self._void.update(void)

    def settle(self, seq: int, events: int) -> None:
        """Note a message that is in the ledger, once."""
        self._seqs.append(seq)
        self._events.append(events)
        if self._came and self._came[-1][1] == seq - 1:
            self._came[-1] = (self._came[-1][0], seq)
        else:
            self._came.append((seq, seq))

    def set_apart(self, seq: int, events: int) -> None:
        """Note a message that the broker dead-lettered whole, as often as it is found."""
        self._apart[seq] = events

    def is_settled(self, seq: int) -> bool:
        """Whether a message is in the ledger; to be asked when all are noted."""
        return _holds(self._settled(), seq)

    def _settled(self) -> Ranges:
        self._came = list(merge(self._came))
        return tuple(self._came)

    def account(self) -> Account:
        """Draw the balance."""
        came, void = self._settled(), merge(self._void)
        settled = refused = unclaimed = 0
        for seq, events in zip(self._seqs, self._events, strict=True):
            if void and _holds(void, seq):
                refused += events
            elif seq <= self._floor:
                settled += events
            else:
                unclaimed += events
        apart = {seq: events for seq, events in self._apart.items() if not _holds(came, seq)}
        return Account(
            messages=len(self._seqs),
            floor=self._floor,
            confirmed=self._confirmed,
            settled=settled,
            apart=sum(events for seq, events in apart.items() if seq <= self._floor and not _holds(void, seq)),
            refused=refused,
            unclaimed=unclaimed,
            holes=tuple(_gaps(merge(chain(came, void, ((seq, seq) for seq in apart))), self._floor)),
        )


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the same numbers as few ranges, in order."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _holds(merged: Ranges, number: int) -> bool:
    index = bisect_right(merged, (number, 2**63)) - 1
    return index >= 0 and number <= merged[index][1]


def _gaps(merged: Ranges, last: int) -> Iterator[tuple[int, int]]:
    """The numbers from 1 to `last` that are in none of the ranges."""
    expected = 1
    for start, end in merged:
        if start > last:
            break
        if start > expected:
            yield expected, start - 1
        expected = end + 1
    if expected <= last:
        yield expected, last
