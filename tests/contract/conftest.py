"""Fixtures that live as long as a module: what the contract tests ask does not change the process that answers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from devstack import Devstack
from ingest.admission import BESIDE_BODY
from tests.contract.live import Ingest, Tap, running_ingest, without_errors
from tests.support.pair import Pair, Site, consuming, running_pair
from tests.support.queue import Queue

NARROW = str(70_000 + 2 * BESIDE_BODY)


@pytest.fixture(scope="module")
async def fresh_broker(stack: Devstack) -> str:
    """The broker's URL, once its queues are empty; nothing resets them before the module's end."""
    url = await asyncio.to_thread(lambda: stack.broker.url)
    await Queue(url).reset()
    return url


@pytest.fixture(scope="module")
async def tap(fresh_broker: str) -> AsyncIterator[Tap]:
    tap = Tap()
    connection = await aio_pika.connect(fresh_broker)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.QUEUE)

        async def note(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            tap.bodies.append(message.body)

        await queue.consume(note, no_ack=True)
        yield tap


@pytest.fixture(scope="module")
async def lasting_pair(
    stack: Devstack, fresh_broker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Ingest and worker, with a database of the module's own."""
    uri = await asyncio.to_thread(lambda: stack.database.uri)
    site = Site(fresh_broker, uri, f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("pair"))
    async with running_pair(site) as pair:
        yield pair
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        await client.drop_database(site.database)


@pytest.fixture(scope="module")
async def worked_database(
    stack: Devstack, fresh_broker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """What a worker stores as long as the module runs; it must log no error."""
    uri = await asyncio.to_thread(lambda: stack.database.uri)
    site = Site(fresh_broker, uri, f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("worker"))
    async with (
        consuming(site) as worker,
        AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", tz_aware=True) as client,
    ):
        async with without_errors(worker):
            yield client[site.database]
        await client.drop_database(site.database)


@pytest.fixture(scope="module")
async def running(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    async with running_ingest(fresh_broker, tmp_path_factory, "ingest") as ingest:
        yield ingest


@pytest.fixture(scope="module")
async def running_impatient(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    limits = {"body_timeout": "1", "head_timeout": "1", "max_waiting_bytes": NARROW}
    async with running_ingest(fresh_broker, tmp_path_factory, "impatient", limits) as ingest:
        yield ingest


@pytest.fixture(scope="module")
async def running_narrow(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    limits = {"body_timeout": "60", "max_waiting_bytes": NARROW}
    async with running_ingest(fresh_broker, tmp_path_factory, "narrow", limits) as ingest:
        yield ingest


@pytest.fixture(scope="module")
async def lonely(tmp_path_factory: pytest.TempPathFactory, unused_port: int) -> AsyncIterator[Ingest]:
    """An ingest process that has never seen its broker, though it may wait a minute for it."""
    url = f"amqp://guest:guest@127.0.0.1:{unused_port}/"
    async with running_ingest(url, tmp_path_factory, "lonely", {"deadline": "60"}, connected=False) as ingest:
        yield ingest


@pytest.fixture(scope="module")
def unused_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody will: it is bound."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture
async def ingest(running: Ingest) -> AsyncIterator[Ingest]:
    """Ingest with its default limits; no test may make it log an error."""
    async with without_errors(running.process):
        yield running


@pytest.fixture
async def impatient(running_impatient: Ingest) -> AsyncIterator[Ingest]:
    """Ingest that waits a second for a head or a body, and holds 70,000 bytes."""
    async with without_errors(running_impatient.process):
        yield running_impatient


@pytest.fixture
async def narrow(running_narrow: Ingest) -> AsyncIterator[Ingest]:
    """Ingest that holds 70,000 bytes, too, but waits a minute for a body."""
    async with without_errors(running_narrow.process):
        yield running_narrow


@pytest.fixture(scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session
