"""Ending tasks for certain."""

import asyncio
from typing import Any, Final

ASK_AGAIN: Final = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and return when they have ended; what they raised stays with them.

    Once is not enough: before Python 3.12, asyncio.wait_for, which the driver uses, forgets a cancellation that comes
    at the moment its future is done.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=ASK_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it
