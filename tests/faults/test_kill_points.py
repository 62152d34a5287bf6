"""A process is killed at each step of its work, before and after; what was confirmed is stored once all the same."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from tests.faults.steps import INGEST_POINTS, WORKER_POINTS
from tests.support.books import Books
from tests.support.checker import Scenario, Scene, check
from tests.support.deployment import Deployment, deployed
from tests.support.fuse import Fuse
from tests.support.load import Crowd, load
from tests.support.pair import Site
from tests.support.queue import Queue
from tests.support.waiting import eventually

CROWD = Crowd(singles=4, batches=1, direct=1, producers=2, pace=0.02)
UNCOMMITTED = ("insert:after", "totals:before", "totals:after", "ledger:before", "ledger:after", "commit:before")
RECOVERY_SECONDS = 2.0
"""From the next worker's first delivery to the first event stored, so that a restart takes three seconds in all: the
dead worker's transaction must not block what comes after it until the server ends it, after a minute."""
SLOW_MACHINE = 5
"""Times as long as it may take at a moment at which the machine is busy with something else."""


@dataclass
class Bench:
    """One worker and ingest, over all kills."""

    deployment: Deployment
    scene: Scene
    fuse: Fuse
    recoveries: list[float] = field(default_factory=list)
    """Seconds, each after a kill that left a transaction open."""


@pytest.fixture(scope="module")
async def bench(stack: Devstack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    directory = tmp_path_factory.mktemp("bench")
    fuse = Fuse(directory / "fuse")
    queue = Queue(stack.broker.url)
    await queue.reset()
    async with AsyncMongoClient[dict[str, Any]](
        stack.database.uri, uuidRepresentation="standard", tz_aware=True
    ) as client:
        database = client[f"test-{uuid4().hex[:12]}"]
        site = Site(stack.broker.url, stack.database.uri, database.name, directory, launcher=fuse.launcher())
        async with deployed(stack, site, workers=1) as deployment:
            yield Bench(deployment, Scene(stack.broker, queue, database, site, deployment.url), fuse)
        await client.drop_database(database.name)


async def count(database: AsyncDatabase[dict[str, Any]], books: Books) -> int:
    return await database.events.count_documents({"projectId": books.project})


@pytest.mark.parametrize("point", INGEST_POINTS)
async def test_an_ingest_killed_at_this_step_loses_and_doubles_nothing(bench: Bench, point: str) -> None:
    books = Books(project=point.replace(":", "-"))
    async with load(bench.deployment.url, bench.scene.site.amqp_url, CROWD, books):
        await bench.fuse.burn(point, bench.deployment)
        await bench.deployment.ingest.ready()
    (await check(books, bench.scene, Scenario(audit=False))).assert_balanced()


@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_a_worker_killed_at_this_step_loses_and_doubles_nothing(bench: Bench, point: str) -> None:
    books = Books(project=point.replace(":", "-"))
    async with load(bench.deployment.url, bench.scene.site.amqp_url, CROWD, books):
        await bench.fuse.burn(point, bench.deployment)
        before = await count(bench.scene.database, books)
        await bench.deployment.workers[0].ready()
        ready_at = time.monotonic()

        async def more() -> bool:
            return await count(bench.scene.database, books) > before

        await eventually(more, what="the first event after the kill")
        recovered_in = time.monotonic() - ready_at
    (await check(books, bench.scene, Scenario(audit=False))).assert_balanced()
    if point in UNCOMMITTED:
        bench.recoveries.append(recovered_in)
        assert recovered_in < SLOW_MACHINE * RECOVERY_SECONDS


async def test_a_transaction_left_open_delays_the_next_worker_no_longer_than_it_must(bench: Bench) -> None:
    # what the others took longer than the quickest is the machine's
    assert min(bench.recoveries) < RECOVERY_SECONDS


async def test_after_all_these_kills_the_books_balance(bench: Bench) -> None:
    (await check(Books(project="afterwards"), bench.scene)).assert_balanced()
