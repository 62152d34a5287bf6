"""Starts the dead-letter command, and has a signal come at a certain point of its work.

python -m tests.support.broken_off <point> <count> <signal> worker dead-letters ...: at the `count`-th time, after it.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from worker.__main__ import main
from worker.dead_letters import browsing
from worker.dead_letters.browsing import Browser
from worker.dead_letters.clearing import Purge, Replay

POINTS: dict[str, tuple[type, str]] = {
    "read": (Browser, "next"),
    "confirmed": (Replay, "_send"),
    "entered": (Purge, "__call__"),
    "settled": (Browser, "settle"),
}
WINDOW = 20
"""Small, so that few letters make many windows."""


def break_off(point: str, number: int, with_signal: signal.Signals) -> None:
    owner, name = POINTS[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    times = count(1)

    async def then_signal(*arguments: Any) -> Any:
        result = await original(*arguments)
        if next(times) == number:
            os.kill(os.getpid(), with_signal)
        return result

    setattr(owner, name, then_signal)


if __name__ == "__main__":
    _, point, number, name, _, *arguments = sys.argv
    break_off(point, int(number), signal.Signals[name])
    browsing.WINDOW = WINDOW  # type: ignore[misc]
    sys.argv = ["worker", *arguments]
    sys.exit(main())
