"""How much of each kind of fault a release must stand, and how much it has stood."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.steps import INGEST_POINTS, WORKER_POINTS

POINTS = [*INGEST_POINTS, *WORKER_POINTS]


@dataclass(frozen=True, slots=True)
class Dose:
    """How much of one kind of fault a release must stand."""

    kind: str
    kills: int = 0
    seconds: float = 0.0
    events: int = 0

    def is_reached(self, slices: Sequence["Slice"]) -> bool:
        """Whether these slices together are enough."""
        ours = self.ours(slices)
        return (
            sum(one.kills for one in ours) >= self.kills
            and sum(one.seconds for one in ours) >= self.seconds
            and sum(one.events for one in ours) >= self.events
        )

    def ours(self, slices: Sequence["Slice"]) -> list["Slice"]:
        """Those of this kind."""
        return [one for one in slices if one.kind == self.kind]


DOSES = (
    Dose("worker", kills=1000),
    Dose("ingest", kills=500),
    Dose("broker", kills=100),
    Dose("database", kills=200),
    Dose("step", kills=50 * len(POINTS)),
    Dose("mixed", seconds=3600, events=5_000_000),
)


@dataclass(frozen=True, slots=True)
class Slice:
    """What one run of some minutes has shown."""

    kind: str
    seed: int
    at: str
    seconds: float
    kills: int
    hits: int
    """Kills that found a worker with a batch in hand, or after which clients found nobody."""
    redelivered: int
    duplicates: int
    events: int
    """Confirmed."""
    lost: int
    doubled: int
    violations: tuple[str, ...]


def table(slices: Sequence[Slice]) -> str:
    """Everything so far as README shows it."""
    lines = [
        "| killed | kills | at least so many in mid-work | minutes | events confirmed | lost | doubled | command |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for dose in DOSES:
        ours = dose.ours(slices)
        total = {
            name: sum(getattr(one, name) for one in ours) for name in ("kills", "hits", "events", "lost", "doubled")
        }
        minutes = sum(one.seconds for one in ours) / 60
        lines.append(
            f"| {dose.kind} | {total['kills']:,} | {total['hits']:,} | {minutes:.0f} | {total['events']:,} "
            f'| {total["lost"]} | {total["doubled"]} | `make soak ARGS="--only {dose.kind}"` |'
        )
    return "\n".join(lines)
