"""Outages that last: the database, the broker or the way to it stay away for longer than anybody waits."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import psutil
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from yarl import URL

from contract import topology
from devstack import Devstack
from devstack.local import LocalService
from devstack.proxy import Proxy
from tests.support.pair import EXAMPLE, Pair, Site, consuming
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]


def events(count: int, first: int = 0) -> list[bytes]:
    return [
        json.dumps({**EXAMPLE, "projectId": "p", "idempotencyKey": str(number)}).encode()
        for number in range(first, first + count)
    ]


async def stored(database: Database, count: int, *, seconds: float = 30) -> None:
    async def all_there() -> bool:
        return await database.events.count_documents({}) == count

    await eventually(all_there, seconds=seconds, what=f"{count} stored events")


async def ctl(stack: Devstack, *arguments: str) -> None:
    await asyncio.to_thread(stack.broker.ctl, *arguments)


@asynccontextmanager
async def short_acknowledgement_timeout(stack: Devstack, milliseconds: int) -> AsyncIterator[None]:
    """The broker takes back what is not acknowledged so soon; new channels look for it each second."""
    set_env = "application:set_env(rabbit, {}, {})."
    await ctl(stack, "eval", set_env.format("consumer_timeout", milliseconds))
    await ctl(stack, "eval", set_env.format("channel_tick_interval", 1000))
    try:
        yield
    finally:
        await ctl(stack, "eval", set_env.format("consumer_timeout", 1_800_000))
        await ctl(stack, "eval", set_env.format("channel_tick_interval", 60_000))


async def deliveries_before(queue_url: str) -> list[int]:
    """How often each message on the queue was delivered before this look, which counts as one more."""
    connection = await aio_pika.connect(queue_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(topology.QUEUE, passive=True)
        found = []
        while message := await queue.get(fail=False):
            count = message.headers.get("x-delivery-count", 0)
            assert isinstance(count, int)
            found.append(count)
        return found


async def test_a_database_that_is_gone_for_longer_than_the_broker_waits_costs_each_message_one_delivery(
    site: Site, stack: Devstack, database: Database, queue: Queue
) -> None:
    async with short_acknowledgement_timeout(stack, 2000), consuming(site, mongodb_timeout="2") as worker:
        await queue.send(events(30))
        await stored(database, 30)
        # given a prefetch that grows no more: a change may cost what is on its way a delivery of its own
        await worker.logged('"count": 5000, "event": "prefetch"')
        # when the database goes, messages come, and the broker's patience with the worker ends, several times over
        await asyncio.to_thread(stack.database.kill)
        try:
            await queue.send(events(50, first=30))
            await worker.logged("database lost", seconds=30)
            await worker.logged("broker lost|returned to the queue", seconds=30)
            await asyncio.sleep(6)  # the length of the fault
            # then the worker has given back what it held, and does not take it again before the database is back
            assert worker.text.count('"event": "consuming"') == 1
            counts = await deliveries_before(stack.broker.url)
            assert len(counts) == 50
            assert max(counts) == 1
        finally:
            await asyncio.to_thread(stack.database.start)
        await stored(database, 80, seconds=40)
    assert await queue.dead_letters() == []


async def test_a_broker_that_breaks_again_and_again_while_the_database_is_away_costs_no_more_than_one_delivery(
    site: Site, stack: Devstack, database: Database, queue: Queue
) -> None:
    async with consuming(site, log_level="INFO", mongodb_timeout="1") as worker:
        await asyncio.to_thread(stack.database.freeze)
        try:
            await queue.send(events(20))
            await worker.logged("database lost")
            for _ in range(4):
                await ctl(stack, "close_all_connections", "a test")
                await asyncio.sleep(0.5)  # the pace of the fault
            counts = await deliveries_before(stack.broker.url)
            assert (len(counts), max(counts)) == (20, 1)
        finally:
            await asyncio.to_thread(stack.database.thaw)
        await stored(database, 20)
    assert await queue.dead_letters() == []


def in_alarm(stack: Devstack) -> Callable[[], Awaitable[bool]]:
    async def in_alarm() -> bool:
        return await asyncio.to_thread(stack.broker.ctl, "eval", "rabbit_alarm:get_alarms().") != "[]\n"

    return in_alarm


@pytest.mark.parametrize(
    ("alarm", "clear"),
    [
        pytest.param(("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4"), id="memory"),
        pytest.param(("set_disk_free_limit", "2000GB"), ("set_disk_free_limit", "50MB"), id="disk"),
    ],
)
async def test_in_an_alarm_the_worker_goes_on_storing_and_parks_what_it_must_when_the_alarm_is_over(
    site: Site, stack: Devstack, database: Database, queue: Queue, alarm: tuple[str, ...], clear: tuple[str, ...]
) -> None:
    async with consuming(site) as worker:
        # given a backlog with garbage in it, which the worker does not work at
        worker.signal(signal.SIGSTOP)
        backlog = events(300)
        mixed = json.dumps([json.loads(backlog[0]), {"projectId": "p"}]).encode()
        await queue.send([b"not json", *backlog[:150], b"not json either", mixed, *backlog[150:]])
        await ctl(stack, *alarm)
        try:
            await eventually(in_alarm(stack), every=0.5)
            # when it works on, in the alarm, in which the broker takes no dead letters
            worker.signal(signal.SIGCONT)
            # then all else is stored
            await stored(database, 300)
            await worker.logged("dead letters blocked")
            assert await queue.depth(topology.DEAD_QUEUE) == 0
        finally:
            await ctl(stack, *clear)
        # and when the alarm is over, the garbage is parked, once, and all is settled
        await worker.logged('"dead letters parked"')
        assert await worker.stop() == 0
        assert await deliveries_before(stack.broker.url) == []
    letters = await queue.dead_letters()
    assert sorted(letter.reason for letter in letters) == ["INVALID", "UNDECODABLE", "UNDECODABLE"]
    entries = await database.ledger.find().to_list()
    assert (sum(row["rejected"] for row in entries), sum(row["stored"] for row in entries)) == (3, 300)


@pytest.mark.parametrize("fault", ["half-open", "cut", "frozen"])
async def test_a_worker_whose_broker_falls_silent_notices_and_comes_back(
    fault: str, site: Site, stack: Devstack, database: Database, queue: Queue, proxy: Proxy
) -> None:
    url = str(URL(stack.broker.url).with_host("127.0.0.1").with_port(proxy.port).with_query(heartbeat="1"))
    async with consuming(site, amqp_url=url, log_level="INFO") as worker:
        await queue.send(events(10))
        await stored(database, 10)
        if fault == "half-open":
            proxy.blackhole()
        elif fault == "cut":
            proxy.reset()
        else:
            await asyncio.to_thread(stack.broker.freeze)
        try:
            await worker.logged("broker lost", seconds=25)
        finally:
            if fault == "frozen":
                await asyncio.to_thread(stack.broker.thaw)
            proxy.cut()
            proxy.pass_()
        await queue.send(events(10, first=10))
        await stored(database, 20)
    assert await queue.dead_letters() == []


async def test_a_queue_deleted_under_load_is_declared_anew_and_consumed_from(
    pair: Pair, database: Database, queue: Queue
) -> None:
    await queue.send(events(10))
    await stored(database, 10)
    before = pair.worker.text.count('"event": "consuming"')
    await queue.delete()
    # the worker, told so by the broker, declares it again
    await eventually(lambda: pair.worker.text.count('"event": "consuming"') > before)
    await queue.send(events(10, first=10))
    await stored(database, 20)


async def test_a_full_disk_ends_the_database_and_loses_nothing(
    site: Site, stack: Devstack, database: Database, queue: Queue
) -> None:
    service = stack.database
    if not isinstance(service, LocalService):
        pytest.skip("a container's disk cannot be filled from here")
    async with consuming(site):
        await queue.send(events(100))
        await stored(database, 100)
        # when files may not grow: what a full disk says, too, the server cannot write its journal
        service.server.rlimit(psutil.RLIMIT_FSIZE, (1, 1))
        try:
            await queue.send(events(100, first=100))
            await eventually(lambda: not service.running, seconds=60, what="the database to end")
        finally:
            await asyncio.to_thread(service.stop)  # what is left of it
            await asyncio.to_thread(service.start)
        await stored(database, 200, seconds=40)
    assert await queue.dead_letters() == []
    totals = await database.totals.find().to_list()
    assert sum(total["count"] for total in totals) == 200
