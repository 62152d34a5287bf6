"""Start a command under a guard, which ends it with whatever it started."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from devstack import guard

LET_GO = 20.0
"""Seconds a guard gets to kill what it guards: SIGKILL is quick, a machine under load is not."""


def _under_guard(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    # By path with -P, not by -m: it works from any directory, nothing of ours is imported, nothing shadowed.
    # The environment is for the command alone: with another HOME the guard might not find its libraries.
    assignments = [f"{name}={value}" for name, value in environment.items()]
    return [sys.executable, "-P", guard.__file__, "env", "-i", *assignments, *command]


def run_guarded(command: Sequence[str], *, environment: Mapping[str, str], timeout: float) -> str:
    """Run a command to its end; its output.

    Raises subprocess.CalledProcessError with what it wrote to standard error as a note, or TimeoutExpired.
    """
    lifeline, ours = os.pipe()
    with subprocess.Popen(
        _under_guard(command, environment),
        stdin=lifeline,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(lifeline)
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            os.close(ours)  # ends what still runs
    if process.returncode != 0:
        error = subprocess.CalledProcessError(process.returncode, list(command), output, errors)
        error.add_note(errors or output)
        raise error
    return output


class GuardedProcess:
    """One running command; it ends by itself, by `release`, or with this process."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                _under_guard(command, environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal goes to the whole foreground group
            )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def find(self, name: str) -> psutil.Process | None:
        """The guarded process of this name, which need not be the command itself: scripts start servers."""
        try:
            descendants = psutil.Process(self._guard.pid).children(recursive=True)
            return next((process for process in descendants if process.name() == name), None)
        except psutil.NoSuchProcess:
            return None

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM)."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._guard.pid).children():
                child.terminate()

    def wait(self, timeout: float) -> int:
        """Wait until the command and all it started are gone; its exit status. Raises subprocess.TimeoutExpired."""
        status = self._guard.wait(timeout)
        self._close_lifeline()
        return status

    def release(self) -> None:
        """Kill the command and all it started."""
        self._close_lifeline()
        self._guard.wait(LET_GO)

    def _close_lifeline(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
