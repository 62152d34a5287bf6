"""How much work is let in at once."""

import asyncio
from dataclasses import dataclass


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

    def admit(self, size: int) -> "Admitted":
        """Hold `size` bytes of the limit while the block is in progress that this opens; entering raises Overloaded."""
        return Admitted(self, size)

    def take(self, size: int) -> None:
        """Begin a request; raises Overloaded."""
        if self.waiting_bytes + size > self._max_waiting_bytes:
            raise Overloaded("too many requests are waiting; try again shortly")
        self.waiting_bytes += size
        self._requests += 1
        self._idle.clear()

    def give_back(self, size: int) -> None:
        """End a request that was begun."""
        self.waiting_bytes -= size
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    async def idle(self) -> None:
        """Return when no request is under way."""
        await self._idle.wait()


@dataclass(slots=True)
class Admitted:
    """A request's share of the limit. Not a generator's context manager: that costs three times as much."""

    admission: Admission
    size: int

    def __enter__(self) -> None:
        self.admission.take(self.size)

    def __exit__(self, *_: object) -> None:
        self.admission.give_back(self.size)
