"""One session with the broker: deliver, decode, batch, write, settle."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import structlog
from aiormq.abc import AbstractChannel

from contract.backoff import Backoff
from contract.cancellation import end
from contract.connection import BrokerMisconfigured, BrokerUnavailable, connect, driver_channel, translated
from contract.event import Rejected, decode
from contract.fields import truncate
from runtime.supervision import pause
from worker.batching import Batch
from worker.database import DatabaseUnavailable
from worker.deadletters import DeadLetters
from worker.policies import BatchPolicy, PrefetchPolicy
from worker.store import Outcome, Store
from worker.subscription import Subscription

log = structlog.get_logger(__name__)

RECONNECT: Final = Backoff(first=0.05, cap=2.0)
PARK_PATIENCE: Final = 3.0
"""Seconds for which a stop waits for dead letters to be confirmed."""


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
        stop: asyncio.Event,
    ) -> None:
        self._channel = channel
        self._dead_letters = dead_letters
        self._store = store
        self._policy = policy
        self._stop = stop
        self._wake = asyncio.Event()
        self._subscription = Subscription(channel, policy, self._wake.set)
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Store batch after batch: while one is written, the next is collected.

        Returns when `stop` is set and everything that had arrived is settled. Raises BrokerUnavailable when the
        stream is lost, DatabaseUnavailable when it was to stop while MongoDB is away; what is unsettled goes back
        to the queue either way.
        """
        stopping = asyncio.create_task(self._stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            await self._subscription.start()
            while (batch := await self._next_batch()) is not None:
                await self._written()
                self._writing = asyncio.create_task(self._write(batch))
                self._writing.add_done_callback(lambda _: self._wake.set())
                if not self._stop.is_set():
                    suspect = self._policy.is_suspect(batch.earlier_deliveries)
                    await self._subscription.retune(batch.shape, batch.messages, suspect=suspect)
            await self._written()
        finally:
            stopping.cancel()
            # A write in flight is never cancelled: the driver would go on with it behind our back, on the session
            # that the next batch needs.
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)

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
                await self._written()  # raises what it raised
            if self._stop.is_set():
                await self._subscription.stop()
            self._fill(batch)
            if self._is_due(batch):
                return batch
            if self._stop.is_set() and not self._subscription.arrived:
                return batch if batch.messages else None
            await self._more(batch)

    def _fill(self, batch: Batch) -> None:
        arrived = self._subscription.arrived
        while arrived and not self._is_full(batch):
            delivery = arrived.popleft()
            decoded = decode(delivery.body, source=delivery.source, now=truncate(datetime.now(UTC)))
            batch.add(
                delivery.tag,
                len(delivery.body),
                decoded,
                earlier_deliveries=delivery.earlier_deliveries,
                now=time.monotonic(),
            )

    def _is_full(self, batch: Batch) -> bool:
        # With a prefetch of 1 nothing more comes before this is settled.
        return batch.messages >= self._subscription.prefetch == 1 or self._policy.batch.is_full(
            len(batch.events), batch.size
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
        """Wait for whatever changes what is to be done."""
        seconds = self._remaining(batch) if batch.messages and not self._is_writing else None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write(self, batch: Batch) -> None:
        await self._park(batch.rejected)
        outcome = await self._store_all(batch)
        with translated():
            await self._channel.basic_ack(batch.last_tag, multiple=True, wait=False)
        log.debug("batch", messages=batch.messages, redelivered=batch.redelivered, **asdict(outcome))

    async def _store_all(self, batch: Batch) -> Outcome:
        """Store in one transaction; in several, when one message alone is more than a transaction should hold.

        That is safe in parts: what is stored before a redelivery is a duplicate after it.
        """
        total, most = Outcome(), self._policy.batch.events * 2
        for start in range(0, len(batch.events), most):
            part = batch.events[start : start + most]
            total += await self._store.write(part, self._park, abandoned=self._is_abandoned)
        return total

    async def _park(self, rejected: Sequence[Rejected]) -> None:
        """Park, for as long as it takes; raises BrokerUnavailable when that, or the wait for it, must end."""
        if not rejected:
            return
        parking = asyncio.create_task(self._dead_letters.park(rejected))
        while not parking.done():
            await asyncio.wait([parking], timeout=PARK_PATIENCE)
            if self._is_abandoned() and not parking.done():
                # The broker is blocked by an alarm, and we are to stop: what is not settled goes back to the queue.
                await end(parking)
                raise BrokerUnavailable("the broker does not confirm dead letters")
        parking.result()

    def _is_abandoned(self) -> bool:
        return self._stop.is_set() or self._subscription.lost is not None


class Consumer:
    """Keeps a session, for as long as the process lives."""

    def __init__(self, url: str, store: Store, *, name: str, batches: BatchPolicy) -> None:
        self._url = url
        self._store = store
        self._name = name
        self._policy = PrefetchPolicy(batches)
        self._was_ready = False
        self.ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`; then settle what has arrived, unless broker or database are away.

        Raises BrokerMisconfigured at first contact; later that is an outage like any other.
        """
        failures = 0
        while not stop.is_set():
            try:
                await self._session(stop)
            except DatabaseUnavailable as exc:
                log.warning("batch returned to the queue", error=str(exc))
            except (BrokerUnavailable, BrokerMisconfigured) as exc:
                if isinstance(exc, BrokerMisconfigured) and not self._was_ready:
                    raise
                failures = 1 if self.ready else failures + 1
                if failures == 1:
                    log.warning("broker lost", error=str(exc))
            finally:
                self.ready = False
            await pause(RECONNECT.delay(failures), stop)

    async def _session(self, stop: asyncio.Event) -> None:
        async with connect(self._url, name=self._name) as connection:
            # Two channels: each is held here, for the driver keeps no hold of it.
            consuming, parking = await connection.channel(), await connection.channel()
            session = Session(
                await driver_channel(consuming),
                DeadLetters(await driver_channel(parking)),
                self._store,
                self._policy,
                stop,
            )
            self.ready = self._was_ready = True
            log.info("consuming")
            await session.run()
