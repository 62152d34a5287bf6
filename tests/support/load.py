"""Clients that send each record until it is confirmed, whatever breaks meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from contract import topology
from contract.cancellation import end
from contract.connection import BrokerMisconfigured, BrokerUnavailable, connect, translated
from contract.event import Unacceptable
from contract.producer import UsageProducer
from contract.publisher import NotConfirmed, Refused
from tests.support.books import Books, Numbered, Way

RETRY_SECONDS = 0.02
PATIENCE = 90.0
"""Seconds in which the last record of every client must be confirmed, once the load is over."""
HASTY_EVERY = 25
"""So often a client hangs up before it can be answered, and sends the same again."""
HASTE = aiohttp.ClientTimeout(total=0.004)
PATIENT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class Crowd:
    """How many clients of each kind work at once, and how they work."""

    singles: int = 0
    batches: int = 0
    direct: int = 0
    """Producers that know nothing of ours: plain messages, no stamps."""
    producers: int = 0
    """Tasks that share one `UsageProducer`."""
    records: int = 50
    """In each batch, or message of a direct producer."""
    pace: float = 0.0
    """Seconds between two sends of one client."""
    good: bool = False
    """Whether nobody sends what breaks a rule, or hangs up."""


MIXED = Crowd(singles=8, batches=2, direct=1, producers=4, pace=0.02)


@dataclass
class Load:
    """The clients' shared state."""

    url: str
    amqp_url: str
    books: Books
    crowd: Crowd
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_stopped(self, send: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping.is_set():
            await send()
            if self.crowd.pace:
                await asyncio.sleep(self.crowd.pace)

    def draw(self, way: Way) -> Numbered:
        return self.books.draw_good(way) if self.crowd.good else self.books.draw(way)

    def draw_many(self, way: Way) -> list[Numbered]:
        return [self.draw(way) for _ in range(self.crowd.records)]


@asynccontextmanager
async def load(url: str, amqp_url: str, crowd: Crowd = MIXED, books: Books | None = None) -> AsyncIterator[Books]:
    """Keep the clients at work for the length of a block; on leaving, each goes on until its last is confirmed."""
    work = Load(url, amqp_url, books or Books(), crowd)
    groups = [(_singles, crowd.singles), (_batches, crowd.batches), (_direct, crowd.direct), (_producers, 1)]
    tasks = [asyncio.create_task(client(work)) for client, number in groups for _ in range(number)]
    try:
        yield work.books
        work.stopping.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    finally:
        await end(*tasks)


@asynccontextmanager
async def clients(url: str, *, count: int = 20) -> AsyncIterator[Books]:
    """Post good records with this many clients at once."""
    async with load(url, "", Crowd(singles=count, good=True)) as books:
        yield books


async def _singles(work: Load) -> None:
    async with aiohttp.ClientSession() as http:
        await work.until_stopped(lambda: _single(http, work))


async def _single(http: aiohttp.ClientSession, work: Load) -> None:
    record = work.draw(Way.SINGLE)
    if not work.crowd.good and record.number // len(Way) % HASTY_EVERY == 1:
        await _post(http, _address(work.url, work.books), record.to_record(), work.books, HASTE)
    await post_one(http, work.url, work.books, record)


async def _batches(work: Load) -> None:
    async with aiohttp.ClientSession() as http:
        await work.until_stopped(lambda: _post_batch(http, work.url, work.books, work.draw_many(Way.BATCH)))


async def post_one(http: aiohttp.ClientSession, url: str, books: Books, record: Numbered) -> None:
    """Post one record until it is answered for good, as a client that wants to be billed right would."""
    await _until_answered(http, _address(url, books), record.to_record(), books, 400 if record.is_bad else 200)
    (books.refuse if record.is_bad else books.confirm)(record)


async def _post_batch(http: aiohttp.ClientSession, url: str, books: Books, records: list[Numbered]) -> None:
    """Post a batch, unchanged each time, until it is answered for good."""
    address = _address(url, books) + "/batch"
    report = await _until_answered(http, address, {"events": [one.to_record() for one in records]}, books, 200)
    bad = {error["index"] for error in report["errors"]}
    assert bad == {index for index, record in enumerate(records) if record.is_bad}, report
    for record in records:
        (books.refuse if record.is_bad else books.confirm)(record)


def _address(url: str, books: Books) -> str:
    return f"{url}/api/billing/public/projects/{books.project}/usage"


async def _until_answered(
    http: aiohttp.ClientSession, address: str, body: dict[str, Any], books: Books, wanted: int
) -> Any:
    while True:
        status, answer = await _post(http, address, body, books)
        if status == wanted:
            return json.loads(answer)
        assert status in {0, 503}, (status, answer)
        await asyncio.sleep(RETRY_SECONDS)


async def _post(
    http: aiohttp.ClientSession,
    address: str,
    body: dict[str, Any],
    books: Books,
    limit: aiohttp.ClientTimeout = PATIENT,
) -> tuple[int, bytes]:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with http.post(address, json=body, timeout=limit) as response:
            status, answer = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as exc:
        status, answer = 0, b""
        if not isinstance(exc, (aiohttp.ClientConnectorError, TimeoutError)):
            books.broken_at.append(datetime.now(UTC))
    books.statuses[status] += 1
    books.slowest = max(books.slowest, loop.time() - begun)
    return status, answer


async def _direct(work: Load) -> None:
    """Publish messages with the library alone, each again until it is confirmed."""
    unsent: list[list[Numbered]] = []

    async def send() -> None:
        unsent[:] = unsent or [work.draw_many(Way.DIRECT)]
        await _publish(channel, work.books, unsent[0])
        unsent.clear()

    while unsent or not work.stopping.is_set():
        try:
            async with connect(work.amqp_url, name="direct-producer") as connection:
                channel = await connection.driver_channel()
                if unsent:
                    await send()
                await work.until_stopped(send)
        except (BrokerUnavailable, BrokerMisconfigured):
            await asyncio.sleep(RETRY_SECONDS)


async def _publish(channel: AbstractChannel, books: Books, records: list[Numbered]) -> None:
    body = json.dumps([record.to_event() for record in records]).encode()
    with translated():
        await channel.basic_publish(
            body,
            exchange=topology.DIRECT_EXCHANGE,
            routing_key=topology.ROUTING_KEY,
            properties=Basic.Properties(content_type="application/json", delivery_mode=2),
            mandatory=True,
            timeout=5,
        )
    for record in records:
        books.confirm(record)


async def _producers(work: Load) -> None:
    if not work.crowd.producers:
        return
    async with UsageProducer(work.amqp_url, patience=5) as usage, asyncio.TaskGroup() as tasks:
        for _ in range(work.crowd.producers):
            tasks.create_task(work.until_stopped(lambda: _record(usage, work.books, work.draw(Way.PRODUCER))))


async def _record(usage: UsageProducer, books: Books, record: Numbered) -> None:
    given = record.to_record()
    while True:
        try:
            await usage.record(
                books.project,
                given["email"],
                record.metric,
                record.quantity,
                idempotency_key=record.key,
                timestamp=record.timestamp,
                properties=record.properties,
            )
        except Unacceptable:
            assert record.is_bad
            return books.refuse(record)
        except (BrokerUnavailable, Refused, NotConfirmed):
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return books.confirm(record)
