"""One load on the whole pipeline, at a fixed rate: what it does to latency, lag, CPU and memory."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from bench.arrivals import Plan
from bench.checks import all_stored, drained
from bench.cost import Clock, Watch
from bench.lag import LagSampler
from bench.offer import OK, Offered, offer
from bench.stats import percentile
from bench.subjects import PATH
from bench.system import System

SAMPLES: Final = 50
"""Events a second whose way into the database is followed."""
KEPT_UP: Final = 1.0
"""A load was kept up with when everything is stored so many seconds after the last request was due."""


@dataclass(frozen=True, slots=True)
class Level:
    """What came of one load."""

    records: int
    """In one request."""
    offered: float
    """Events a second."""
    seconds: float
    accepted: int
    """Events that were answered for with 200, each of which was found in the database."""
    statuses: dict[str, int]
    """How many requests were answered with each status; "0" stands for none."""
    unsent: int
    """Requests that no connection was free for."""
    p50: float
    """Milliseconds from when a request was due to its answer."""
    p99: float
    lag_p50: float
    """Seconds from the 200 to when a reader finds the event."""
    lag_p99: float
    behind: float
    """Seconds from when the last request was due to the last stored event."""
    through: float
    """Events a second, from the first request to the last stored event."""
    cpu: dict[str, float]
    """Microseconds for each event, by process; `load` is what sends the requests."""
    memory: dict[str, float]
    """The most megabytes of each process."""
    kept_up: bool
    """Whether no queue grew, neither of requests nor of messages, and nothing was refused."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A level, with what it was made of."""

    level: Level
    offered: Offered
    lags: Sequence[tuple[float, float]]
    """Seconds from the start at which an event was answered for, and its lag in seconds."""


def plan_of(system: System, records: int, phases: Sequence[tuple[float, float]]) -> Plan:
    """Plan a load of phases in events a second, each for so many seconds."""
    address = PATH if records == 1 else f"{PATH}/batch"
    usual = phases[0][0] / records
    return Plan(
        port=system.port,
        path=address,
        records=records,
        phases=[(rate / records, seconds) for rate, seconds in phases],
        key=uuid4().hex,
        output="",
        report_every=max(1, int(usual / SAMPLES)),
    )


async def level(system: System, records: int, rate: float, seconds: float) -> Level:
    """Offer so many events a second. Raises Lost."""
    return (await watch(system, plan_of(system, records, [(rate, seconds)]))).level


async def watch(system: System, plan: Plan) -> Watched:
    """Carry out a plan, wait for the last event to be stored, and look for each. Raises Lost."""
    sampler = LagSampler(system.database)
    before = int(await system.database["events"].estimated_document_count())
    clock = Clock.read(system.processes)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Watch(system.processes) as memory:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sampler.run())
            offered = await offer(replace(plan, output=str(Path(directory) / "requests")), sampler)
            sampler.finish()
        _, stored_at = await drained(system.database, offered.events, before=before)
        cpu = Clock.read(system.processes).since(clock) | {"load": offered.cpu}
    await all_stored(system.database, offered.ids())
    lags = [(at - offered.began, lag) for at, lag in sampler.lags]
    result = _level(offered, [lag for _, lag in lags], cpu, memory.peaks, ended=stored_at - offered.began)
    return Watched(result, offered, lags)


def _level(
    offered: Offered, lags: Sequence[float], cpu: dict[str, float], memory: dict[str, float], *, ended: float
) -> Level:
    plan = offered.plan
    seconds = sum(length for _, length in plan.phases)
    behind = max(0.0, ended - seconds)
    latencies = [request.since_due for request in offered.accepted]
    return Level(
        records=plan.records,
        offered=len(plan.due_times()) * plan.records / seconds,
        seconds=seconds,
        accepted=offered.events,
        statuses={str(status): count for status, count in sorted(offered.statuses.items())},
        unsent=len(offered.unsent),
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        lag_p50=percentile(lags, 0.5),
        lag_p99=percentile(lags, 0.99),
        behind=behind,
        through=offered.events / (seconds + behind),
        cpu={name: spent / max(1, offered.events) * 1e6 for name, spent in cpu.items()},
        memory=memory,
        kept_up=behind <= KEPT_UP and not offered.unsent and set(offered.statuses) == {OK},
    )
