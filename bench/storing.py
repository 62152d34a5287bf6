"""How fast events are stored: a worker with totals and ledger, beside inserts that do nothing but insert."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import aio_pika
from pymongo.write_concern import WriteConcern

from bench.checks import audited, drained
from bench.cost import Clock, Watch
from bench.ids import Ids
from bench.options import Options
from bench.subjects import PROJECT
from bench.workers import Database, database, servers, working
from contract.cancellation import end
from contract.event import Source, UsageEvent
from contract.fields import current_time
from contract.publisher import Publisher
from contract.topology import DIRECT_EXCHANGE, ROUTING_KEY
from devstack import Devstack
from worker.documents import to_document

BATCH: Final = 5000
LIMIT: Final = "insert_many alone"
PUBLISHED_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Case:
    """What lies in the queue before the worker starts."""

    name: str
    events: int
    customers: int
    per_message: int = 500
    ids: Ids = Ids.KEYED


EACH_ITS_OWN: Final = Case("every event its own total", 200_000, 10**9)
THOUSAND: Final = Case("1,000 customers", 200_000, 1000)
SINGLE: Final = Case("one event a message", 60_000, 1000, per_message=1)
CASES: Final = (Case("1 customer", 200_000, 1), THOUSAND, EACH_ITS_OWN, SINGLE)


@dataclass(frozen=True, slots=True)
class Stored:
    """One case's result."""

    round: int
    case: str
    per_second: float
    cpu: dict[str, float]
    """Microseconds for each event, by process."""
    memory: dict[str, float]
    """The most megabytes of each process."""


async def measure(stack: Devstack, options: Options) -> dict[str, Any]:
    """Measure the limit and all cases in turn. Raises Lost."""
    stored = []
    for number in range(options.rounds):
        stored.append(await insert_alone(stack, number, BATCH * 40))
        for case in CASES:
            async with database(stack) as found:
                stored.append(await store(stack, found, case, number))
                if number == options.rounds - 1:
                    await audited(stack, found.name)
    return {"stored": [asdict(one) for one in stored]}


def event(number: int, customers: int, ids: Ids = Ids.KEYED, at: datetime | None = None) -> UsageEvent:
    """Make an event as ingest makes them, received now if not at another time."""
    at = at or current_time()
    return UsageEvent(
        id=ids.new(at),
        project_id=PROJECT,
        email=f"customer{number % customers}@northwind.dev",
        metric="program quantify",
        quantity=Decimal(number) / 100,
        received_at=at,
        source=Source.HTTP,
    )


async def insert_alone(stack: Devstack, number: int, count: int) -> Stored:
    """The limit: the same documents by insert_many, a majority, journaled."""
    documents = [to_document(event(place, 1000)) for place in range(count)]
    processes = servers(stack)
    async with database(stack) as found:
        await found["events"].create_index([("projectId", 1), ("email", 1), ("metric", 1), ("timestamp", 1)])
        collection = found.get_collection("events", write_concern=WriteConcern(w="majority", j=True))
        with Watch(processes) as memory:
            before, began = Clock.read(processes), time.monotonic()
            for start in range(0, count, BATCH):
                await collection.insert_many(documents[start : start + BATCH], ordered=False)
            seconds, cpu = time.monotonic() - began, Clock.read(processes)
        return Stored(number, LIMIT, count / seconds, cpu.microseconds_each(before, count), memory.peaks)


async def fill(amqp_url: str, case: Case) -> None:
    """Publish a case's events, confirmed."""
    publisher = Publisher(amqp_url, name="bench")
    running = asyncio.create_task(publisher.run())
    while not publisher.ready:
        await asyncio.sleep(0.02)
    if case.per_message == 1:
        await _publish_singly(amqp_url, case)
    else:
        starts = range(0, case.events, case.per_message)
        for first in range(0, len(starts), PUBLISHED_AT_ONCE):
            some = starts[first : first + PUBLISHED_AT_ONCE]
            await asyncio.gather(*(_publish(publisher, start, case) for start in some))
    await publisher.finish()
    await end(running)


async def _publish(publisher: Publisher, start: int, case: Case) -> None:
    events = range(start, min(start + case.per_message, case.events))
    await publisher.publish([event(number, case.customers, case.ids).to_wire() for number in events])


async def _publish_singly(amqp_url: str, case: Case) -> None:
    """As a producer without groups does it, many at a time."""
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(DIRECT_EXCHANGE, ensure=False)
        bodies = [event(number, case.customers, case.ids).to_wire() for number in range(case.events)]
        for start in range(0, len(bodies), 1000):
            messages = [aio_pika.Message(body, delivery_mode=2) for body in bodies[start : start + 1000]]
            await asyncio.gather(*(exchange.publish(message, ROUTING_KEY) for message in messages))


async def store(
    stack: Devstack, found: Database, case: Case, number: int, settings: Mapping[str, str] | None = None
) -> Stored:
    """Fill the queue, start a worker, and take the time from its first stored events to its last. Raises Lost."""
    before = int(await found["events"].estimated_document_count())
    await fill(stack.broker.url, case)
    with working(stack, found.name, settings) as worker:
        processes = {"worker": worker, **servers(stack)}
        with Watch(processes) as memory:
            first = await _more_than(found, before) - before
            clock, began = Clock.read(processes), time.monotonic()
            stored, ended = await drained(found, case.events, before=before)
            cpu = Clock.read(processes).microseconds_each(clock, stored - first)
        return Stored(number, case.name, (stored - first) / (ended - began), cpu, memory.peaks)


async def _more_than(found: Database, count: int) -> int:
    while (stored := int(await found["events"].estimated_document_count())) <= count:
        await asyncio.sleep(0.005)
    return stored
