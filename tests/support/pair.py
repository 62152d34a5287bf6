"""Ingest with worker, the real two, on a real broker with a real database."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from tests.support.processes import Process, running

EXAMPLE_PROJECT = "proj_nCBo0AB7UWpj"
EXAMPLE = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}


@dataclass
class Site:
    """Where one test's processes connect, and where they log."""

    amqp_url: str
    mongodb_uri: str
    database: str
    directory: Path
    ingest_settings: dict[str, str] = field(default_factory=dict)
    worker_settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for both that are not settings of ours."""
    launcher: tuple[str, ...] = ()
    """The module that starts the processes, with its arguments, instead of their own."""

    def ingest(self, name: str = "ingest", **settings: str) -> Process:
        """An ingest process on a free port, not yet started; settings are named without their prefix, lower case."""
        environment = self._environment("INGEST", self.ingest_settings, settings)
        return Process("ingest", environment, self._log(name), launcher=self.launcher)

    def worker(self, name: str = "worker", **settings: str) -> Process:
        """A worker process, not yet started."""
        return Process("worker", self._of_worker(settings), self._log(name), launcher=self.launcher)

    def audit(self, name: str = "audit", *, wait: float = 10) -> Process:
        """The command that checks the books, not yet started; messages may be under way for `wait` seconds."""
        return Process("worker", self._of_worker({}), self._log(name), arguments=("audit", "--wait", f"{wait:g}"))

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _of_worker(self, settings: dict[str, str]) -> dict[str, str]:
        defaults = {"mongodb_uri": self.mongodb_uri, "mongodb_database": self.database, "log_level": "DEBUG"}
        return self._environment("WORKER", {**defaults, **self.worker_settings}, settings)

    def _environment(self, prefix: str, defaults: dict[str, str], settings: dict[str, str]) -> dict[str, str]:
        shared = {"amqp_url": self.amqp_url, "admin_port": "0", "host": "127.0.0.1", "port": "0"}
        ours = {f"{prefix}_{name.upper()}": value for name, value in {**shared, **defaults, **settings}.items()}
        return {**self.environment, **ours}


@dataclass
class Pair:
    """Both processes, ready."""

    site: Site
    ingest: Process
    worker: Process
    url: str = ""
    """The base of ingest's public port."""
    _workers: int = 1

    async def ready(self) -> None:
        """Wait until records can be posted and are stored."""
        self.url = await public_url(self.ingest)
        await self.worker.logged("consuming")

    async def replace_worker(self) -> None:
        """SIGKILL the worker, and start another at once, as a supervisor would."""
        await self.worker.kill()
        self._workers += 1
        self.worker = await self.site.worker(f"worker-{self._workers}").start()

    def usage_url(self, project: str = EXAMPLE_PROJECT) -> str:
        return f"{self.url}/api/billing/public/projects/{project}/usage"


async def public_url(ingest: Process) -> str:
    """Wait until ingest listens and the broker answers it."""
    address = await ingest.logged(r'"address": "(http://[^"]+)"')
    await ingest.logged("broker ready")
    return address[1]


@asynccontextmanager
async def consuming(site: Site, name: str = "worker", **settings: str) -> AsyncIterator[Process]:
    """A worker that consumes, for the length of a block."""
    async with running(site.worker(name, **settings)) as worker:
        await worker.logged("consuming")
        yield worker


@asynccontextmanager
async def running_pair(site: Site) -> AsyncIterator[Pair]:
    """Both processes for the length of a block; they must have logged no error by its end."""
    pair = Pair(site, await site.ingest().start(), await site.worker().start())
    try:
        await pair.ready()
        yield pair
        for process in (pair.ingest, pair.worker):
            assert '"level": "error"' not in process.text, process.text
            assert "Traceback" not in process.text, process.text
    finally:
        await pair.ingest.close()
        await pair.worker.close()
        await end_transactions(site.mongodb_uri)


async def end_transactions(uri: str) -> None:
    """End those that killed workers left open: whoever drops the database would wait for them, a minute or more."""
    async with AsyncMongoClient[dict[str, Any]](uri, timeoutMS=2000) as client:
        with contextlib.suppress(PyMongoError):  # it is away, and with it every transaction
            await client.admin.command("killAllSessions", [])
