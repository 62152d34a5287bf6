"""One line that is kept true, from what ingest and worker say of themselves at their admin ports."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from worker.operate.numbers import spell_count, spell_seconds
from worker.operate.sample import Process
from worker.operate.sampling import window_between
from worker.operate.sources import Away, Processes
from worker.operate.window import Window

REFRESH: Final = 1.0


async def lines(ingest_url: str, worker_url: str, *, refresh: float = REFRESH) -> AsyncGenerator[str]:
    """Yield the line after every `refresh` seconds, without end; the URLs are the bases of the admin ports."""
    async with Processes([ingest_url, worker_url]) as processes:
        before = await processes.look()
        while True:
            await asyncio.sleep(refresh)
            after = await processes.look()
            ingest, worker = map(window_between, before, after)
            yield spell(Process(ingest_url, ingest), Process(worker_url, worker))
            before = after


def spell(ingest: Process, worker: Process) -> str:
    """How much came in and was stored, how late, and what is wrong with either."""
    troubles = [
        f"{name}: {one.state}" for name, one in (("ingest", ingest), ("worker", worker)) if one.state != "ready"
    ]
    return "  ".join([*_of_ingest(ingest.window), *_of_worker(worker.window), *troubles])


def _of_ingest(window: Window | Away) -> list[str]:
    if isinstance(window, Away):
        return []
    return [
        f"{_count(window.rate('usage_events_accepted_total'))} in/s",
        f"{_count(window.rate('usage_requests_refused_total'))} refused/s",
    ]


def _of_worker(window: Window | Away) -> list[str]:
    if isinstance(window, Away):
        return []
    lag = window.quantile("usage_lag_seconds", 0.5)
    return [
        f"{_count(window.rate('usage_events_stored_total'))} stored/s",
        f"{'-' if lag is None else spell_seconds(lag)} lag",
        f"{_count(window.value('usage_messages_unsettled'))} unacked",
        f"{_count(window.value('usage_events_stored_total'))} stored",
        f"{_count(window.value('usage_dead_letters_total'))} dead",
    ]


def _count(value: float | None) -> str:
    return "-" if value is None else spell_count(value)
