"""Doses of faults that take longer than a test may, in slices that can be run on different days.

`make soak`, or `python -m tests.faults.soak --help`.
"""

import argparse
import asyncio
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import SystemRandom

from devstack import Devstack
from runtime import logs
from tests.faults.doses import DOSES, Dose, Slice, table
from tests.faults.slices import KINDS, run_slice

SLICE_SECONDS = 240.0


class State:
    """The slices so far, one JSON object a line."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._file = directory / "slices.jsonl"

    @property
    def slices(self) -> list[Slice]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [Slice(**{**json.loads(line), "violations": tuple(json.loads(line)["violations"])}) for line in lines]

    def append(self, one: Slice) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")


def say(text: str) -> None:
    """Print a line now, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def soak(stack: Devstack, options: argparse.Namespace) -> bool:
    """Run slices until the doses are reached, or as many as were asked for; False when one has found something."""
    state = State(options.state)
    doses = [dose for dose in DOSES if options.only in {None, dose.kind}]
    for number in range(options.slices):
        dose = next((dose for dose in doses if not dose.is_reached(state.slices)), None)
        if dose is None:
            say("every dose is reached")
            return True
        seed = options.seed if options.seed and not number else SystemRandom().randrange(1, 2**31)
        one = await _run_next(stack, state, dose, options, seed)
        state.append(one)
        say(f"{one}\n\n{table(state.slices)}\n")
        if one.violations or not one.hits:
            say(f"see the logs of seed {one.seed} in {state.directory}")
            return False
        shutil.rmtree(state.directory / str(one.seed))
    return True


async def _run_next(stack: Devstack, state: State, dose: Dose, options: argparse.Namespace, seed: int) -> Slice:
    directory = state.directory / str(seed)
    directory.mkdir(exist_ok=True)
    left = dose.kills - sum(one.kills for one in dose.ours(state.slices)) if dose.kills else sys.maxsize
    kills = min(left, options.kills)
    return await run_slice(stack, dose.kind, directory, seed=seed, seconds=options.seconds, kills=kills)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".soak"), help="directory of what was done so far")
    parser.add_argument("--only", choices=sorted(KINDS), help="one dose alone")
    parser.add_argument("--seconds", type=float, default=SLICE_SECONDS, help="of one slice")
    parser.add_argument("--kills", type=int, default=sys.maxsize, help="in one slice, at the most")
    parser.add_argument("--slices", type=int, default=sys.maxsize, help="in this run, at the most")
    parser.add_argument("--seed", type=int, help="of the first slice, to see a failure again")
    return parser.parse_args(arguments)


def main() -> int:
    """Soak; 0 when nothing was found."""
    options = parse(sys.argv[1:])
    logs.configure("ERROR")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with Devstack() as stack:
        stack.start()
        return 0 if asyncio.run(soak(stack, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
