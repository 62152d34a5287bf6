"""Fixtures of the real services: one broker and one database for the whole run, clean for each test."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from devstack.proxy import Proxy
from tests.support.deployment import proxy_of
from tests.support.pair import Pair, Site, running_pair
from tests.support.queue import Queue

# Machines are shared: how long an example takes says nothing of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# A tenth of what each start of a process of ours takes, for nothing that is tested: importing aiohttp reads the
# certificates of all authorities, and pydantic looks for plugins among all that is installed.
os.environ |= {"SSL_CERT_FILE": os.devnull, "PYDANTIC_DISABLE_PLUGINS": "__all__"}


@pytest.fixture(scope="session")
def stack() -> Iterator[Devstack]:
    with Devstack() as devstack:
        yield devstack


@pytest.fixture
async def queue(stack: Devstack) -> Queue:
    """The broker, with empty queues."""
    url = await asyncio.to_thread(lambda: stack.broker.url)
    queue = Queue(url)
    await queue.reset()
    return queue


@pytest.fixture
async def proxy(stack: Devstack, queue: Queue) -> AsyncIterator[Proxy]:
    """A way to the broker that can be broken."""
    del queue  # asked for only to be empty
    async with proxy_of(stack.broker.url) as proxy:
        yield proxy


@pytest.fixture
async def database(stack: Devstack) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """An empty database of the test's own."""
    uri = await asyncio.to_thread(lambda: stack.database.uri)
    async with AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", tz_aware=True) as client:
        name = f"test-{uuid4().hex[:12]}"
        yield client[name]
        await client.drop_database(name)


@pytest.fixture
def site(stack: Devstack, queue: Queue, database: AsyncDatabase[dict[str, Any]], tmp_path: Path) -> Site:
    """Where this test's processes connect."""
    del queue  # asked for only to be empty
    return Site(stack.broker.url, stack.database.uri, database.name, tmp_path)


@pytest.fixture
def default_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The ports that are used where none is set, for one test at a time of those that run side by side."""
    with (tmp_path_factory.getbasetemp().parent / "default-ports").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
async def pair(site: Site) -> AsyncIterator[Pair]:
    """Ingest and worker, running and ready."""
    async with running_pair(site) as pair:
        yield pair


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
