"""The real commands as subprocesses."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tests.support.waiting import LONG, eventually

ROOT = Path(__file__).parents[2]


class Process:
    """`python -m <module>` with its own environment and a log file; perhaps started by another module."""

    def __init__(
        self,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        arguments: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self.module = module
        self.log = log
        self._arguments = arguments
        self._launcher = launcher
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        """Start it; nothing is awaited but the fork."""
        foreign = ("INGEST_", "WORKER_", "OTEL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-W", "error", "-m", *self._launcher, self.module, *self._arguments),
                cwd=ROOT,
                env={**kept, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def text(self) -> str:
        """Everything it has logged."""
        return self.log.read_text()

    async def logged(self, pattern: str, *, seconds: float = LONG) -> re.Match[str]:
        """Wait until a line matches; the last match is returned."""

        def last() -> re.Match[str] | None:
            assert self.running, f"{self.module} ended:\n{self.text}"
            found = list(re.finditer(pattern, self.text))
            return found[-1] if found else None

        return await eventually(last, seconds=seconds, what=f"{self.module} to log {pattern!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, *, seconds: float = LONG) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            return await self.ended()

    async def ended(self) -> int:
        """Its exit code, whenever that may be."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def close(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.running:
            await self.kill()


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    """Run a process for the length of a block; nothing is awaited but the fork."""
    await process.start()
    try:
        yield process
    finally:
        await process.close()
