"""The group of events that one message carries: the only state a publish has."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contract import origin
from contract.stamp import Stamp, Stamper


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """How much goes into one message, and how many messages await their confirm at once."""

    events: int = 500
    bytes: int = 256 * 1024
    in_flight: int = 2


DEFAULT_LIMITS: Final = GroupLimits()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message as it was first sent, and will be sent again."""

    body: bytes
    stamp: Stamp
    headers: dict[str, Any]


@dataclass(slots=True)
class Group:
    """Events that travel as one message, with the callers that wait for its confirm; a mark has no events."""

    events: list[bytes] = field(default_factory=list)
    size: int = len(b"[")
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Whose events they are, in their order; none where there are no requests."""
    sealed: Sealed | None = None
    expiry: asyncio.TimerHandle | None = None
    settled: bool = False

    def takes(self, events: Sequence[bytes], size: int, limits: GroupLimits) -> bool:
        """Whether so many bytes of events may still join."""
        is_open = self.sealed is None and not self.settled
        return is_open and len(self.events) + len(events) <= limits.events and self.size + size <= limits.bytes

    def add(self, events: Sequence[bytes], size: int, waiter: asyncio.Future[None]) -> None:
        """Let these events join; their caller waits for `waiter`."""
        self.events.extend(events)
        self.size += size
        self.waiters.append(waiter)

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for the confirm."""
        return any(not waiter.done() for waiter in self.waiters)

    def seal(self, stamper: Stamper) -> Sealed:
        """Fix the message for good: a republish must be the same, byte for byte and header for header."""
        if self.sealed is None:
            stamp = stamper.stamp(len(self.events))
            headers = stamp.to_headers()
            if self.requests:
                headers[origin.REQUESTS] = origin.join(self.requests)
            self.sealed = Sealed(b"[" + b",".join(self.events) + b"]", stamp, headers)
        return self.sealed

    def settle(self, error: Exception | None = None) -> None:
        """Answer everybody who still waits: it is confirmed, or this is what happened instead."""
        self.settled = True
        if self.expiry is not None:
            self.expiry.cancel()
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
