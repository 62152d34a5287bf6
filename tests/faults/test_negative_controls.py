"""Bugs put in on purpose: the checker must find each by the promise that it breaks."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aio_pika
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from devstack import Devstack
from devstack.local import LocalService
from tests.faults.bugs import BUGS
from tests.support.books import Books, Way
from tests.support.checker import Scenario, Scene, check
from tests.support.deployment import Deployment, deployed
from tests.support.fuse import Fuse
from tests.support.load import Crowd, load
from tests.support.pair import Site, end_transactions
from tests.support.queue import Queue
from tests.support.verdict import Kind, Verdict
from tests.support.waiting import eventually

CROWD = Crowd(singles=8, batches=4, pace=0.03, good=True)
SELDOM = Crowd(singles=4, pace=0.5, good=True)
"""Others, who send at moments that lie further apart."""
CLIENTS = 8 + 4 + 4
IN_HAND = 8 + 4 * 50 + 4
"""Records that these clients have under way at once, at the most."""


@dataclass
class Trial:
    """What a fault works on."""

    deployment: Deployment
    scene: Scene
    books: Books
    fuse: Fuse

    async def goes_on(self, more: int = 300) -> None:
        """Wait until so many more are confirmed."""
        before = len(self.books.confirmed)
        await eventually(lambda: len(self.books.confirmed) >= before + more, what="more to be confirmed")

    async def stores(self, more: int = 300) -> None:
        """Wait until so many more are stored."""
        stored = self.scene.database.events.estimated_document_count
        before = await stored()

        async def has_more() -> bool:
            return await stored() >= before + more

        await eventually(has_more, what="more to be stored")

    async def is_answered(self) -> None:
        """Wait for 503s, or for more confirms than what was under way already can have brought: these are false."""
        refused, most = self.books.statuses[503], len(self.books.confirmed) + IN_HAND
        await eventually(lambda: self.books.statuses[503] > refused or len(self.books.confirmed) > most)


Fault = Callable[[Trial], Awaitable[None]]


async def database_killed(trial: Trial) -> None:
    """Each time by the worker itself as soon as it has acknowledged: the later, the more has been written down."""
    service = trial.deployment.stack.database
    for _ in range(2):
        await trial.stores()
        # What nobody waits for is written down this often (ms), at the most; set until the server ends.
        await trial.scene.database.client.admin.command("setParameter", 1, journalCommitInterval=500)
        if isinstance(service, LocalService):
            await trial.fuse.strike("ack:after", service.server.pid)
            await asyncio.to_thread(service.stop)  # what is left of it
        else:
            await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)


async def queue_unbound(trial: Trial) -> None:
    """What is published meanwhile finds no queue; ingest binds it again when it connects the next time."""
    connection = await aio_pika.connect(trial.scene.site.amqp_url)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.QUEUE)
        await queue.unbind(topology.EXCHANGE, topology.ROUTING_KEY)
        await trial.is_answered()
        await queue.bind(topology.EXCHANGE, topology.ROUTING_KEY)


async def killed_before_the_commit(trial: Trial) -> None:
    await trial.fuse.burn("ledger:before", trial.deployment)


async def broker_silent(trial: Trial) -> None:
    """Nothing arrives at the broker any more, nor comes back, until the connection is given up."""
    to_broker = trial.deployment.networks[0]
    to_broker.blackhole()
    await trial.is_answered()
    to_broker.cut()
    to_broker.pass_()


async def document_refused(trial: Trial) -> None:
    """The database takes all but one, which stands in the middle of a batch."""
    # A transaction that a killed worker has left open would hold up the new rule, and the record would be stored first.
    await end_transactions(trial.scene.site.mongodb_uri)
    with trial.deployment.ingest.frozen():  # nobody is answered, and sends the next, until the rule holds
        known = max(number for number in trial.books.attempted if number % len(Way) == Way.BATCH)
        ahead = itertools.count(known + 60 * CROWD.records * len(Way), len(Way))
        number = next(number for number in ahead if not trial.books.record(number).is_bad)
        validator = {"idempotencyKey": {"$ne": f"key-{number}"}}
        await trial.scene.database.command("collMod", "events", validator=validator)
    assert number not in trial.books.attempted, "the rule came too late"
    await eventually(lambda: number in trial.books.confirmed, what="the record to be confirmed")
    trial.books.doomed.add(number)


async def verdict_on(
    bug: str, faults: list[Fault], site: Site, stack: Devstack, database: AsyncDatabase[dict[str, Any]], queue: Queue
) -> Verdict:
    fuse = Fuse(site.directory / "fuse")
    # A message for each client: what they send while nothing arrives leaves then, all but the last perhaps, each at its
    # own time, so that the first is waited for in vain, and others are cancelled. Were there fewer, they might all have
    # arrived before; were all sent within milliseconds, all might be given up at once by a process that is held up.
    several = {"groups_in_flight": str(CLIENTS), "group_events": "1"}
    launched = replace(site, launcher=fuse.launcher(bug), ingest_settings=several)
    async with deployed(stack, launched, workers=1) as deployment:
        scene = Scene(stack.broker, queue, database, launched, deployment.url)
        async with (
            load(deployment.url, site.amqp_url, CROWD) as books,
            load(deployment.url, site.amqp_url, SELDOM, books),
        ):
            trial = Trial(deployment, scene, books, fuse)
            for fault in faults:
                await trial.goes_on()
                await fault(trial)
                await trial.goes_on()
        return await check(books, scene, Scenario(audit_wait=1))


CONTROLS: dict[str, tuple[Fault, set[Kind]]] = {
    "acknowledge_what_is_in_memory": (database_killed, {Kind.LOST, Kind.AUDIT}),
    "let_returns_pass": (queue_unbound, {Kind.LOST, Kind.AUDIT}),
    "acknowledge_first": (killed_before_the_commit, {Kind.LOST, Kind.AUDIT}),
    "add_outside_the_transaction": (killed_before_the_commit, {Kind.TOTALS, Kind.AUDIT}),
    "swallow_cancellation": (broker_silent, {Kind.LOST, Kind.AUDIT}),
    "refuse_the_whole_batch": (document_refused, {Kind.DEAD_LETTER}),
}
"""What finds each bug, in which fault; the product's own audit finds all that are a loss or a wrong total."""


@pytest.mark.parametrize("bug", CONTROLS)
async def test_a_bug_is_found_by_the_promise_it_breaks(
    bug: str, site: Site, stack: Devstack, database: AsyncDatabase[dict[str, Any]], queue: Queue
) -> None:
    fault, kinds = CONTROLS[bug]
    verdict = await verdict_on(bug, [fault], site, stack, database, queue)
    assert verdict.kinds >= kinds, verdict


async def test_without_a_bug_the_same_faults_break_no_promise(
    site: Site, stack: Devstack, database: AsyncDatabase[dict[str, Any]], queue: Queue
) -> None:
    assert {*CONTROLS, "none"} == set(BUGS)
    faults = list(dict.fromkeys(fault for fault, _ in CONTROLS.values()))
    verdict = await verdict_on("none", faults, site, stack, database, queue)
    verdict.assert_balanced()
