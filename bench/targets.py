"""What is aimed at, and whether it was reached."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from bench.ids import Ids
from bench.stats import median_ratio

Data = Mapping[str, Any]
"""What a part has measured, as it stands in its file."""


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that is aimed at."""

    what: str
    part: str
    """The part that measures it."""
    measure: Callable[[Data], float]
    """Takes the part's data; NaN when it does not hold the figure."""
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @property
    def needed(self) -> str:
        """The figure in words."""
        return f"≥ {_figure(self.at_least)}{self.unit}" if self.at_least else f"≤ {_figure(self.at_most)}{self.unit}"

    def verdict(self, measured: float) -> str:
        """Say whether a figure is good enough, and if not, what it misses."""
        if math.isnan(measured):
            return "not measured"
        missing = measured / self.at_most - 1 if self.at_most else 1 - measured / (self.at_least or 1)
        return "met" if missing <= 0 else f"missed by {missing:.1%}"


def _figure(value: float | None) -> str:
    return f"{value:,g}"


def taking_ratio(other: str, figure: str) -> Callable[[Data], float]:
    """What ours is to another's in each round, for single records; the median."""

    def measure(data: Data) -> float:
        ours, theirs = (
            [one["load"][figure] for one in data["taken"] if one["subject"] == name and one["records"] == 1]
            for name in ("ingest", other)
        )
        if len(ours) != len(theirs):
            return math.nan
        return median_ratio(ours, theirs)

    return measure


def batch_rate(data: Data) -> float:
    """Records a second that one ingest process takes in batches."""
    rates = [
        one["load"]["per_second"] * one["records"]
        for one in data["taken"]
        if one["subject"] == "ingest" and one["records"] > 1
    ]
    return median(rates) if rates else math.nan


def _rates(data: Data, case: str) -> list[float]:
    return [one["per_second"] for one in data["stored"] if one["case"] == case]


def storing_ratio(case: str) -> Callable[[Data], float]:
    """What a case's rate is to that of inserts alone in each round; the median."""
    return lambda data: median_ratio(_rates(data, case), _rates(data, "insert_many alone"))


def storing_rate(case: str) -> Callable[[Data], float]:
    """Events a second of a case; the median."""
    return lambda data: median(_rates(data, case) or [math.nan])


def _batches(data: Data) -> Data:
    found: Data = next(kind for kind in data["kinds"] if kind["records"] > 1)
    return found


def sustained_rate(data: Data) -> float:
    """Events a second of the longest load, from its first request to its last stored event."""
    return float(_batches(data)["sustained"]["through"])


def half_lag(data: Data) -> float:
    """Milliseconds from the 200 to the stored event at half load, of 99 in 100; the worse of both kinds."""
    return float(max(kind["half"]["lag_p99"] for kind in data["kinds"]) * 1e3)


def most_memory(process: str) -> Callable[[Data], float]:
    """The most megabytes of a process at any load of the pipeline, overload included."""
    return lambda data: max(
        one["memory"][process] for kind in data["kinds"] for one in _loads(kind) if process in one["memory"]
    )


def _loads(kind: Data) -> Iterable[Data]:
    yield from (kind["rest"], kind["saturated"], kind["sustained"], kind["half"], kind["overload"]["level"])
    yield from kind["levels"]


def growth(ids: Ids) -> Callable[[Data], float]:
    """What an event costs on top of the most stored events, to what it costs on top of the fewest."""

    def measure(data: Data) -> float:
        runs = [one for one in data["stored"] if one["ids"] == ids]
        sizes = sorted({one["stored"] for one in runs})
        fewest, most = (median(cost(one) for one in runs if one["stored"] == size) for size in (sizes[0], sizes[-1]))
        return most / fewest

    return measure


def cost(one: Data) -> float:
    """Microseconds of CPU that worker and database spend on an event."""
    return float(one["cpu"].get("worker", 0.0) + one["cpu"].get("database", 0.0))


TARGETS: Final[Sequence[Target]] = (
    Target("single durable POST, to bare", "taking", taking_ratio("bare", "per_second"), at_least=0.6),
    Target("single durable POST, to naive", "taking", taking_ratio("naive", "per_second"), at_least=3),
    Target("single durable POST, to FastStream", "taking", taking_ratio("faststream", "per_second"), at_least=4),
    Target("single durable POST, to Node", "taking", taking_ratio("node", "per_second"), at_least=1),
    Target("p99 of a single durable POST, to Node", "taking", taking_ratio("node", "p99"), at_most=0.5),
    Target("batches of 100, one ingest process", "taking", batch_rate, at_least=100_000, unit=" events/s"),
    Target("worker, 1,000 customers, to insert_many", "storing", storing_ratio("1,000 customers"), at_least=0.6),
    Target(
        "worker, every event its own total, to insert_many",
        "storing",
        storing_ratio("every event its own total"),
        at_least=0.25,
    ),
    Target(
        "worker, one event a message",
        "storing",
        storing_rate("one event a message"),
        at_least=12_000,
        unit=" events/s",
    ),
    Target("end to end, in batches, for 60 s", "pipeline", sustained_rate, at_least=20_000, unit=" events/s"),
    Target("lag p99 at half load", "pipeline", half_lag, at_most=500, unit=" ms"),
    Target("memory of ingest, at most", "pipeline", most_memory("ingest"), at_most=120, unit=" MB"),
    Target("memory of worker, at most", "pipeline", most_memory("worker"), at_most=200, unit=" MB"),
    *(
        Target(f"CPU per event on 5 million to that on 0.1 million stored, {ids}", "growth", growth(ids), at_most=1.2)
        for ids in Ids
    ),
)
