"""What two looks at a process's metrics say of the time between them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[str, ...]
"""The values, in the order in which they stand there."""

_STARTED = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Look:
    """The numbers of a process at one moment."""

    at: float
    """Seconds on a clock that never goes back."""
    samples: Mapping[str, Mapping[Labels, float]]
    unready: Mapping[str, str]
    """What it cannot work without, and how that is; empty when it is ready."""


def parse_samples(text: str) -> dict[str, dict[Labels, float]]:
    """Read Prometheus' text format; raises ValueError when it is something else."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            samples.setdefault(one.name, {})[tuple(one.labels.values())] = one.value
    return samples


@dataclass(frozen=True, slots=True)
class Window:
    """From one look to the next; where nothing can be said, it is None."""

    before: Look | None
    """None for the first look."""
    after: Look

    @property
    def seconds(self) -> float | None:
        """Between the two."""
        return None if self.before is None else self.after.at - self.before.at

    def value(self, name: str) -> float | None:
        """A gauge as it is now, or a counter since the process began, of all labels together."""
        samples = self.after.samples.get(name)
        return None if samples is None else sum(samples.values())

    def rate(self, name: str) -> float | None:
        """How much a counter grew in a second."""
        return None if not self.seconds else self._growth(name) / self.seconds

    def mean(self, name: str) -> float | None:
        """The mean of what a histogram observed."""
        count = self._growth(f"{name}_count")
        return None if self.before is None or not count else self._growth(f"{name}_sum") / count

    def quantile(self, name: str, share: float) -> float | None:
        """So much, or less, had that share of what a histogram observed: interpolated within its bucket."""
        if self.before is None:
            return None
        bounds = sorted((float(le), self._growth_of(f"{name}_bucket", (le,))) for (le,) in self._labels(name))
        rank = share * bounds[-1][1] if bounds else 0
        if not rank:
            return None
        for (low, below), (high, count) in pairwise([(0.0, 0.0), *bounds]):
            if count >= rank:
                return low if math.isinf(high) else low + (high - low) * (rank - below) / (count - below)
        return None

    def _labels(self, histogram: str) -> Mapping[Labels, float]:
        return self.after.samples.get(f"{histogram}_bucket", {})

    def _growth(self, name: str) -> float:
        return sum(self._growth_of(name, labels) for labels in self.after.samples.get(name, {}))

    def _growth_of(self, name: str, labels: Labels) -> float:
        now = self.after.samples[name][labels]
        # A process that was started anew counts from zero.
        if self.before is None or self.before.samples.get(_STARTED) != self.after.samples.get(_STARTED):
            return now
        return now - self.before.samples.get(name, {}).get(labels, 0.0)
