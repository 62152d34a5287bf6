"""How much work is let in at once."""

import asyncio
from dataclasses import dataclass
from typing import Final, Self

BESIDE_BODY: Final = 4096
"""Bytes that a request counts beside its body: many small ones hold memory too."""


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
        """Hold a body of `size` bytes, and what goes with it, while the block is in progress that this opens.

        Entering raises Overloaded.
        """
        return Admitted(self, size + BESIDE_BODY)

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

    def __enter__(self) -> Self:
        self.admission.take(self.size)
        return self

    def shrink(self, size: int) -> None:
        """Give back what a body of no more than `size` bytes does not need: before it was read, it was to be feared."""
        spare = self.size - size - BESIDE_BODY
        if spare > 0:
            self.admission.waiting_bytes -= spare
            self.size -= spare

    def __exit__(self, *_: object) -> None:
        self.admission.give_back(self.size)
