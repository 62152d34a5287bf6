"""The life of one server that runs as a process of this machine."""

import contextlib
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from devstack.processes import GuardedProcess
from devstack.service import DidNotStart, NotRunning

START_LIMIT = 60.0
STOP_LIMIT = 30.0
LOOK_EVERY = 0.02
LOG_TAIL = 2_000
"""Characters of the log that a failure shows."""


class LocalService(ABC):
    """A server with its port and its directory, both kept over restarts."""

    name: str
    program: str
    """What the kernel calls the server process, which is not always what was started."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = directory / f"{self.name}.log"
        self._process: GuardedProcess | None = None
        self._closed = False
        self._lock = threading.Lock()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What to run."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """All of its environment; nothing is inherited."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves clients now; called again and again while it starts."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since, by us or by itself."""
        return self._process is not None and self._process.running

    @property
    def server(self) -> psutil.Process:
        """The server itself. Raises NotRunning."""
        found = self._process.find(self.program) if self._process is not None else None
        if found is None:
            raise NotRunning(f"the {self.name} is not running")
        return found

    def start(self) -> None:
        """Bring it up on its port and data. Raises DidNotStart."""
        if self.running:
            return
        self._spawn()
        try:
            self._await_ready()
        except BaseException:
            self._release()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM); nothing if it is down."""
        if self._process is None:
            return
        with contextlib.suppress(NotRunning):
            server = self.server
            server.resume()
            server.terminate()
        self._await_end()

    def kill(self) -> None:
        """End it by SIGKILL. Raises NotRunning."""
        self.server.kill()
        self._await_end()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP). Raises NotRunning."""
        self.server.suspend()
        self._await_status(frozen=True)

    def thaw(self) -> None:
        """Let it go on (SIGCONT). Raises NotRunning."""
        self.server.resume()
        self._await_status(frozen=False)

    def close(self) -> None:
        """End it at once, also while another thread is starting it. It cannot be started again."""
        with self._lock:
            self._closed = True
        self._release()

    def _spawn(self) -> None:
        with self._lock:
            if self._closed:
                raise DidNotStart(f"the {self.name} was closed")
            self._process = GuardedProcess(self.command(), environment=self.environment(), log=self.log)

    def _await_ready(self) -> None:
        limit = time.monotonic() + START_LIMIT
        while not self.ready():
            if not self.running:
                raise DidNotStart(f"the {self.name} ended while it started; {self._log_tail()}")
            if time.monotonic() > limit:
                raise DidNotStart(f"the {self.name} was not ready after {START_LIMIT:.0f} s; {self._log_tail()}")
            time.sleep(LOOK_EVERY)

    def _await_end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._release()
            raise

    def _await_status(self, *, frozen: bool) -> None:
        # The signal is asynchronous: a thread of the server may run on for a moment.
        while (self.server.status() == psutil.STATUS_STOPPED) is not frozen:
            time.sleep(LOOK_EVERY)

    def _release(self) -> None:
        if self._process is not None:
            self._process.release()

    def _log_tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"{self.log} ends with:\n{text[-LOG_TAIL:]}"
