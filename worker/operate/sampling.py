"""Taking samples of a running system, one each interval."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from runtime.supervision import pause
from worker.operate.sample import Process, Sample
from worker.operate.sources import Away, Broker, Processes
from worker.operate.window import Look, Window


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be looked at, and how often."""

    ingest: Sequence[str]
    """The bases of admin ports, as http://127.0.0.1:9101; likewise the workers'."""
    worker: Sequence[str]
    interval: float
    """Seconds."""
    count: int | None
    """Samples; None: one at once, of which no rate can be said yet, and on without end."""


async def samples(plan: Plan, amqp_url: str, stop: asyncio.Event) -> AsyncGenerator[Sample, None]:
    """Yield them until there are enough, or `stop` is set."""
    urls = [*plan.ingest, *plan.worker]
    async with Broker(amqp_url) as broker, Processes(urls) as processes:
        looks: list[Look | Away] = [Away("not looked at yet")] * len(urls)
        for number in count():
            before = looks
            queues, looks = await asyncio.gather(broker.look(), processes.look())
            seen = [Process(*one) for one in zip(urls, map(window_between, before, looks), strict=True)]
            ingest, worker = seen[: len(plan.ingest)], seen[len(plan.ingest) :]
            if number or plan.count is None:
                yield Sample(datetime.now(UTC), queues, ingest, worker)
            if number == plan.count or stop.is_set():
                return
            await pause(plan.interval, stop)


def window_between(before: Look | Away, after: Look | Away) -> Window | Away:
    """What can be said of the time between two looks at one process; of a first one, only how it is now."""
    if isinstance(after, Away):
        return after
    return Window(None if isinstance(before, Away) else before, after)
