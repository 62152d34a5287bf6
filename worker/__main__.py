"""What is run: the worker process, or one of its commands."""

import os
import sys
from typing import Final

COMPLETION: Final = "_USAGE_WORKER_COMPLETE"
"""Set by a shell that asks, without any argument, how a line may go on."""


def main() -> int:
    """Run the process, or one of its commands; the return value is the exit code."""
    # Each loads only what it needs: a command would take half as long again to start with the worker's server.
    if sys.argv[1:] or COMPLETION in os.environ:
        from worker import commands  # noqa: PLC0415

        commands.app(prog_name=commands.NAME)
    from runtime.process import run_process  # noqa: PLC0415
    from worker.serving import serve  # noqa: PLC0415
    from worker.settings import Settings  # noqa: PLC0415

    return run_process(Settings, serve)


if __name__ == "__main__":
    sys.exit(main())
