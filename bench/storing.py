"""How fast events are stored: a worker with totals and ledger, beside inserts that do nothing but insert."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import psutil
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.write_concern import WriteConcern

from bench.cost import Clock, megabytes
from bench.subjects import ROOT
from contract.event import Source, UsageEvent
from contract.fields import truncate
from contract.publisher import Publisher
from devstack import Devstack
from devstack.local import LocalService
from devstack.ports import free_port
from worker.documents import to_document

BATCH: Final = 5000
Database = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """What lies in the queue before the worker starts."""

    name: str
    events: int
    customers: int
    per_message: int = 500


CASES: Final = (
    Case("1 customer", 200_000, 1),
    Case("1,000 customers", 200_000, 1000),
    Case("every event its own total", 200_000, 10**9),
    Case("one event a message", 60_000, 1000, per_message=1),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One case's result."""

    case: str
    per_second: float
    cpu: dict[str, float]
    """Microseconds for each event, by process."""
    memory: float
    """Megabytes of the worker at its end; 0 for inserts alone."""


def event(number: int, customers: int) -> UsageEvent:
    """Make an event that is like those of ingest."""
    return UsageEvent(
        id=uuid4(),
        project_id="proj_nCBo0AB7UWpj",
        email=f"customer{number % customers}@northwind.dev",
        metric="program quantify",
        quantity=Decimal(number) / 100,
        received_at=truncate(datetime.now(UTC)),
        source=Source.HTTP,
    )


@asynccontextmanager
async def database(stack: Devstack) -> AsyncIterator[Database]:
    """A database of this measurement's own."""
    async with AsyncMongoClient[dict[str, Any]](
        stack.database.uri, uuidRepresentation="standard", tz_aware=True
    ) as client:
        name = f"bench-{uuid4().hex[:12]}"
        yield client[name]
        await client.drop_database(name)


async def insert_alone(stack: Devstack, count: int) -> Stored:
    """The limit: the same documents by insert_many, a majority, journaled."""
    documents = [to_document(event(number, 1000)) for number in range(count)]
    processes = _servers(stack)
    async with database(stack) as found:
        await found["events"].create_index([("projectId", 1), ("email", 1), ("metric", 1), ("timestamp", 1)])
        collection = found.get_collection("events", write_concern=WriteConcern(w="majority", j=True))
        before, began = Clock.read(processes), time.monotonic()
        for start in range(0, count, BATCH):
            await collection.insert_many(documents[start : start + BATCH], ordered=False)
        seconds = time.monotonic() - began
        return Stored("insert_many alone", count / seconds, Clock.read(processes).microseconds_each(before, count), 0.0)


async def fill(amqp_url: str, case: Case) -> None:
    """Publish a case's events, confirmed."""
    publisher = Publisher(amqp_url, name="bench")
    running = asyncio.create_task(publisher.run())
    while not publisher.ready:
        await asyncio.sleep(0.02)
    starts = range(0, case.events, case.per_message)
    if case.per_message == 1:
        await _publish_singly(amqp_url, case)
    else:
        for first in range(0, len(starts), 8):
            await asyncio.gather(*(_publish(publisher, start, case) for start in starts[first : first + 8]))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _publish(publisher: Publisher, start: int, case: Case) -> None:
    await publisher.publish(
        [event(number, case.customers).to_wire() for number in range(start, start + case.per_message)]
    )


async def _publish_singly(amqp_url: str, case: Case) -> None:
    """As a producer without groups does it, many at a time."""
    import aio_pika  # noqa: PLC0415 - for this case only

    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("usage.direct", ensure=False)
        bodies = [event(number, case.customers).to_wire() for number in range(case.events)]
        for start in range(0, len(bodies), 1000):
            messages = [aio_pika.Message(body, delivery_mode=2) for body in bodies[start : start + 1000]]
            await asyncio.gather(*(exchange.publish(message, "events") for message in messages))


async def store(stack: Devstack, case: Case) -> Stored:
    """Fill the queue, start a worker, and take the time from its first stored event to its last."""
    await fill(stack.broker.url, case)
    async with database(stack) as found:
        worker = start_worker(stack, found.name)
        try:
            processes = {"worker": psutil.Process(worker.pid), **_servers(stack)}
            first = await _at_least(found, 1)
            before, began = Clock.read(processes), time.monotonic()
            await _at_least(found, case.events)
            seconds, cpu = time.monotonic() - began, Clock.read(processes)
            count = case.events - first
            return Stored(
                case.name, count / seconds, cpu.microseconds_each(before, count), megabytes(processes["worker"])
            )
        finally:
            worker.terminate()
            worker.wait(40)


def start_worker(stack: Devstack, name: str, *, admin_port: int | None = None) -> "subprocess.Popen[bytes]":
    """Start a worker process on a database of this name."""
    settings = {
        "WORKER_AMQP_URL": stack.broker.url,
        "WORKER_MONGODB_URI": stack.database.uri,
        "WORKER_MONGODB_DATABASE": name,
        "WORKER_ADMIN_PORT": str(admin_port or free_port()),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "worker"],
        env={**os.environ, **settings},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def _at_least(found: Database, count: int) -> int:
    while (stored := await found["events"].estimated_document_count()) < count:
        await asyncio.sleep(0.01)
    return stored


def _servers(stack: Devstack) -> dict[str, psutil.Process]:
    services: Sequence[tuple[str, Any]] = (("broker", stack.broker), ("database", stack.database))
    return {name: service.server for name, service in services if isinstance(service, LocalService)}


def summary(limit: list[Stored], stored: list[Stored]) -> list[dict[str, Any]]:
    """The best of the limit's runs, and each case beside it."""
    best = max(one.per_second for one in limit)
    rows = [("insert_many alone", max(limit, key=lambda one: one.per_second))]
    for name in dict.fromkeys(one.case for one in stored):
        runs = sorted((one for one in stored if one.case == name), key=lambda one: one.per_second)
        rows.append((name, runs[len(runs) // 2]))
    return [
        {
            "case": name,
            "events/s": one.per_second,
            "of insert_many": one.per_second / best,
            "worker us": one.cpu.get("worker", 0.0),
            "database us": one.cpu.get("database", 0.0),
            "broker us": one.cpu.get("broker", 0.0),
            "MB": one.memory,
        }
        for name, one in rows
    ]
