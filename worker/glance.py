"""Looking at the queues, and leaving everything in them where it is."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage

from contract import topology
from contract.connection import BrokerConnection, translated
from worker.dead_letters.letter import DeadLetter

PREFETCH: Final = 65_535
"""The most that a channel can have unsettled; 0 would mean 2000 on a quorum queue."""

IDLE_SECONDS: Final = 5.0
"""Without a delivery for so long, what was counted is not there any more."""

RPC_TIMEOUT: Final = 5.0


class DeadLettersBusy(Exception):
    """Somebody else reads the dead letters, and holds some that cannot be seen meanwhile."""


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue as the broker describes it."""

    ready: int
    """Without those delivered and unsettled, which are counted nowhere that this protocol reaches."""
    consumers: int


async def depth_of(connection: BrokerConnection, queue: str) -> Depth:
    """Ask for the depth of a queue. Raises BrokerUnavailable."""
    channel = await connection.driver_channel()
    try:
        return await _depth(channel, queue)
    finally:
        await _close(channel)


async def see_letters(connection: BrokerConnection, see: Callable[[DeadLetter], None]) -> int:
    """Show `see` every dead letter that lies in the queue now, put them back, and say how many there are.

    Raises DeadLettersBusy, BrokerUnavailable.
    """
    async with AsyncExitStack() as stack:
        channel = await connection.driver_channel()
        stack.push_async_callback(_close, channel)
        depth = await _depth(channel, topology.DEAD_QUEUE)
        if depth.consumers:
            raise DeadLettersBusy("somebody else is reading the dead letters")
        reading = _Reading(see, depth.ready)
        while not reading.is_done:
            await reading.fill(channel)
            if not reading.is_done:
                channel = await connection.driver_channel()
                stack.push_async_callback(_close, channel)
        return reading.seen


class _Reading:
    """Counts what is delivered, channel after channel."""

    def __init__(self, see: Callable[[DeadLetter], None], expected: int) -> None:
        self._see = see
        self._expected = expected
        self._progress = asyncio.Event()
        self._limit = 0
        self._is_idle = False
        self.seen = 0

    @property
    def is_done(self) -> bool:
        return self._is_idle or self.seen >= self._expected

    async def fill(self, channel: AbstractChannel) -> None:
        """Have as much delivered to a channel as it takes."""
        self._limit = min(self._expected, self.seen + PREFETCH)
        with translated():
            await channel.basic_qos(prefetch_count=PREFETCH, timeout=RPC_TIMEOUT)
            ok = await channel.basic_consume(topology.DEAD_QUEUE, self._receive, timeout=RPC_TIMEOUT)
        await self._until_full()
        with translated():
            await channel.basic_cancel(ok.consumer_tag or "", timeout=RPC_TIMEOUT)

    async def _receive(self, message: DeliveredMessage) -> None:
        # What comes beyond the count was parked since, or is what a cancelled consumer still had under way.
        self._see(DeadLetter.of(message))
        self.seen += 1
        self._progress.set()

    async def _until_full(self) -> None:
        try:
            while self.seen < self._limit:
                self._progress.clear()
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._progress.wait()
        except TimeoutError:
            self._is_idle = True


async def _depth(channel: AbstractChannel, queue: str) -> Depth:
    with translated():
        declared = await channel.queue_declare(queue, passive=True, timeout=RPC_TIMEOUT)
    return Depth(declared.message_count or 0, declared.consumer_count or 0)


async def _close(channel: AbstractChannel) -> None:
    with translated():
        async with asyncio.timeout(RPC_TIMEOUT):
            await channel.close()
