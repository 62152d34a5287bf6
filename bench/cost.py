"""CPU time and memory of processes, over a measured stretch."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psutil

LOOK_EVERY: Final = 0.1

Processes = Mapping[str, psutil.Process]


@dataclass(frozen=True, slots=True)
class Clock:
    """CPU seconds of some processes at one moment."""

    seconds: Mapping[str, float]

    @classmethod
    def read(cls, processes: Processes) -> Self:
        """Look at the clock of each."""
        times = {name: process.cpu_times() for name, process in processes.items()}
        return cls({name: time.user + time.system for name, time in times.items()})

    def since(self, earlier: Self) -> dict[str, float]:
        """CPU seconds of each since `earlier`."""
        return {name: seconds - earlier.seconds[name] for name, seconds in self.seconds.items()}

    def microseconds_each(self, earlier: Self, count: int) -> dict[str, float]:
        """CPU time since `earlier`, divided by what was done in it."""
        return {name: seconds / max(1, count) * 1e6 for name, seconds in self.since(earlier).items()}


def megabytes(process: psutil.Process) -> float:
    """Resident memory."""
    return float(process.memory_info().rss) / 1e6


class Watch:
    """The most resident memory that each process has, in megabytes, for the length of a with statement."""

    def __init__(self, processes: Processes) -> None:
        self.peaks: dict[str, float] = {}
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(LOOK_EVERY):
                self._look()
        except psutil.NoSuchProcess:
            return  # whoever needs it finds out

    def _look(self) -> None:
        for name, process in self._processes.items():
            self.peaks[name] = max(self.peaks.get(name, 0.0), megabytes(process))
