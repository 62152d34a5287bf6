"""A message that ends every worker that takes it: it ends among the dead letters, and takes no other with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from tests.faults.crashing import DEADLY
from tests.support.pair import EXAMPLE, Site
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]

INNOCENT = 400
SMALL_BATCHES = {"batch_events": "10"}
"""With these the prefetch grows only once, while nothing is on its way: a change may cost what is on its way a delivery
of its own, and then a worker less would end."""


def event(key: str) -> bytes:
    return json.dumps({**EXAMPLE, "projectId": "p", "idempotencyKey": key}).encode()


@asynccontextmanager
async def restarted_for_ever(site: Site) -> AsyncIterator[list[int]]:
    """A worker under a supervisor that starts it again at once; yields the exit codes so far."""
    exits: list[int] = []

    async def supervise() -> None:
        while True:
            worker = site.worker(f"worker-{len(exits)}", **SMALL_BATCHES)
            worker.module = "tests.faults.crashing"
            await worker.start()
            try:
                exits.append(await worker.wait(seconds=120))
            finally:
                await worker.close()

    supervisor = asyncio.create_task(supervise())
    try:
        yield exits
    finally:
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)


async def test_a_message_that_crashes_every_worker_is_dead_lettered_and_all_around_it_are_stored(
    site: Site, database: Database, queue: Queue
) -> None:
    # given one deadly message in the middle of innocent ones
    bodies = [event(str(number)) for number in range(INNOCENT)]
    deadly = event(DEADLY.decode())
    await queue.send([*bodies[: INNOCENT // 2], deadly, *bodies[INNOCENT // 2 :]])
    # when workers take it, and end
    async with restarted_for_ever(site) as exits:

        async def dead() -> bool:
            return await queue.depth(topology.DEAD_QUEUE) > 0

        await eventually(dead, seconds=200, every=0.2, what="the deadly message to be dead-lettered")

        async def stored() -> bool:
            return await database.events.count_documents({}) == INNOCENT

        # then every innocent one is stored
        await eventually(stored, seconds=30)
    assert set(exits) == {139}
    assert len(exits) == topology.DELIVERY_LIMIT + 1
    [letter] = await queue.dead_letters()
    assert letter.body == deadly
    assert letter.headers["x-death"][0]["reason"] == "delivery_limit"  # type: ignore[index,call-overload]
