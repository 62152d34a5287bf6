"""Keeping a session with the broker, for as long as the process lives."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from contract.backoff import Backoff
from contract.connection import BrokerMisconfigured, BrokerUnavailable, connect
from contract.incident import Incident
from runtime.supervision import pause
from worker.breaker import Breaker, BreakerOpen
from worker.consumer import IDLE, Session
from worker.database_errors import DatabaseUnavailable
from worker.parking import DeadLetters
from worker.policies import BatchPolicy, BreakerPolicy, PrefetchPolicy
from worker.store import OUTAGE_BACKOFF, Store
from worker.vitals import Vitals

if TYPE_CHECKING:
    from worker.spans import BatchSpans

log = structlog.get_logger(__name__)

RECONNECT: Final = Backoff(first=0.05, cap=2.0)


class Consumer:
    """Runs one session after the other; what is unsettled when one ends goes back to the queue."""

    def __init__(
        self,
        url: str,
        store: Store,
        *,
        name: str,
        batches: BatchPolicy,
        vitals: Vitals,
        spans: "Callable[[], BatchSpans] | None" = None,
    ) -> None:
        """Prepare; the vitals hear whenever consuming gets on, and each second while there is nothing to do.

        `spans` makes those of one session, in a process that traces.
        """
        self._spans = spans
        self._vitals = vitals
        self._url = url
        self._store = store
        self._name = name
        self._policy = PrefetchPolicy(batches)
        self._breaker = Breaker(BreakerPolicy())
        self._trouble = Incident("broker lost", "consuming")
        self._was_ready = False
        self._failures = 0
        self._current: Session | None = None
        self.ready = False

    @property
    def breaker_is_open(self) -> bool:
        """Whether it has stopped to consume for good."""
        return self._breaker.is_open

    @property
    def unsettled(self) -> int:
        """How many messages have been delivered and are not done with; what a session leaves goes back."""
        return self._current.unsettled if self._current is not None else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`; then settle what has arrived, unless broker or database are away.

        Raises BrokerMisconfigured at first contact; later that is an outage like any other.
        """
        while not stop.is_set():
            try:
                if self._store.available or await self._database_back(stop):
                    await self._session(stop)
            except BreakerOpen as exc:
                # Not an exit: each restart would bring the same messages nearer to their delivery limit.
                log.error("breaker open", error=str(exc))  # noqa: TRY400 - a traceback would say nothing more
                self.ready = False
                await self._stand_by(stop)
            except DatabaseUnavailable as exc:
                log.warning("batch returned to the queue", error=str(exc))
            except (BrokerUnavailable, BrokerMisconfigured) as exc:
                if isinstance(exc, BrokerMisconfigured) and not self._was_ready:
                    raise
                self._failures += 1
                self._trouble.note(error=str(exc))
                self._vitals.alive()
                await pause(RECONNECT.delay(self._failures), stop)
            finally:
                self.ready = False
                self._current = None

    async def _stand_by(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._vitals.alive()
            await pause(IDLE, stop)

    async def _database_back(self, stop: asyncio.Event) -> bool:
        """Wait until writes are possible; False when told to stop meanwhile.

        What was delivered during an outage would only come nearer to its delivery limit.
        """
        failures = 0
        while not stop.is_set():
            if await self._store.prove_writes():
                return True
            failures += 1
            self._vitals.alive()
            await pause(OUTAGE_BACKOFF.delay(failures), stop)
        return False

    async def _session(self, stop: asyncio.Event) -> None:
        # Parking has a connection of its own: in an alarm the broker stops reading from those that publish, and with
        # them their acknowledgements.
        async with (
            connect(self._url, name=self._name) as connection,
            connect(self._url, name=f"{self._name}-dead-letters") as second,
        ):
            session = Session(
                await connection.driver_channel(),
                DeadLetters(await second.driver_channel()),
                self._store,
                self._policy,
                self._breaker,
                stop=stop,
                vitals=self._vitals,
                spans=self._spans() if self._spans else None,
            )
            await session.start()
            self._current = session
            self.ready = self._was_ready = True
            self._failures = 0
            self._vitals.sessions.inc()
            if not self._trouble.end():
                log.info("consuming")
            await session.run()
