"""Everything breaks, in turn and at once; what was confirmed is stored once, and the sums are right."""

import os
from random import SystemRandom
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from tests.support.chaos import Chaos
from tests.support.checker import Scene, check
from tests.support.deployment import deployed
from tests.support.load import load
from tests.support.logs import hits, seen
from tests.support.pair import Site
from tests.support.queue import Queue

SECONDS = 60.0


async def test_a_minute_of_kills_freezes_cuts_and_alarms_loses_nothing_and_doubles_nothing(
    site: Site, stack: Devstack, database: AsyncDatabase[dict[str, Any]], queue: Queue
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "0")) or SystemRandom().randrange(1, 2**31)
    note = f"the same faults in the same order come with CHAOS_SEED={seed}"
    # given two workers under load of every kind
    async with deployed(stack, site) as deployment:
        async with load(deployment.url, site.amqp_url) as books:
            # when everything breaks
            chaos = Chaos(deployment, seed)
            await chaos.run(SECONDS)
        # then the books balance
        verdict = await check(books, Scene(stack.broker, queue, database, site, deployment.url))
        verdict.assert_balanced(note)
    # nobody ended but by our kills, and at the end when told to
    assert deployment.exits == {-9, 0}, note
    # and every fault came, and did hit
    assert not chaos.missed, note
    found = seen(sorted(site.directory.glob("worker*.log")))
    assert found.redelivered > 0, note
    assert found.duplicates > 0, note
    assert hits(deployment.kills, found.redelivered_at) > 0, note
    assert hits(deployment.kills, books.broken_at) > 0, note
    assert len(books.doomed) > 0
