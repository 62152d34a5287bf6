"""An event loop on which no time is spent waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class TimelessLoop(asyncio.SelectorEventLoop):
    """Never sleeps: when nothing is left to do, it is at once as late as the next timer wants it to be."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    @property
    def is_busy(self) -> bool:
        """Whether anybody but who asks has something to do now."""
        return bool(self._ready)  # type: ignore[attr-defined]


def run_timeless(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(main)


async def settle_down() -> None:
    """Let everybody do what can be done without time passing."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TimelessLoop)
    await asyncio.sleep(0)
    while loop.is_busy:  # noqa: ASYNC110 - until nobody has anything left to do
        await asyncio.sleep(0)
