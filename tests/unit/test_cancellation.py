import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contract import cancellation
from contract.cancellation import end


async def forgetful() -> None:
    """Loses its first cancellation, as asyncio.wait_for may."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)


async def failing() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise ValueError


async def finished() -> None:
    return


@pytest.mark.parametrize("coroutine", [forgetful, failing, finished])
async def test_a_task_ends_whatever_it_makes_of_a_cancellation(
    coroutine: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "ASK_AGAIN", 0.01)
    task = asyncio.ensure_future(coroutine())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert task.done()


async def test_nothing_to_end_is_no_trouble() -> None:
    await end()
