"""An event loop on which no time is spent waiting."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class TimelessSelector(selectors.DefaultSelector):
    """Whoever waits on it for something to happen is at once as late as that may take."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # for as long as it takes
            return super().select()
        self.now += timeout
        return super().select(0)


class TimelessLoop(asyncio.SelectorEventLoop):
    """Never sleeps: when nothing is left to do, it is at once as late as the next timer wants it to be."""

    def __init__(self) -> None:
        self._selector_of_time = TimelessSelector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now

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
