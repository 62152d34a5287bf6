"""How `make run` is told to end."""

import subprocess
import sys

from tests.support.processes import ROOT

TOLD_WITHIN_A_TASK = """
import asyncio, os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells do for what a script starts in the background
from devstack.__main__ import end_alike_on_both_signals

async def told():
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0)

async def main():
    task = asyncio.create_task(told())
    try:
        await asyncio.sleep(60)
    finally:
        print("stopping")

end_alike_on_both_signals()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
"""


def test_sigterm_in_the_midst_of_a_task_ends_it_without_a_traceback() -> None:
    completed = subprocess.run(
        [sys.executable, "-c", TOLD_WITHIN_A_TASK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (completed.stdout, completed.stderr) == ("stopping\nstopped\n", "")
