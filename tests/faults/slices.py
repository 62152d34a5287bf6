"""Some minutes of one kind of fault, checked at the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient

from devstack import Devstack, Service
from tests.faults.doses import POINTS, Slice
from tests.support.books import Books
from tests.support.chaos import Chaos
from tests.support.checker import Scenario, Scene, check
from tests.support.deployment import Deployment, deployed
from tests.support.fuse import Fuse
from tests.support.load import load
from tests.support.logs import Tail, hits, seen
from tests.support.pair import Site
from tests.support.queue import Queue
from tests.support.supervisor import Supervisor
from tests.support.waiting import eventually

RUSH_SECONDS = 0.5
"""A process is killed at a random moment so soon after it has come to work."""


@dataclass
class Killing:
    """One slice under way."""

    deployment: Deployment
    books: Books
    random: Random
    fuse: Fuse
    seed: int
    kills: int
    """At the most."""
    until: float

    @property
    def goes_on(self) -> bool:
        return len(self.deployment.kills) < self.kills and time.monotonic() < self.until

    async def kill_worker(self) -> None:
        """Both at once, each as soon as it has come to work."""
        await self._works()  # before the first messages there is nothing to hit
        async with asyncio.TaskGroup() as tasks:
            for worker in self.deployment.workers:
                tasks.create_task(self._kill_again_and_again(worker))

    async def kill_ingest(self) -> None:
        await self._kill_again_and_again(self.deployment.ingest)

    async def kill_broker(self) -> None:
        await self._kill_service(self.deployment.stack.broker)

    async def kill_database(self) -> None:
        await self._kill_service(self.deployment.stack.database)

    async def kill_at_steps(self) -> None:
        """Ingest or a worker, at every step of their work in turn."""
        while self.goes_on:
            for point in self.random.sample(POINTS, len(POINTS)):
                if self.goes_on:
                    self.deployment.note_kill()
                    await self.fuse.burn(point, self.deployment)

    async def mix(self) -> None:
        """Everything; the seed decides."""
        await Chaos(self.deployment, self.seed).run(self.until - time.monotonic())

    async def _kill_again_and_again(self, supervisor: Supervisor) -> None:
        while self.goes_on:
            await supervisor.ready()
            await asyncio.sleep(self.random.uniform(0, RUSH_SECONDS))  # the moment of the fault
            if self.goes_on:
                self.deployment.note_kill()
                await supervisor.kill()

    async def _kill_service(self, service: Service) -> None:
        while self.goes_on:
            await self._works()
            await asyncio.sleep(self.random.uniform(0, RUSH_SECONDS))  # the moment of the fault
            self.deployment.note_kill()
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.start)

    async def _works(self) -> None:
        """Wait until records are confirmed and batches are stored again."""
        confirmed = len(self.books.confirmed)
        batches = [Tail(worker.process.log, '"event": "batch"') for worker in self.deployment.workers]
        before = [tail.count() for tail in batches]
        await eventually(lambda: len(self.books.confirmed) > confirmed, seconds=60)
        await eventually(lambda: [tail.count() for tail in batches] != before, seconds=60)


KINDS: dict[str, Callable[[Killing], Awaitable[None]]] = {
    "worker": Killing.kill_worker,
    "ingest": Killing.kill_ingest,
    "broker": Killing.kill_broker,
    "database": Killing.kill_database,
    "step": Killing.kill_at_steps,
    "mixed": Killing.mix,
}


async def run_slice(stack: Devstack, kind: str, directory: Path, *, seed: int, seconds: float, kills: int) -> Slice:
    """Run one slice in a new database, with the queues empty; its logs stay in `directory`."""
    queue = Queue(stack.broker.url)
    await queue.reset()
    uri = stack.database.uri
    async with AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", tz_aware=True) as client:
        database = client[f"soak-{uuid4().hex[:12]}"]
        fuse = Fuse(directory / "fuse")
        launcher = fuse.launcher() if kind == "step" else ()
        site = Site(stack.broker.url, uri, database.name, directory, launcher=launcher)
        begun = time.monotonic()
        async with deployed(stack, site) as deployment:
            async with load(deployment.url, site.amqp_url) as books:
                killing = Killing(deployment, books, Random(seed), fuse, seed, kills, begun + seconds)
                await KINDS[kind](killing)
                took = time.monotonic() - begun
            scene = Scene(stack.broker, queue, database, site, deployment.url)
            verdict = await check(books, scene, Scenario(drain_seconds=120))
        found = seen(sorted(directory.glob("worker*.log")))
        traces = {"ingest": books.broken_at, "database": found.lost_database_at}.get(kind, found.redelivered_at)
        await client.drop_database(database.name)
    return Slice(
        kind=kind,
        seed=seed,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(took, 1),
        kills=len(deployment.kills),
        hits=hits(deployment.kills, traces),
        redelivered=found.redelivered,
        duplicates=found.duplicates,
        events=len(books.confirmed),
        lost=verdict.lost,
        doubled=verdict.doubled,
        violations=(*map(str, verdict.violations), *_unexpected(deployment)),
    )


def _unexpected(deployment: Deployment) -> list[str]:
    """Exit codes that are neither those of our kills nor that of a stop in order."""
    return [f"a process ended by itself, with code {code}" for code in sorted(deployment.exits - {-9, 0})]
