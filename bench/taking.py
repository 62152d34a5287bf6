"""How fast records are taken: ours, the limit and the peers in turn, several rounds, medians."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil

from bench.cost import Clock, megabytes
from bench.load import Load, run_wrk
from bench.subjects import BARE, OURS, Subject, all_subjects, running
from devstack import Devstack
from devstack.local import LocalService

WARM_UP = 1.0
BATCH = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """One subject's round."""

    subject: str
    records: int
    """In one request."""
    load: Load
    cpu: dict[str, float]
    """Microseconds for each record, by process."""
    memory: float
    """Megabytes, at the end."""


def measure(subject: Subject, stack: Devstack, *, seconds: float, records: int = 1) -> Taken:
    """Run one round."""
    with running(subject, stack.broker.url) as (url, process):
        address = url if records == 1 else f"{url}/batch"
        connections = 64 if records == 1 else 8
        run_wrk(address, seconds=WARM_UP, records=records, connections=connections)
        processes = {"service": process, **_servers(stack)}
        before = Clock.read(processes)
        load = run_wrk(address, seconds=seconds, records=records, connections=connections)
        cpu = Clock.read(processes).microseconds_each(before, load.answered * records)
        memory = megabytes(process)
    return Taken(subject.name, records, load, cpu, memory)


def _servers(stack: Devstack) -> dict[str, psutil.Process]:
    service = stack.broker
    return {"broker": service.server} if isinstance(service, LocalService) else {}


def rounds(stack: Devstack, *, count: int, seconds: float) -> list[Taken]:
    """Measure all in turn, so that what else the machine does hits each alike."""
    taken = []
    for _ in range(count):
        for subject in all_subjects():
            taken.append(measure(subject, stack, seconds=seconds))
            if subject.queue is not None:
                stack.broker.ctl("purge_queue", subject.queue)
        taken += [measure(subject, stack, seconds=seconds, records=BATCH) for subject in (BARE, OURS)]
    return taken


def answered_by_us(taken: Iterable[Taken]) -> int:
    """How many records we answered with 200, in what was measured."""
    return sum(one.load.answered * one.records for one in taken if one.subject == OURS.name)


def summary(taken: list[Taken]) -> list[dict[str, Any]]:
    """Medians over the rounds, with the ratio to the limit."""
    rows = []
    for records in (1, BATCH):
        mine = [one for one in taken if one.records == records]
        limit = median(one.load.per_second for one in mine if one.subject == BARE.name)
        for name in dict.fromkeys(one.subject for one in mine):
            runs = [one for one in mine if one.subject == name]
            rate = median(one.load.per_second for one in runs)
            rows.append(
                {
                    "subject": name,
                    "records": records,
                    "requests/s": rate,
                    "records/s": rate * records,
                    "of bare": rate / limit,
                    "p50 ms": median(one.load.p50 for one in runs),
                    "p99 ms": median(one.load.p99 for one in runs),
                    "refused": sum(one.load.refused for one in runs),
                    "service us": median(one.cpu["service"] for one in runs),
                    "broker us": median(one.cpu.get("broker", 0.0) for one in runs),
                    "MB": max(one.memory for one in runs),
                }
            )
    return rows


def details(taken: list[Taken]) -> list[dict[str, Any]]:
    """Every round, as plain data."""
    return [asdict(one) for one in taken]


def now() -> str:
    """The time of a measurement."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
