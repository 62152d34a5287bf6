"""Ingest with worker as processes of this machine, on a devstack's broker and database."""

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.ports import LOOPBACK, free_port, is_free
from devstack.processes import GuardedProcess
from devstack.service import DidNotStart

START_LIMIT = 60.0
STOP_LIMIT = 40.0
"""Seconds; longer than the processes' own drain timeout."""

ADMIN_PORTS = {"ingest": 9101, "worker": 9102}
"""Where the commands look for both, unless told otherwise."""

ROOT = Path(__file__).parents[1]


class DidNotDrain(Exception):
    """A process did not finish what it had accepted, or had ended before it was told to; the text has its log."""


class Application:
    """Both processes, ready, until the end of the with statement; then they finish what they accepted.

    port: the public one; where it or the default of an admin port is taken, a free one takes its place.
    On leaving raises DidNotDrain.
    """

    def __init__(self, amqp_url: str, mongodb_uri: str, logs: Path, *, port: int) -> None:
        self.port = _rather(port)
        self._admin_ports = {module: _rather(admin_port) for module, admin_port in ADMIN_PORTS.items()}
        self.variables = {
            "INGEST_AMQP_URL": amqp_url,
            "WORKER_AMQP_URL": amqp_url,
            "WORKER_MONGODB_URI": mongodb_uri,
            "AMQP_URL": amqp_url,
            "USAGE_URL": self.url,
        }
        """By which commands and examples find all of this."""
        self._logs = logs
        self._environments = {
            "ingest": {
                "INGEST_AMQP_URL": amqp_url,
                "INGEST_PORT": str(self.port),
                "INGEST_ADMIN_PORT": str(self._admin_ports["ingest"]),
            },
            "worker": {
                "WORKER_AMQP_URL": amqp_url,
                "WORKER_MONGODB_URI": mongodb_uri,
                "WORKER_ADMIN_PORT": str(self._admin_ports["worker"]),
            },
        }
        self._processes: dict[str, GuardedProcess] = {}

    @property
    def url(self) -> str:
        """Where records are posted."""
        return f"http://{LOOPBACK}:{self.port}"

    def admin_url(self, module: str) -> str:
        """The base of a process's admin port."""
        return f"http://{LOOPBACK}:{self._admin_ports[module]}"

    @property
    def moved(self) -> dict[str, str]:
        """The admin URLs that are not where commands look for them, by module."""
        return {
            module: self.admin_url(module) for module in ADMIN_PORTS if self._admin_ports[module] != ADMIN_PORTS[module]
        }

    def log(self, module: str) -> Path:
        """What a process has logged."""
        return self._logs / f"{module}.log"

    def __enter__(self) -> Self:
        for module, settings in self._environments.items():
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
            command = [sys.executable, "-m", module]
            self._processes[module] = GuardedProcess(command, environment=environment, log=self.log(module))
        try:
            self._await_ready()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        undone = [(module, code) for module, code in self._close().items() if code]
        if undone:
            told = (f"{one} ended with {code}, not 0; it logged:\n{self.log(one).read_text()}" for one, code in undone)
            raise DidNotDrain("\n".join(told))

    def _await_ready(self) -> None:
        limit = time.monotonic() + START_LIMIT
        while not all(_is_ready(self.admin_url(module)) for module in self._environments):
            if time.monotonic() > limit or not all(process.running for process in self._processes.values()):
                logs = "\n".join(self.log(module).read_text() for module in self._environments)
                raise DidNotStart(f"ingest or worker did not start; they logged:\n{logs}")
            time.sleep(0.05)

    def _close(self) -> dict[str, int]:
        for process in self._processes.values():
            process.terminate()
        return {module: process.wait(STOP_LIMIT) for module, process in self._processes.items()}


def _rather(port: int) -> int:
    return port if is_free(port) else free_port()


def _is_ready(admin_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{admin_url}/readyz", timeout=2):
            return True
    except OSError:
        return False
