"""CPU time and memory of processes, over a measured stretch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Clock:
    """CPU seconds of some processes at one moment."""

    seconds: Mapping[str, float]

    @classmethod
    def read(cls, processes: Mapping[str, psutil.Process]) -> Self:
        """Look at the clock of each."""
        times = {name: process.cpu_times() for name, process in processes.items()}
        return cls({name: time.user + time.system for name, time in times.items()})

    def microseconds_each(self, earlier: Self, count: int) -> dict[str, float]:
        """CPU time since `earlier`, divided by what was done in it."""
        return {name: (seconds - earlier.seconds[name]) / max(1, count) * 1e6 for name, seconds in self.seconds.items()}


def megabytes(process: psutil.Process) -> float:
    """Resident memory."""
    return float(process.memory_info().rss) / 1e6
