"""What is logged of dead letters: each at debug, and at warning as few lines as tell an operator to look."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import structlog

from contract.event import Rejected

log = structlog.get_logger(__name__)

EVERY: Final = 10.0
"""Seconds: a producer of nothing but garbage fills the queue of dead letters, not the log."""


class ParkingLog:
    """One line when letters were parked, then one in so many seconds for all since, by reason.

    What is wrong with a letter is not logged, for that may quote what was sent: its key leads to it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = -EVERY
        self._reasons: Counter[str] = Counter()
        self._last: dict[str, Any] = {}

    def note(self, letters: Mapping[UUID, Rejected]) -> None:
        """These were confirmed."""
        for key, letter in letters.items():
            origin = letter.origin
            self._last = {"key": key, "stamp": origin.message, "request_id": origin.request}
            self._reasons[letter.reason.value] += 1
            log.debug("dead letter", reason=letter.reason.value, **self._last)
        self.tell_if_due()

    def tell_if_due(self) -> None:
        """Tell of those that were not told of yet, if the last line is old enough."""
        if self._reasons and self._clock() - self._told_at >= EVERY:
            self.tell()

    def tell(self) -> None:
        """Tell of those that were not told of yet; the last of them stands for all."""
        if self._reasons:
            log.warning("parked", letters=self._reasons.total(), reasons=dict(self._reasons), **self._last)
            self._told_at = self._clock()
            self._reasons.clear()
