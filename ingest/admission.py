"""How much work is let in at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Overloaded(Exception):
    """More bytes are waiting than this process may hold; try again shortly."""


class Admission:
    """Counts the bytes of all requests under way, before they are read, and sheds what would be too much."""

    def __init__(self, max_waiting_bytes: int) -> None:
        self._max_waiting_bytes = max_waiting_bytes
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.waiting_bytes = 0

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold `size` bytes of the limit for the duration of a request; raises Overloaded."""
        if self.waiting_bytes + size > self._max_waiting_bytes:
            raise Overloaded("too many requests are waiting; try again shortly")
        self.waiting_bytes += size
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.waiting_bytes -= size
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def idle(self) -> None:
        """Return when no request is under way."""
        await self._idle.wait()
