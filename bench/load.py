"""Load by wrk: one thread, keep-alive connections, as fast as the answers come."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract.event import encode_json

CONNECTIONS: Final = 64
RECORD: Final = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}

_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw."""

    answered: int
    """Requests that were answered with a status of 2xx or 3xx."""
    refused: int
    """Requests that were answered with another status."""
    per_second: float
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""


def body_of(records: int) -> bytes:
    """Return the body of a request: one record, or a batch of them, each of another customer."""
    if records == 1:
        return encode_json(RECORD)
    events = [{**RECORD, "email": f"customer{number}@northwind.dev"} for number in range(records)]
    return encode_json({"events": events})


def run_wrk(url: str, *, seconds: float, records: int = 1, connections: int = CONNECTIONS) -> Load:
    """Post for so many seconds, and say what came of it."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        body = body_of(records).decode()
        script.write_text(
            f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[{body}]]\n'
        )
        output = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds:g}s",
                "--latency",
                "--timeout",
                "10s",
                "-s",
                str(script),
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        ).stdout
    return _read(output)


def _read(output: str) -> Load:
    total = int(_find(r"(\d+) requests in", output))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    bad = int(refused[1]) if refused else 0
    return Load(
        answered=total - bad,
        refused=bad,
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        p50=_milliseconds(_find(r"^\s+50%\s+(\S+)\s*$", output)),
        p99=_milliseconds(_find(r"^\s+99%\s+(\S+)\s*$", output)),
    )


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk printed no {pattern}:\n{output}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
