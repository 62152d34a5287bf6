"""What keeps a process running in production: it is started again whenever it ends."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from contract.cancellation import end
from tests.support.logs import Tail
from tests.support.processes import Process
from tests.support.waiting import LONG, eventually

RESTART_SECONDS = 0.1
READY = {"ingest": "broker ready", "worker": '"event": "consuming"'}


class Supervisor:
    """One process over all its lives, which share a log."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.exits: Counter[int] = Counter()
        """How often it ended with which code; a signal's is negative."""
        self._ready = Tail(process.log, READY[process.module])
        self._ready_before = 0

    async def run(self) -> None:
        """Start it, again and again, until cancelled."""
        while True:
            await self.process.start()
            self.exits[await self.process.ended()] += 1
            await asyncio.sleep(RESTART_SECONDS)

    async def ready(self, *, seconds: float = LONG) -> None:
        """Wait until its present life has come to work."""
        await eventually(lambda: self._ready.count() > self._ready_before, seconds=seconds, what="a restart")

    async def kill(self) -> None:
        """SIGKILL; returns when the next life has begun, which need not work yet."""
        await eventually(lambda: self.process.running)
        self.process.signal(signal.SIGKILL)
        await self.restarted(self.exits.total())

    async def restarted(self, exits: int) -> None:
        """Wait until it has ended more often than so many times, and been started again."""
        await eventually(lambda: self.exits.total() > exits)
        self._ready_before = self._ready.count()
        await eventually(lambda: self.process.running)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the length of a block."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


@asynccontextmanager
async def supervised(process: Process) -> AsyncIterator[Supervisor]:
    """Supervise for the length of a block; at its end the process is told to stop, and must do so in order."""
    supervisor = Supervisor(process)
    task = asyncio.create_task(supervisor.run())
    try:
        await supervisor.ready()
        yield supervisor
        await supervisor.ready()  # a process that has only just been started does not heed a signal yet
        await end(task)
        if process.running:
            supervisor.exits[await process.stop()] += 1
    finally:
        await end(task)
        await process.close()
