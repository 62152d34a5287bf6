"""A worker of this measurement's own, on a database of its own."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import uuid4

import psutil
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from bench.subjects import ROOT
from devstack import Devstack
from devstack.local import LocalService
from devstack.ports import free_port

STOP_LIMIT: Final = 40.0
"""Seconds; longer than a worker's own drain timeout."""

Database = AsyncDatabase[dict[str, Any]]


@asynccontextmanager
async def database(stack: Devstack) -> AsyncIterator[Database]:
    """A database that is gone afterwards."""
    async with AsyncMongoClient[dict[str, Any]](
        stack.database.uri, uuidRepresentation="standard", tz_aware=True
    ) as client:
        name = f"bench-{uuid4().hex[:12]}"
        yield client[name]
        await client.drop_database(name)


def environment(stack: Devstack, name: str) -> dict[str, str]:
    """What a worker, or one of its tools, is told."""
    return {
        **os.environ,
        "WORKER_AMQP_URL": stack.broker.url,
        "WORKER_MONGODB_URI": stack.database.uri,
        "WORKER_MONGODB_DATABASE": name,
        "WORKER_ADMIN_PORT": str(free_port()),
    }


@contextmanager
def working(stack: Devstack, name: str, settings: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    """Run a worker for the length of a block."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        env=environment(stack, name) | dict(settings or {}),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(worker.pid)
    finally:
        worker.terminate()
        worker.wait(STOP_LIMIT)


def servers(stack: Devstack) -> dict[str, psutil.Process]:
    """Broker and database where they are processes of this machine; all that Erlang runs is one of them."""
    services: tuple[tuple[str, Any], ...] = (("broker", stack.broker), ("database", stack.database))
    return {name: service.server for name, service in services if isinstance(service, LocalService)}
