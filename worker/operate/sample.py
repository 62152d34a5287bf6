"""How a running system was during one interval, for a program or as lines of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from contract.fields import format_timestamp
from worker.operate.numbers import INGEST, WORKER, Number, modes
from worker.operate.sources import Away, Queues
from worker.operate.window import Window

DECIMALS: Final = 6
"""More than is known of what was measured."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, or why there is nothing to tell of it."""

    url: str
    window: Window | Away

    @property
    def state(self) -> str:
        """In a word or a few."""
        if isinstance(self.window, Away):
            return f"away: {self.window.why}"
        wrong = [*modes(self.window), *(f"no {name}" for name in self.window.after.unready if name != "breaker")]
        return ", ".join(wrong) or "ready"


@dataclass(frozen=True, slots=True)
class Sample:
    """All of it."""

    at: datetime
    broker: Queues | Away
    ingest: Sequence[Process]
    worker: Sequence[Process]

    @property
    def unsettled(self) -> int:
        """Messages that those workers hold which answer."""
        windows = [one.window for one in self.worker if isinstance(one.window, Window)]
        return int(sum(window.value("usage_messages_unsettled") or 0 for window in windows))

    def to_document(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "at": format_timestamp(self.at),
            "broker": {"away": self.broker.why} if isinstance(self.broker, Away) else _broker(self.broker),
            "ingest": [_process(one, INGEST) for one in self.ingest],
            "worker": [_process(one, WORKER) for one in self.worker],
        }


def _broker(queues: Queues) -> dict[str, int]:
    return {"ready": queues.ready, "consumers": queues.consumers, "deadLetters": queues.dead_letters}


def _process(process: Process, numbers: Sequence[Number]) -> dict[str, Any]:
    if isinstance(process.window, Away):
        return {"url": process.url, "away": process.window.why}
    window = process.window
    return {
        "url": process.url,
        "ready": not window.after.unready,
        "unready": dict(window.after.unready),
        "modes": modes(window),
        "seconds": _rounded(window.seconds),
        **{number.name: _rounded(number.read(window)) for number in numbers},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
