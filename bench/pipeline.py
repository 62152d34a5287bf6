"""From the request to the stored event: at rest, at every load up to saturation, and far beyond; everything checked."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.checks import drained
from bench.cost import Clock, Watch
from bench.levels import Level, level
from bench.load import run_wrk
from bench.options import Options
from bench.overload import Overload, overload
from bench.system import System, system
from devstack import Devstack

KINDS: Final = ((1, 64), (100, 4))
"""Records in one request, and connections that saturate."""
PARTS: Final = (0.25, 0.5, 0.7, 0.85, 1.0, 1.1)
"""Loads that are tried, as parts of what a closed loop gets through."""
STEP_DOWN: Final = 0.9
TRIES: Final = 3
REST: Final = 2.0
"""Requests a second at rest: each is alone."""


@dataclass(frozen=True, slots=True)
class Saturated:
    """A closed loop: as fast as the answers come."""

    requests_per_second: float
    through: float
    """Events a second, from the first request to the last stored event."""
    p50: float
    """Milliseconds."""
    p99: float
    accepted: int
    stored: int
    refused: int
    memory: dict[str, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """All that was measured with one kind of request."""

    records: int
    idle: dict[str, float]
    """CPU seconds that each process spends in a second without any request."""
    rest: Level
    saturated: Saturated
    levels: list[Level]
    sustained: Level
    """The largest load that was kept up with, for long."""
    half: Level
    """Half of it."""
    overload: Overload


async def measure(stack: Devstack, options: Options) -> dict[str, Any]:
    """Measure both kinds. Raises Lost."""
    kinds = [await _kind(stack, records, connections, options) for records, connections in KINDS]
    return {"kinds": [asdict(kind) for kind in kinds]}


async def _kind(stack: Devstack, records: int, connections: int, options: Options) -> Kind:
    async with system(stack) as running:
        idle = await _idle(running, options.probe)
        rest = await level(running, records, REST * records, max(3.0, options.probe))
        saturated = await _saturate(running, records, connections, options.probe)
        levels = [await level(running, records, saturated.through * part, options.probe) for part in PARTS]
        sustained = await _sustain(running, records, capacity_of(levels), options.sustained)
        return Kind(
            records,
            idle,
            rest,
            saturated,
            levels,
            sustained,
            await level(running, records, sustained.offered / 2, 2 * options.probe),
            await overload(running, records, sustained.offered, seconds=options.probe, after=3 * options.probe),
        )


async def _idle(running: System, seconds: float) -> dict[str, float]:
    before = Clock.read(running.processes)
    await asyncio.sleep(seconds)
    return {name: spent / seconds for name, spent in Clock.read(running.processes).since(before).items()}


async def _saturate(running: System, records: int, connections: int, seconds: float) -> Saturated:
    before = int(await running.database["events"].estimated_document_count())
    address = running.url if records == 1 else f"{running.url}/batch"
    began = time.monotonic()
    with Watch(running.processes) as memory:
        load = await asyncio.to_thread(run_wrk, address, seconds=seconds, records=records, connections=connections)
        stored, stored_at = await drained(running.database, load.answered * records, before=before)
    return Saturated(
        load.per_second,
        stored / (stored_at - began),
        load.p50,
        load.p99,
        load.answered * records,
        stored,
        load.refused,
        memory.peaks,
    )


def capacity_of(levels: Sequence[Level]) -> float:
    """Return the largest load, in events a second, that was kept up with; else the smallest that was tried."""
    return max((one.offered for one in levels if one.kept_up), default=levels[0].offered)


async def _sustain(running: System, records: int, rate: float, seconds: float) -> Level:
    """Offer this load for long, or less until it is kept up with; the last that was tried."""
    for _ in range(TRIES - 1):
        tried = await level(running, records, rate, seconds)
        if tried.kept_up:
            return tried
        rate = STEP_DOWN * min(rate, tried.through)
    return await level(running, records, rate, seconds)
