"""Waiting for a condition, with a limit."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, overload

T = TypeVar("T")

LONG: Final = 90.0
"""Seconds in which all that should happen does, a start of a process too, on a machine that is busy with more."""


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, seconds: float = LONG, what: str = "", every: float = 0.02
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T | None], *, seconds: float = LONG, what: str = "", every: float = 0.02
) -> T: ...


async def eventually(
    condition: Callable[[], object], *, seconds: float = LONG, what: str = "the condition", every: float = 0.02
) -> object:
    """Return the first true value of `condition`, which may be async; fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(every)
