"""Run one command so that nothing it starts outlives the process that asked for it.

Run as a script: ``python guard.py COMMAND...``. Standard input is the lifeline, a pipe whose other end the caller
holds: however the caller ends, even by SIGKILL, the kernel closes that end.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import psutil

PR_SET_CHILD_SUBREAPER = 36
LIFELINE = 0


def adopt_orphans() -> None:
    """Become the parent of descendants that daemonise themselves, as epmd does, so that they stay in our tree."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def wake_up_on(number: signal.Signals) -> int:
    """A file descriptor that can be read after this signal."""
    wakeup, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(number, lambda *_: None)
    return wakeup


def reap() -> Iterator[tuple[int, int]]:
    """Pid and status of each child that has ended, adopted ones too: else they stay in the process table."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            yield ended


def watch(child: int, child_ended: int) -> int:
    """The child's exit status when it has ended, or the one of a kill when the caller lets go of the lifeline."""
    while LIFELINE not in select.select([LIFELINE, child_ended], [], [])[0]:
        os.read(child_ended, 512)
        for pid, status in reap():
            if pid == child:
                return os.waitstatus_to_exitcode(status)
    return -signal.SIGKILL


def kill_descendants() -> None:
    # In rounds: what forks while we kill is found by the next one, and a killed parent's children become ours.
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(descendants, timeout=1)


def leave(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main(command: list[str]) -> int:
    adopt_orphans()
    child_ended = wake_up_on(signal.SIGCHLD)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        return watch(child.pid, child_ended)
    finally:
        kill_descendants()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
