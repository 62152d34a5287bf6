"""What was measured, kept as one file for each part, so that a part can be repeated alone."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Part:
    """One part's measurement: every single figure."""

    name: str
    command: str
    date: str
    """UTC, to the minute."""
    seconds: float
    """How long it took."""
    machine: Mapping[str, str]
    data: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, directory: Path = RESULTS) -> Self | None:
        """What was measured last; None when it never was."""
        path = directory / f"{name}.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def write(self, directory: Path = RESULTS) -> None:
        """Keep it, in place of what was measured before."""
        directory.mkdir(exist_ok=True)
        text = json.dumps(_rounded(asdict(self)), indent=1)
        (directory / f"{self.name}.json").write_text(text + "\n")


def _rounded(value: Any) -> Any:
    """Leave out digits that nobody has measured."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def now() -> str:
    """The time of a measurement."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
