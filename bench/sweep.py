"""What each setting is worth: several values of one, with all others at their defaults."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from bench.levels import level
from bench.load import run_wrk
from bench.options import Options
from bench.storing import THOUSAND, store
from bench.subjects import OURS, running
from bench.system import system
from bench.workers import database
from devstack import Devstack
from ingest.settings import Settings as IngestSettings
from worker.settings import Settings as WorkerSettings

CROWD: Final = 1000
"""Connections that fill a group: each has one record under way."""
EVENTS: Final = 100_000
QUIET: Final = 2000.0
"""Events a second, in single records, at which a batch waits for more."""


@dataclass(frozen=True, slots=True)
class Run:
    """One value's round."""

    round: int
    value: float
    per_second: float
    """Events."""
    latency: float | None
    """Milliseconds of 99 in 100: of a request, or from the 200 to the stored event; None where neither matters."""
    cpu: float
    """Microseconds for each event, of the process that is set."""


Figures = tuple[float, float | None, float]
"""Events a second, latency and CPU, as in a run."""
Measure = Callable[[Devstack, dict[str, str], Options], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, the values that are tried beside its default, and what shows the difference."""

    name: str
    others: Sequence[float]
    load: str
    measure: Measure

    @property
    def default(self) -> float:
        """What it is when nobody sets it."""
        process, _, field = self.name.lower().partition("_")
        model = IngestSettings if process == "ingest" else WorkerSettings
        value: float = model.model_fields[field].default
        return value

    @property
    def values(self) -> list[float]:
        """All that are tried, in order."""
        return sorted({*self.others, self.default})


async def _take(stack: Devstack, settings: dict[str, str], seconds: float, connections: int) -> Figures:
    with running(OURS, stack.broker.url, settings) as (url, process):
        await asyncio.to_thread(run_wrk, url, seconds=1.0, connections=connections)
        before = process.cpu_times()
        load = await asyncio.to_thread(run_wrk, url, seconds=seconds, connections=connections)
        after = process.cpu_times()
    stack.broker.ctl("purge_queue", "usage.events")
    spent = after.user + after.system - before.user - before.system
    return load.per_second, load.p99, spent / max(1, load.answered) * 1e6


async def _few(stack: Devstack, settings: dict[str, str], options: Options) -> Figures:
    return await _take(stack, settings, options.seconds, 64)


async def _crowd(stack: Devstack, settings: dict[str, str], options: Options) -> Figures:
    return await _take(stack, settings, options.seconds, CROWD)


async def _store(stack: Devstack, settings: dict[str, str], _: Options) -> Figures:
    async with database(stack) as found:
        stored = await store(stack, found, replace(THOUSAND, events=EVENTS), 0, settings)
    return stored.per_second, None, stored.cpu["worker"]


async def _quiet(stack: Devstack, settings: dict[str, str], options: Options) -> Figures:
    async with system(stack, worker=settings) as running_system:
        result = await level(running_system, 1, QUIET, options.seconds)
    return result.accepted / result.seconds, result.lag_p99 * 1e3, result.cpu["worker"]


TAKING: Final = f"single records, {CROWD} connections"
STORING: Final = "messages of 500 events, as fast as they are stored"
SETTINGS: Final = (
    Setting("INGEST_GROUP_EVENTS", (50, 100, 250, 1000), TAKING, _crowd),
    Setting("INGEST_GROUP_BYTES", (16_384, 65_536, 1_048_576), TAKING, _crowd),
    Setting("INGEST_GROUPS_IN_FLIGHT", (1, 3, 4, 8), "single records, 64 connections", _few),
    Setting("WORKER_BATCH_EVENTS", (500, 1000, 2500, 5000, 20_000), STORING, _store),
    Setting("WORKER_BATCH_BYTES", (262_144, 1_048_576), STORING, _store),
    Setting("WORKER_BATCH_SECONDS", (0, 0.005, 0.05, 0.2), f"single records, {QUIET:,.0f} a second", _quiet),
)


async def measure(stack: Devstack, options: Options) -> dict[str, Any]:
    """Try all values of each setting in turn. Raises Lost."""
    return {"settings": [await _sweep(stack, setting, options) for setting in SETTINGS]}


async def _sweep(stack: Devstack, setting: Setting, options: Options) -> dict[str, Any]:
    runs = []
    for number in range(options.sweeps):
        for value in setting.values:
            per_second, latency, cpu = await setting.measure(stack, {setting.name: f"{value:.10g}"}, options)
            runs.append(Run(number, value, per_second, latency, cpu))
    return {
        "setting": setting.name,
        "default": setting.default,
        "load": setting.load,
        "runs": [asdict(run) for run in runs],
    }
