"""How fast records are taken: ours, the limit and the peers in turn, several rounds."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.checks import audited, drained
from bench.cost import Clock, Watch
from bench.load import Load, run_wrk
from bench.options import Options
from bench.subjects import BARE, OURS, Subject, all_subjects, running
from bench.workers import database, servers, working
from devstack import Devstack

WARM_UP: Final = 1.0
BATCH: Final = 100
CONNECTIONS: Final = {1: 64, BATCH: 8}
"""By the number of records in a request."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One subject's round."""

    round: int
    subject: str
    records: int
    """In one request."""
    load: Load
    answered: int
    """Records that were answered for, those of the warming-up too."""
    cpu: dict[str, float]
    """Microseconds for each record, by process."""
    memory: float
    """The most megabytes."""


async def measure(stack: Devstack, options: Options) -> dict[str, Any]:
    """Measure all in turn, so that what else the machine does hits each alike; have ours stored. Raises Lost."""
    taken = []
    for number in range(options.rounds):
        taken += await asyncio.to_thread(_round, stack, number, options.seconds)
    await _check(stack, taken)
    return {"taken": [asdict(one) for one in taken]}


def _round(stack: Devstack, number: int, seconds: float) -> list[Taken]:
    taken = []
    for subject in all_subjects():
        taken.append(_take(stack, number, subject, seconds, 1))
        if subject.queue is not None:
            stack.broker.ctl("purge_queue", subject.queue)
    return taken + [_take(stack, number, subject, seconds, BATCH) for subject in (BARE, OURS)]


def _take(stack: Devstack, number: int, subject: Subject, seconds: float, records: int) -> Taken:
    with running(subject, stack.broker.url) as (url, process):
        address = url if records == 1 else f"{url}/batch"
        processes = {"service": process, **servers(stack)}
        connections = CONNECTIONS[records]
        with Watch({"service": process}) as memory:
            warm_up = run_wrk(address, seconds=WARM_UP, records=records, connections=connections)
            before = Clock.read(processes)
            load = run_wrk(address, seconds=seconds, records=records, connections=connections)
            cpu = Clock.read(processes).microseconds_each(before, load.answered * records)
    answered = (warm_up.answered + load.answered) * records
    return Taken(number, subject.name, records, load, answered, cpu, memory.peaks["service"])


async def _check(stack: Devstack, taken: Iterable[Taken]) -> None:
    """Have a worker store what we answered with 200, and count."""
    answered = sum(one.answered for one in taken if one.subject == OURS.name)
    async with database(stack) as found:
        with working(stack, found.name):
            await drained(found, answered)
            await audited(stack, found.name)
