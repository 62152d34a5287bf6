"""Waiting for a condition, with a limit."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, seconds: float = 30, what: str = "", every: float = 0.02
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T | None], *, seconds: float = 30, what: str = "", every: float = 0.02
) -> T: ...


async def eventually(
    condition: Callable[[], object], *, seconds: float = 30, what: str = "the condition", every: float = 0.02
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
