"""Measure everything in one run, and write it down."""

import argparse
import asyncio
import sys
from dataclasses import asdict
from shutil import which
from typing import Any

from bench import pipeline, report, storing, taking
from devstack import Devstack
from devstack.install import CannotInstall, install

PARTS = ("taking", "storing", "pipeline")


async def measure(arguments: argparse.Namespace) -> int:
    """Run the parts that were asked for; the exit code: 1 when events that were answered for are not stored."""
    sections: dict[str, report.Rows] = {}
    raw: dict[str, Any] = {}
    with Devstack(cache_gb=1.0) as stack:
        stack.start()
        if "taking" in arguments.parts:
            taken = await asyncio.to_thread(taking.rounds, stack, count=arguments.rounds, seconds=arguments.seconds)
            sections["Taking records"], raw["taking"] = taking.summary(taken), taking.details(taken)
            await _check(stack, taking.answered_by_us(taken))
        if "storing" in arguments.parts:
            limit, stored = [], []
            for _ in range(arguments.rounds):
                limit.append(await storing.insert_alone(stack, 200_000))
                stored += [await storing.store(stack, case) for case in storing.CASES]
            sections["Storing events"] = storing.summary(limit, stored)
            raw["storing"] = [asdict(one) for one in (*limit, *stored)]
        if "pipeline" in arguments.parts:
            loads = [("batches of 100, 2 connections", 2, 100), ("single records, 16 connections", 16, 1)]
            results = [
                await pipeline.through(
                    stack, what, seconds=arguments.pipeline_seconds, connections=count, records=records
                )
                for what, count, records in loads
            ]
            sections["From request to stored event"] = pipeline.summary(results)
            raw["pipeline"] = [asdict(one) for one in results]
    command = " ".join(["python -m bench", *sys.argv[1:]])
    path = report.write(sections, raw, command, taking.now())
    print(path.read_text())
    return 0


async def _check(stack: Devstack, answered: int) -> None:
    """Have a worker store what we answered with 200, and count. Raises Lost."""
    async with storing.database(stack) as found:
        worker = storing.start_worker(stack, found.name)
        try:
            await pipeline.drained(found, answered)
        finally:
            worker.terminate()
            worker.wait(40)


def main() -> int:
    """Read the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; medians are shown")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round of taking")
    parser.add_argument("--pipeline-seconds", type=float, default=60.0, help="of load on the whole pipeline")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    try:
        if which("wrk") is None:
            install(["wrk"])
        return asyncio.run(measure(arguments))
    except (CannotInstall, pipeline.Lost) as exc:
        print(exc, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
