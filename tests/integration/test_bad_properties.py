import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiormq
import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.connection import connect
from contract.event import event_id
from contract.properties import unreadable
from devstack import Devstack
from tests.support.letters import settled_depth
from tests.support.pair import EXAMPLE, Site, consuming
from tests.support.poison import NOT_UTF8, POISON, RawProperties, RawText, counted, header, headers, time
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.subscription import delivery_of

Database = AsyncDatabase[dict[str, Any]]
PROJECT = "proj_hostile"


@pytest.fixture
async def producer(stack: Devstack, queue: Queue) -> AsyncIterator[AbstractChannel]:
    """The driver, which sends whatever bytes it is given."""
    del queue  # asked for only to be empty
    connection = await aiormq.connect(stack.broker.url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def send(producer: AbstractChannel, body: bytes, raw: bytes | None = None) -> None:
    properties = Basic.Properties(delivery_mode=2) if raw is None else RawProperties(raw)
    await producer.basic_publish(
        body,
        exchange=topology.DIRECT_EXCHANGE,
        routing_key=topology.ROUTING_KEY,
        properties=properties,
        mandatory=True,
        timeout=30,
    )


def event(key: str) -> bytes:
    return json.dumps({**EXAMPLE, "projectId": PROJECT, "idempotencyKey": key}).encode()


async def wait_for_all_stored(database: Database, ids: set[UUID]) -> None:
    async def all_there() -> bool:
        return await database.events.count_documents({"_id": {"$in": list(ids)}}) == len(ids)

    await eventually(all_there, what=f"{len(ids)} stored events", seconds=30)


@asynccontextmanager
async def undisturbed(site: Site) -> AsyncIterator[Process]:
    """A worker for the length of a block, in which it must not once have lost its connection."""
    async with consuming(site) as worker:
        yield worker
        assert worker.text.count('"consuming"') == 1, worker.text
        assert "Traceback" not in worker.text, worker.text
        assert '"level": "error"' not in worker.text, worker.text


async def test_whatever_its_properties_a_message_is_parked_and_the_one_behind_it_stored(
    site: Site, producer: AbstractChannel, queue: Queue, database: Database
) -> None:
    async with undisturbed(site):
        # when each comes with a body that would be stored, and a good one behind it
        for name, (raw, _) in POISON.items():
            await send(producer, event(f"bad: {name}"), raw)
            await send(producer, event(f"good: {name}"))
        # then all of the good are stored, and nothing else
        await wait_for_all_stored(database, {event_id(PROJECT, f"good: {name}") for name in POISON})
        assert await database.events.count_documents({}) == len(POISON)
        # and each of the others is parked as it was sent, with what is wrong with it
        await settled_depth(queue, len(POISON))
        letters = {letter.body: letter for letter in await queue.dead_letters()}
        assert letters.keys() == {event(f"bad: {name}") for name in POISON}
        for name, (_, detail) in POISON.items():
            letter = letters[event(f"bad: {name}")]
            assert letter.reason == "BAD_PROPERTIES"
            assert detail in letter.detail
        assert await queue.depth() == 0


async def test_what_lies_before_the_worker_starts_does_not_keep_it_from_starting(
    site: Site, producer: AbstractChannel, queue: Queue, database: Database
) -> None:
    # given poison at the head of the queue, that is no event either
    for raw, _ in POISON.values():
        await send(producer, b"\xff not JSON", raw)
    await send(producer, event("good"))
    # when a worker comes
    async with undisturbed(site):
        await wait_for_all_stored(database, {event_id(PROJECT, "good")})
        await settled_depth(queue, len(POISON))
    # then what cannot be read of its properties is the reason, and its body is as it was
    letters = await queue.dead_letters()
    assert [(letter.reason, letter.body) for letter in letters] == [("BAD_PROPERTIES", b"\xff not JSON")] * len(POISON)


async def test_how_often_the_broker_delivered_it_is_known_though_another_header_is_unreadable(
    stack: Devstack, producer: AbstractChannel
) -> None:
    bad = headers(header(b"T" + time(-1)), header(b"V", NOT_UTF8), header(b"S" + counted(b"ok"), b"good"))
    await send(producer, event("bad"), bad)
    # when it is given back by the loss of its channel, time and again
    for expected in range(4):
        async with connect(stack.broker.url, name="test") as connection:
            message = await next_delivery(await connection.driver_channel())
        # then the count is read, as is the header that is good, and the others are named
        delivery = delivery_of(message)
        assert delivery.earlier_deliveries == expected
        assert (message.header.properties.headers or {}).get("good") == "ok"
        assert "headers['x']: year" in (delivery.unreadable or "")
        assert r"headers['\\xff\\xfe']: 'utf-8'" in (delivery.unreadable or "")


async def test_a_dead_letter_that_was_sent_by_a_key_that_is_not_utf8_can_be_read(
    stack: Devstack, producer: AbstractChannel
) -> None:
    await producer.basic_publish(
        b"lost", exchange=topology.DIRECT_EXCHANGE, routing_key=RawText("x"), properties=Basic.Properties(), timeout=30
    )
    async with connect(stack.broker.url, name="test") as connection:
        channel = await connection.driver_channel()
        got = await channel.basic_get(topology.DEAD_QUEUE, timeout=30)
        delivered = await next_delivery(channel, topology.DEAD_QUEUE, given_back=got)
    for message in (got, delivered):
        assert (message.body, message.routing_key) == (b"lost", r"\xff\xfe")
        assert unreadable(message.header.properties) is None


async def next_delivery(
    channel: AbstractChannel, queue: str = topology.QUEUE, *, given_back: DeliveredMessage | None = None
) -> DeliveredMessage:
    """Subscribe, and take one message without settling it."""
    if given_back is not None and given_back.delivery_tag is not None:
        await channel.basic_nack(given_back.delivery_tag, requeue=True)
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(queue, arrived.put, timeout=30)
    async with asyncio.timeout(10):
        return await arrived.get()
