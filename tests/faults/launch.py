"""Starts a process of ours with some of its parts wrapped: to die at a step that is named, or with a bug put in.

`python -m tests.faults.launch FUSE BUG MODULE`: FUSE is a file. When it names a step, as `insert:before`, the
process removes the file and kills itself there; for `insert:before 4711` it kills that process instead. BUG is the
name of a function of `tests.faults.bugs`.
"""

import runpy
import sys
from pathlib import Path

from tests.faults.bugs import BUGS
from tests.faults.steps import Fuse, wrap_ingest, wrap_worker


def main(fuse: str, bug: str, module: str) -> None:
    """Wrap, then run the module as Python would."""
    {"ingest": wrap_ingest, "worker": wrap_worker}[module](Fuse(Path(fuse)))
    BUGS[bug]()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
