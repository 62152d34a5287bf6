"""Reading the dead letters, each of which stays in the queue until it is settled."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from aiormq.abc import AbstractChannel, DeliveredMessage

from contract import topology
from contract.connection import BrokerConnection, BrokerUnavailable, translated
from worker.dead_letters.letter import DeadLetter
from worker.glance import DeadLettersBusy, depth_of

WINDOW: Final = 300
"""Letters that are looked at, and settled, together: at most three times as many are in memory."""

CONSUMERS: Final = 2

IDLE_SECONDS: Final = 5.0
"""Without a letter for so long, what was counted is not there any more."""

RPC_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """A dead letter with its receipt: unless it is settled, it goes back when the connection ends."""

    tag: int
    letter: DeadLetter


class Browser:
    """Goes once through the letters that lay there when it was opened; what is parked meanwhile is left alone.

    The broker stops delivering when a consumer holds as many unsettled letters as its prefetch allows. So each window
    has a consumer of its own, on one channel: whatever is left unsettled, and however slow the reader is, no more
    than three windows are under way. What is left goes back window by window, which may come in another order.
    """

    def __init__(self, connection: BrokerConnection, channel: AbstractChannel, count: int) -> None:
        """For `open`."""
        self._connection = connection
        self._channel = channel
        self.count = count
        """Letters there were when it was opened."""
        self.read = 0
        """Letters it has gone through."""
        self._consumers: deque[str] = deque()
        self._arrived: deque[Held] = deque()
        self._arrival = asyncio.Event()
        self._lost: str | None = None

    @classmethod
    async def open(cls, connection: BrokerConnection) -> Self:
        """Begin to read; until the connection ends, nobody else sees the letters.

        Raises DeadLettersBusy, BrokerUnavailable.
        """
        depth = await depth_of(connection, topology.DEAD_QUEUE)
        _refuse_company(depth.consumers)
        browser = cls(connection, await connection.driver_channel(), depth.ready)
        await browser._start()
        return browser

    async def _start(self) -> None:
        self._channel.on_consumer_cancel_callbacks.add(lambda _: self._lose("the broker ended the reading"))
        self._channel.closing.add_done_callback(lambda _: self._lose("the channel was closed"))
        with translated():
            await self._channel.basic_qos(prefetch_count=WINDOW, timeout=RPC_TIMEOUT)
        await self._ask_for_more()
        # Two that began at the same moment have not seen each other before.
        _refuse_company((await depth_of(self._connection, topology.DEAD_QUEUE)).consumers - 1)

    async def next(self) -> list[Held]:
        """Return the next letters; none when all have been read. Raises BrokerUnavailable."""
        wanted = min(WINDOW, self.count - self.read)
        if len(self._arrived) < wanted and self.read:
            await self._ask_for_more()
        while len(self._arrived) < wanted:
            if self._lost is not None:
                raise BrokerUnavailable(f"the dead letters cannot be read on: {self._lost}")
            if not await self._has_arrived():
                break
        window = [self._arrived.popleft() for _ in range(min(wanted, len(self._arrived)))]
        self.read += len(window)
        return window

    async def settle(self, letters: Iterable[Held]) -> None:
        """Take these out of the queue, for ever. Raises BrokerUnavailable."""
        with translated():
            for held in letters:
                await self._channel.basic_ack(held.tag, wait=False)

    async def finish(self) -> None:
        """Return when all that was settled is gone from the queue. Raises BrokerUnavailable.

        When the connection ends, acknowledgements that are still on their way are forgotten: by the driver, which
        writes them when it finds the time, and by the broker, which keeps them back while 32 are under way to the
        queue.
        """
        # The queue answers in order, each time two calls: those that were kept back come before the last ones.
        for _ in range(2):
            await self._ask_for_more()

    async def _ask_for_more(self) -> None:
        with translated():
            ok = await self._channel.basic_consume(topology.DEAD_QUEUE, self._receive, timeout=RPC_TIMEOUT)
            self._consumers.append(ok.consumer_tag or "")
            # Not the last one: it may have room again for what was settled, and what is delivered to a consumer while
            # it is cancelled can be lost on the way. There is always one, so at no moment the queue seems to be free.
            if len(self._consumers) > CONSUMERS:
                await self._channel.basic_cancel(self._consumers.popleft(), timeout=RPC_TIMEOUT)

    async def _receive(self, message: DeliveredMessage) -> None:
        self._arrived.append(Held(message.delivery_tag or 0, DeadLetter.of(message)))
        self._arrival.set()

    async def _has_arrived(self) -> bool:
        """Wait for a letter; False when none comes though the broker is at work. Raises BrokerUnavailable."""
        self._arrival.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._arrival.wait()
        except TimeoutError:
            await depth_of(self._connection, topology.DEAD_QUEUE)
            return False
        return True

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._arrival.set()


def _refuse_company(others: int) -> None:
    if others > 0:
        raise DeadLettersBusy("somebody else is reading the dead letters")
