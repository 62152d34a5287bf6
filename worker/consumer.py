"""One session with the broker: what is delivered is decoded, and collected into batches."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiormq.abc import AbstractChannel

from contract.connection import BrokerUnavailable
from contract.event import UsageEvent
from contract.fields import current_time
from contract.incident import Incident
from worker.batching import Batch
from worker.breaker import Breaker
from worker.parking import DeadLetters
from worker.policies import PrefetchPolicy
from worker.settling import Settler
from worker.store import Store
from worker.subscription import Subscription, delivery_of
from worker.vitals import Vitals

if TYPE_CHECKING:
    from worker.spans import BatchSpans

IDLE: Final = 1.0
"""Seconds after which a session with nothing to do says that it is alive."""

BREATH: Final = 250
"""Events that are prepared at a stretch, half a millisecond, while the batch before waits for its turn to go on."""

RELEASE_AFTER: Final = 300.0
"""Seconds without the database after which what was delivered goes back to the queue: well below the half hour after
which the broker takes it back by itself, and long enough for a failover or a restart not to cost a delivery."""


class Session:
    """One channel's stream of deliveries, from subscribing until it is stopped or lost.

    A batch never outlives its session: its messages can only be settled on the channel that delivered them.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        dead_letters: DeadLetters,
        store: Store,
        policy: PrefetchPolicy,
        breaker: Breaker,
        *,
        stop: asyncio.Event,
        vitals: Vitals,
        spans: "BatchSpans | None" = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._breaker = breaker
        self._stop = stop
        self._vitals = vitals
        self._wake = asyncio.Event()
        self._subscription = Subscription(channel, policy, self._wake.set, spans.read if spans else delivery_of)
        self._settler = Settler(channel, dead_letters, store, policy.batch, abandoned=self._is_abandoned, vitals=vitals)
        self._write = spans.around(self._settler.write) if spans else self._settler.write
        self._safe_mode = Incident("safe mode", "safe mode over")
        self._writing: asyncio.Task[None] | None = None

    @property
    def unsettled(self) -> int:
        """How many messages have been delivered and are not done with."""
        return self._subscription.delivered - self._settler.acknowledged

    async def start(self) -> None:
        """Subscribe. Raises BrokerUnavailable."""
        await self._subscription.start()

    async def run(self) -> None:
        """Store batch after batch: while one is written, the next is collected.

        Returns when `stop` is set and everything that had arrived is settled. Raises BrokerUnavailable when the
        stream is lost, DatabaseUnavailable when MongoDB is away at a stop or for too long, BreakerOpen when what
        ingest sends is invalid; what is unsettled goes back to the queue.
        """
        stopping = asyncio.create_task(self._stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while (batch := await self._next_batch()) is not None:
                await self._written()
                self._writing = asyncio.create_task(self._write(batch))
                self._writing.add_done_callback(lambda _: self._wake.set())
                await asyncio.sleep(0)  # it goes first
                if not self._stop.is_set():
                    suspect = self._policy.is_suspect(batch.earlier_deliveries)
                    await self._subscription.retune(batch.shape, batch.messages, suspect=suspect)
                    self._vitals.prefetch.set(self._subscription.prefetch)
                    self._note_safe_mode(batch, is_on=suspect and self._subscription.prefetch == self._policy.first())
            await self._written()
            await self._settler.finish()
        finally:
            stopping.cancel()
            # A write in flight is never cancelled: the driver would go on with it behind our back, on the session
            # that the next batch needs.
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)
            await self._settler.close()

    def _note_safe_mode(self, batch: Batch, *, is_on: bool) -> None:
        self._vitals.safe_mode.set(is_on)
        if is_on:
            self._safe_mode.note(deliveries=batch.earlier_deliveries + 1, stamps=[str(name) for name in batch.single])
        else:
            self._safe_mode.end()

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing

    async def _next_batch(self) -> Batch | None:
        """Collect until the batch is full, or has waited long enough while nothing is being written."""
        batch = Batch()
        while True:
            self._wake.clear()
            if self._subscription.lost is not None:
                raise BrokerUnavailable(self._subscription.lost)
            if not self._is_writing:
                self._vitals.alive()
                await self._written()  # raises what it raised
            self._settler.look()
            if self._stop.is_set():
                await self._subscription.stop()
            await self._fill(batch)
            if self._is_due(batch):
                return batch
            if self._stop.is_set() and not self._subscription.arrived:
                return batch if batch.messages else None
            await self._more(batch)

    async def _fill(self, batch: Batch) -> None:
        arrived, events = self._subscription.arrived, list[UsageEvent]()
        received_at, now = current_time(), time.monotonic()
        while arrived and not self._is_full(batch):
            delivery = arrived.popleft()
            decoded = delivery.decode(received_at)
            self._breaker.note(delivery, decoded)
            batch.add(delivery, decoded, now)
            events += decoded.events
            if len(events) >= BREATH:
                await self._prepare(batch, events)
                events.clear()
        await self._prepare(batch, events)

    async def _prepare(self, batch: Batch, events: list[UsageEvent]) -> None:
        """Make drafts of these, for as long as there is nothing better to do."""
        for start in range(0, len(events), BREATH):
            if not self._is_writing:
                return
            batch.drafts.prepare(events[start : start + BREATH])
            await asyncio.sleep(0)

    def _is_full(self, batch: Batch) -> bool:
        # With a prefetch of 1 nothing more comes before this is settled.
        return batch.messages >= self._subscription.prefetch == 1 or self._policy.batch.is_full(
            batch.events, batch.size
        )

    def _is_due(self, batch: Batch) -> bool:
        if not batch.messages or self._is_writing:
            return False
        return self._is_full(batch) or self._remaining(batch) <= 0

    @property
    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _remaining(self, batch: Batch) -> float:
        return batch.opened_at + self._policy.batch.seconds - time.monotonic()

    async def _more(self, batch: Batch) -> None:
        """Wait for whatever changes what is to be done, or for as long as nothing may be heard of us."""
        seconds = self._remaining(batch) if batch.messages and not self._is_writing else IDLE
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _is_abandoned(self) -> bool:
        is_too_long = self._store.seconds_away > RELEASE_AFTER
        return self._stop.is_set() or self._subscription.lost is not None or is_too_long
