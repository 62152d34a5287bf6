"""Starts a process of ours in which its libraries, its own lines and its bugs say what must not be read.

`python -m tests.support.indiscreet TEXT MODULE`: TEXT is said in each of these ways when its logs are set up.
By themselves our processes say nothing of the kind, so without this nobody would see whether it is hidden.
"""

import logging
import runpy
import sys
import threading
from collections.abc import Collection

import structlog

from runtime import logs

SAID = ("said by us", "said by a library", "uncaught exception")
"""The lines' events, or how they begin."""


def main(text: str, module: str) -> None:
    """Have it said, then run the module as Python would."""
    configure = logs.configure

    def configure_and_tell(level: str, *, secrets: Collection[str]) -> None:
        configure(level, secrets=secrets)
        structlog.get_logger().error("said by us", error=text, details={"of": [text]})
        logging.getLogger("library").error("said by a library: %s", text)
        bug = threading.Thread(target=_fail, args=(text,))
        bug.start()
        bug.join()

    logs.configure = configure_and_tell  # type: ignore[assignment]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fail(text: str) -> None:
    raise RuntimeError(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
