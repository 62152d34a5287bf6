"""What processes have logged, line by line."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Tail:
    """Counts the lines of a growing log that hold a text, reading each only once."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text.encode()
        self._offset = 0
        self._count = 0

    def count(self) -> int:
        if not self._path.exists():
            return 0
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._count += self._text in line
        return self._count


def entries(paths: Iterable[Path], event: str) -> Iterator[dict[str, Any]]:
    """Every entry of this name; a line that a kill has cut off is none."""
    mark = f'"event": "{event}"'
    for path in paths:
        with path.open(errors="replace") as log:
            for line in log:
                if mark in line and line.startswith("{") and line.endswith("}\n"):
                    yield json.loads(line)


def complaints(paths: Iterable[Path], *, allowed: Sequence[str] = ()) -> list[str]:
    """Lines that tell of an error, or begin a traceback, and match none of the `allowed` patterns."""
    return [
        line.rstrip()
        for path in paths
        for line in path.read_text(errors="replace").splitlines()
        if ('"level": "error"' in line or "Traceback" in line or '"level": "critical"' in line)
        and not any(re.search(pattern, line) for pattern in allowed)
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the workers have seen of the faults, by their own account."""

    redelivered: int
    """Messages that had been delivered before."""
    duplicates: int
    """Events that were stored before, or came twice in one batch."""
    copies: int
    """Whole messages that were entered before."""
    redelivered_at: tuple[datetime, ...]
    """When batches with such messages were done with."""
    lost_database_at: tuple[datetime, ...]
    """When a batch could not be written."""


def seen(paths: Sequence[Path]) -> Seen:
    """Read the workers' logs."""
    batches = list(entries(paths, "batch"))
    return Seen(
        redelivered=sum(batch["redelivered"] for batch in batches),
        duplicates=sum(batch["duplicates"] for batch in batches),
        copies=sum(batch["copies"] for batch in batches),
        redelivered_at=_times(batch for batch in batches if batch["redelivered"]),
        lost_database_at=_times(entries(paths, "database lost")),
    )


def _times(found: Iterable[dict[str, Any]]) -> tuple[datetime, ...]:
    return tuple(sorted(datetime.fromisoformat(entry["timestamp"]) for entry in found))


def hits(kills: Sequence[datetime], traces: Sequence[datetime]) -> int:
    """How many kills left a trace before the next kill: they hit something at work."""
    ends = [*kills[1:], datetime.max.replace(tzinfo=UTC)]
    return sum(any(kill < trace < end for trace in traces) for kill, end in zip(kills, ends, strict=False))
