"""Is everything stored that was answered for? A fast service that loses events is worth nothing."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import Final
from uuid import UUID

from bench.subjects import ROOT
from bench.workers import Database, environment
from devstack import Devstack

STALLED: Final = 60.0
"""Seconds without a newly stored event after which those that are missing are lost."""
LOOK_EVERY: Final = 0.02
SETTLED: Final = 0.5
"""Seconds without a newly stored event after which nothing more is on its way."""
IDS_AT_ONCE: Final = 5000


class Lost(Exception):
    """What was answered with 200 is not stored: nothing else that was measured matters."""


async def drained(found: Database, answered: int, *, before: int = 0) -> tuple[int, float]:
    """Wait until at least so many more events than `before` are stored, and nothing more comes.

    How many there are more, and when, by the monotonic clock, the last had come. Raises Lost.
    """
    stored, since = -1, time.monotonic()
    while time.monotonic() - since <= (SETTLED if stored >= answered else STALLED):
        seen = int(await found["events"].estimated_document_count()) - before
        if seen != stored:
            stored, since = seen, time.monotonic()
        await asyncio.sleep(LOOK_EVERY)
    if stored < answered:
        raise Lost(f"{answered} events were answered with 200, {stored} are stored")
    return stored, since


async def all_stored(found: Database, ids: Iterable[UUID]) -> int:
    """Look for each of these events; how many there are. Raises Lost."""
    remaining, count = iter(ids), 0
    while part := list(islice(remaining, IDS_AT_ONCE)):
        query = found["events"].find({"_id": {"$in": part}}, {"_id": 1}).batch_size(IDS_AT_ONCE)
        missing = set(part) - {document["_id"] for document in await query.to_list()}
        if missing:
            raise Lost(f"{len(missing)} events that were answered with 200 are not stored, one of them {missing.pop()}")
        count += len(part)
    return count


async def audited(stack: Devstack, name: str) -> None:
    """Have the books checked; raises Lost when they do not balance."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "worker", "audit"],
        env=environment(stack, name),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Lost(f"the audit exits with {done.returncode}:\n{done.stdout}{done.stderr}")
