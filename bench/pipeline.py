"""From the request to the stored event: everything on, everything checked."""

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench.cost import megabytes
from bench.load import run_wrk
from bench.storing import database, start_worker
from bench.subjects import OURS, ROOT, running
from devstack import Devstack
from devstack.ports import free_port

BATCH: Final = 100
DRAIN_LIMIT: Final = 120.0


class Lost(Exception):
    """What was answered with 200 is not stored: nothing else that was measured matters."""


@dataclass(frozen=True, slots=True)
class Through:
    """What went through the whole pipeline."""

    what: str
    answered: int
    stored: int
    events_per_second: float
    """From the first request to the last stored event."""
    lag: float
    """Seconds: 99 of 100 messages were stored sooner after their receipt, to the resolution of the histogram."""
    ingest: float
    """Megabytes at the end."""
    worker: float
    """Megabytes at the end."""


async def through(stack: Devstack, what: str, *, seconds: float, connections: int, records: int = BATCH) -> Through:
    """Post batches while a worker stores them. Raises Lost."""
    admin_port = free_port()
    async with database(stack) as found:
        worker = start_worker(stack, found.name, admin_port=admin_port)
        try:
            with running(OURS, stack.broker.url) as (url, ingest):
                began = time.monotonic()
                address = url if records == 1 else f"{url}/batch"
                load = await asyncio.to_thread(
                    run_wrk, address, seconds=seconds, records=records, connections=connections
                )
                memory = megabytes(ingest)
            answered = load.answered * records
            stored = await drained(found, answered)
            elapsed = time.monotonic() - began
            result = Through(
                what,
                answered,
                stored,
                stored / elapsed,
                _lag(admin_port),
                memory,
                megabytes(psutil.Process(worker.pid)),
            )
        finally:
            worker.terminate()
            worker.wait(40)
        _audit(stack, found.name)
        return result


async def drained(found: Any, answered: int) -> int:
    """Wait until nothing more arrives; how much has."""
    limit, before = time.monotonic() + DRAIN_LIMIT, -1
    while True:
        stored = int(await found["events"].estimated_document_count())
        if stored >= answered and stored == before:
            return stored
        if time.monotonic() > limit:
            raise Lost(f"{answered} events were answered with 200, {stored} are stored")
        before = stored
        await asyncio.sleep(0.5)


def _lag(admin_port: int) -> float:
    """The bound of the histogram's bucket that 99 of 100 fall into."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=5) as response:
        text = response.read().decode()
    buckets = [
        (float(bound), float(count)) for bound, count in re.findall(r'usage_lag_seconds_bucket{le="(\S+)"} (\S+)', text)
    ]
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= 0.99 * total)


def _audit(stack: Devstack, name: str) -> None:
    """The books must balance, too."""
    environment = {
        **os.environ,
        "WORKER_AMQP_URL": stack.broker.url,
        "WORKER_MONGODB_URI": stack.database.uri,
        "WORKER_MONGODB_DATABASE": name,
    }
    done = subprocess.run(
        [sys.executable, "-m", "worker", "audit"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Lost(f"the audit exits with {done.returncode}:\n{done.stdout}{done.stderr}")


def summary(results: list[Through]) -> list[dict[str, Any]]:
    """One row for each."""
    return [
        {
            "load": one.what,
            "events/s": one.events_per_second,
            "lag p99 s": one.lag,
            "answered 200": one.answered,
            "stored": one.stored,
            "ingest MB": one.ingest,
            "worker MB": one.worker,
        }
        for one in results
    ]
