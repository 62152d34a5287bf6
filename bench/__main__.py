"""Measure everything in one run, or a part of it, and write it down."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from shutil import which
from typing import Any, Final

from bench import growth, machine, pipeline, report, storing, sweep, taking
from bench.checks import Lost
from bench.options import Options
from bench.results import Part, now
from devstack import Devstack
from devstack.install import CannotInstall, install
from runtime import logs

Measure = Callable[[Devstack, Options], Awaitable[dict[str, Any]]]
PARTS: Final[Mapping[str, Measure]] = {
    "taking": taking.measure,
    "storing": storing.measure,
    "pipeline": pipeline.measure,
    "growth": growth.measure,
    "sweep": sweep.measure,
}
REPORT: Final = "report"
CACHE_GB: Final = 1.0


async def measure(names: list[str], options: Options, command: str) -> None:
    """Run these parts, each on a broker and a database that no other has used. Raises Lost."""
    for name in names:
        began = time.monotonic()
        with Devstack(cache_gb=CACHE_GB) as stack:
            await asyncio.to_thread(stack.start)
            there = await machine.describe(stack)
            data = await PARTS[name](stack, options)
        seconds = time.monotonic() - began
        Part(name, command, now(), seconds, there, data).write()
        print(f"{name}: measured in {seconds:.0f} s", flush=True)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    choices = [*PARTS, REPORT]
    found.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(choices)}; all. {REPORT}: measure nothing"
    )
    for field in fields(Options):
        kind = int if field.type is int else float
        found.add_argument(f"--{field.name}", type=kind, default=field.default, help=HELP[field.name])
    return found


HELP: Final = {
    "rounds": "of each measurement that is compared with another; medians are shown",
    "sweeps": "rounds of the sweep",
    "seconds": "of each round of taking, and of the sweep",
    "probe": "seconds of each load on the whole pipeline",
    "sustained": "seconds of the largest load that is kept up with",
    "stored": "the most events that the cost is measured on top of",
}


def main() -> int:
    """Read the command line; the exit code: 1 when what was answered for is not stored."""
    command_line = parser()
    arguments = vars(command_line.parse_args())
    names = arguments.pop("parts") or list(PARTS)
    if unknown := set(names) - {*PARTS, REPORT}:
        command_line.error(f"no such part: {', '.join(sorted(unknown))}")
    logs.configure("WARNING")
    try:
        if which("wrk") is None:
            install(["wrk"])
        command = " ".join(["python -m bench", *sys.argv[1:]])
        asyncio.run(measure([name for name in names if name != REPORT], Options(**arguments), command))
    except (CannotInstall, Lost) as exc:
        print(exc, file=sys.stderr)
        return 1
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
