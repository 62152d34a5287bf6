"""Telling the supervisor how this process is, by systemd's notification protocol: sd_notify(3)."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

import structlog

from runtime.supervision import pause

log = structlog.get_logger(__name__)

SECOND: Final = 1.0
"""How often, at the most, a status or a sign of life is sent."""
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at whether a process that starts is ready."""
MARGIN: Final = 5.0
"""Seconds beyond our own drain deadline for which the supervisor is asked to wait."""


class Supervisor:
    """Whoever started us, if it listens; nothing is sent, and nothing ever raised, when it does not.

    `alive` is called by the loop that does the work each time that it gets on, and while it has nothing to do: when
    it hangs, a watchdog runs out. A timer of its own would tell only that there is an event loop.
    """

    def __init__(self, address: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`address` is a path, or a name behind an @: a socket of datagrams."""
        self.describe: Callable[[], str] = str
        """What is sent as the status: one line that is true now."""
        self._clock = clock
        self._told_at = -SECOND
        self._is_ready = False
        # An @ stands for the NUL of a name that is no path.
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The one that NOTIFY_SOCKET names."""
        return cls(environment.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        """The process can do its work; said once, later it is the status that tells."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1", f"STATUS={self.describe()}")

    def alive(self) -> None:
        """The work gets on, or there is none."""
        now = self._clock()
        if now - self._told_at >= SECOND:
            self._told_at = now
            self._send("WATCHDOG=1", f"STATUS={self.describe()}")

    def stopping(self, seconds: float) -> None:
        """The process is about to end, which may take this long."""
        microseconds = int((seconds + MARGIN) * 1e6)
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={microseconds}", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as exc:
            # Whoever listened has gone, or does not read: that must not end what it supervises.
            log.debug("supervisor not told", error=str(exc))


@asynccontextmanager
async def announcing(
    supervisor: Supervisor, unready: Callable[[], Awaitable[Mapping[str, str]]]
) -> AsyncIterator[None]:
    """Say that the process is ready as soon as nothing is down that it needs, during this block."""
    over = asyncio.Event()

    async def announce() -> None:
        while not over.is_set():
            if not await unready():
                supervisor.ready()
                return
            await pause(LOOK_EVERY, over)

    announcement = asyncio.create_task(announce())
    try:
        yield
    finally:
        over.set()
        await announcement
