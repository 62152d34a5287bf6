"""Ten times more than can be taken: what is refused, what is held in memory, how long it takes to recover."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.levels import Level, plan_of, watch
from bench.offer import OK, Offered
from bench.stats import percentile
from bench.system import System

TIMES: Final = 10
CONNECTIONS: Final = 640
"""Ten times those of the other loads."""
BEFORE: Final = 5.0
"""Seconds of half load before, which show what is normal."""
HOLD: Final = 1.0
"""Recovered is what stays normal for so many seconds."""
NORMAL_LATENCY: Final = 50.0
"""Milliseconds, and"""
NORMAL_LAG: Final = 0.5
"""seconds that are normal in any case; else twice the p99 of the half load before."""

SHED: Final = 503

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Overload:
    """What came of it. Times in seconds, latencies in milliseconds from when a request was sent."""

    level: Level
    """Of the whole, with half load before and after."""
    asked: float
    """Requests a second that were due."""
    sent: float
    """Requests a second that were sent: the rest found no free connection."""
    p99: float
    """Of the requests that were answered with 200 during the overload."""
    shed: int
    """Answers of 503."""
    without_retry_after: int
    """Of these, such as do not say when to come again."""
    other: int
    """Answers that are neither 200 nor 503, and broken connections."""
    latency_recovers: float | None
    """From the end of the overload until latency is normal again; None: not within the half load after it."""
    lag_recovers: float | None
    """From the end of the overload until the lag is normal again: the queue is drained."""


async def overload(system: System, records: int, capacity: float, *, seconds: float, after: float) -> Overload:
    """Offer ten times the capacity (events a second), between stretches of half of it. Raises Lost."""
    half = capacity / 2
    phases = [(half, BEFORE), (TIMES * capacity, seconds), (half, after)]
    plan = replace(plan_of(system, records, phases), connections=CONNECTIONS, patience=0.0)
    watched = await watch(system, plan)
    requests, end = watched.offered.requests, BEFORE + seconds
    during = [request for request in requests if BEFORE <= request.due < end]
    return Overload(
        level=watched.level,
        asked=plan.phases[1][0],
        sent=len(during) / seconds,
        p99=percentile((request.since_sent for request in during if request.status == OK), 0.99),
        shed=watched.offered.statuses.get(SHED, 0),
        without_retry_after=watched.offered.without_retry_after,
        other=sum(1 for request in requests if request.status not in {OK, SHED}),
        latency_recovers=recovery(_latencies(watched.offered), BEFORE, end, least=NORMAL_LATENCY),
        lag_recovers=recovery(watched.lags, BEFORE, end, least=NORMAL_LAG),
    )


def _latencies(offered: Offered) -> list[tuple[float, float]]:
    """What was not sent, or not answered with 200, has waited for ever."""
    answered = [(one.due, one.since_sent if one.status == OK else math.inf) for one in offered.requests]
    return answered + [(due, math.inf) for due in offered.unsent]


def recovery(points: Points, before: float, end: float, *, least: float) -> float | None:
    """Return how long after `end` values become, and stay for a while, what they were until `before`.

    points: pairs of time and value. Normal is up to twice the p99 of the values before, and up to `least` anyway. A
    single value of a hundred may be larger: it was before, too.
    """
    normal = max(least, 2 * percentile((value for at, value in points if at < before and value < math.inf), 0.99))
    later = sorted(point for point in points if point[0] >= end)
    for at, _ in [(end, 0.0), *later]:
        held = [value for moment, value in later if at <= moment < at + HOLD]
        if held and later[-1][0] >= at + HOLD and percentile(held, 0.99) <= normal:
            return at - end
    return None
