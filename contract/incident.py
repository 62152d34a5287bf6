"""A trouble from its first sign to its end, logged so that it can be read: not once per retry."""

import time
from collections.abc import Callable
from typing import Any, Final

from contract.logs import get_logger

log = get_logger(__name__)

QUIET: Final = 10.0
"""Seconds after a warning for which what comes and goes is only counted."""

REMIND: Final = 60.0
"""Seconds after which a trouble that lasts is told again."""


class Incident:
    """One line at warning when it begins, one at info when it is over, and a reminder while it lasts.

    Each carries for how long it has lasted, how many attempts have failed, and how often it had come and gone untold
    since the line before. What is told to nobody stands in the log at debug.
    """

    def __init__(self, began: str, over: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; `began` and `over` are the events that are logged."""
        self._began = began
        self._over = over
        self._clock = clock
        self._since: float | None = None
        self._failures = 0
        self._is_told = False
        self._told_at = -REMIND
        self._untold = 0

    def note(self, **why: Any) -> None:
        """It has begun, or it lasts: another attempt has failed."""
        now = self._clock()
        if is_first := self._since is None:
            self._since, self._failures, self._is_told = now, 0, False
        self._failures += 1
        if now - self._told_at >= (REMIND if self._is_told else QUIET):
            log.warning(self._began, **why, **({} if is_first else self._so_far(now)), **self._left_out())
            self._is_told, self._told_at = True, now
        else:
            log.debug(self._began if is_first else f"{self._began}, still", **why)

    def end(self, **how: Any) -> bool:
        """It is over; returns whether there was one."""
        if self._since is None:
            return False
        if self._is_told:
            log.info(self._over, **how, **self._so_far(self._clock()))
        else:
            self._untold += 1
            log.debug(self._over, **how)
        self._since = None
        return True

    def _so_far(self, now: float) -> dict[str, Any]:
        return {"seconds": round(now - (self._since or now), 3), "failures": self._failures}

    def _left_out(self) -> dict[str, int]:
        untold, self._untold = self._untold, 0
        return {"untold": untold} if untold else {}
