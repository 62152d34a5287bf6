"""Ingest with a worker behind it, on a database of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from bench.checks import audited
from bench.subjects import OURS, running
from bench.workers import Database, database, servers, working
from devstack import Devstack


@dataclass(frozen=True, slots=True)
class System:
    """What runs, and where it is reached."""

    stack: Devstack
    url: str
    """Where single records are posted."""
    database: Database
    processes: Mapping[str, psutil.Process]
    """Ingest, worker; broker and database, if they are processes of this machine."""

    @property
    def port(self) -> int:
        """Of ingest."""
        return urlsplit(self.url).port or 80


@asynccontextmanager
async def system(
    stack: Devstack, *, ingest: Mapping[str, str] | None = None, worker: Mapping[str, str] | None = None
) -> AsyncIterator[System]:
    """Run both, with these settings, for the length of a block; then the books must balance. Raises Lost."""
    async with database(stack) as found:
        with working(stack, found.name, worker) as worker_process:
            with running(OURS, stack.broker.url, ingest) as (url, ingest_process):
                processes = {"ingest": ingest_process, "worker": worker_process, **servers(stack)}
                yield System(stack, url, found, processes)
            # While the worker runs: it has yet to take what ingest says at its end.
            await audited(stack, found.name)
