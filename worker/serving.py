"""The worker process, put together."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from contract.connection import BrokerMisconfigured
from contract.incident import Incident
from runtime.admin import serve_admin
from runtime.memory import settle_in
from runtime.metrics import new_registry
from runtime.notify import Supervisor, announcing
from runtime.supervision import Misconfigured, pause
from runtime.tracing import tracing
from worker.database import Database
from worker.database_errors import DatabaseMisconfigured, DatabaseUnavailable
from worker.policies import BatchPolicy
from worker.sessions import Consumer
from worker.settings import Settings
from worker.store import OUTAGE_BACKOFF, Store
from worker.vitals import Vitals

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from worker.spans import BatchSpans

PING_SECONDS = 1.0


async def serve(settings: Settings, supervisor: Supervisor, stop: asyncio.Event) -> None:
    """Consume until `stop`; raises Misconfigured."""
    try:
        database = Database(settings.mongodb_uri, settings.mongodb_database, timeout_seconds=settings.mongodb_timeout)
        try:
            trouble = Incident("spans lost", "spans exported")
            async with tracing("usage-worker", trouble, drain_seconds=settings.drain_timeout) as tracer:
                await _consume(settings, database, supervisor, stop, None if tracer is None else _spans_of(tracer))
        finally:
            await database.close()
    except BrokerMisconfigured as exc:
        raise Misconfigured(f"WORKER_AMQP_URL cannot be used: {exc}") from exc
    except DatabaseMisconfigured as exc:
        raise Misconfigured(f"WORKER_MONGODB_URI cannot be used: {exc}") from exc


def _spans_of(tracer: "Tracer") -> "Callable[[], BatchSpans]":
    from worker.spans import BatchSpans  # noqa: PLC0415 - it loads an extra

    return partial(BatchSpans, tracer)


async def _consume(
    settings: Settings,
    database: Database,
    supervisor: Supervisor,
    stop: asyncio.Event,
    spans: "Callable[[], BatchSpans] | None",
) -> None:
    batches = BatchPolicy(settings.batch_events, settings.batch_bytes, settings.batch_seconds)
    registry = new_registry()
    vitals = Vitals(registry, alive=supervisor.alive)
    store = Store(database, vitals=vitals)
    consumer = Consumer(settings.amqp_url, store, name="usage-worker", batches=batches, vitals=vitals, spans=spans)
    vitals.broker_ready.set_function(lambda: consumer.ready)
    vitals.database_ready.set_function(lambda: database.is_prepared and store.available)
    vitals.breaker_open.set_function(lambda: consumer.breaker_is_open)
    vitals.unsettled.set_function(lambda: consumer.unsettled)
    supervisor.describe = partial(_describe, database, store, consumer)
    unready = partial(_unready, database, consumer)
    admin = serve_admin(
        settings.admin_host,
        settings.admin_port,
        explicit="admin_port" in settings.model_fields_set,
        unready=unready,
        registry=registry,
    )
    async with admin, announcing(supervisor, unready):
        if await _prepare(database, supervisor, stop):
            settle_in()
            await consumer.run(stop)


async def _prepare(database: Database, supervisor: Supervisor, stop: asyncio.Event) -> bool:
    """Wait for the database; False when told to stop meanwhile."""
    failures = 0
    away = Incident("database away", "database ready")
    while not stop.is_set():
        try:
            await database.prepare()
        except DatabaseUnavailable as exc:
            failures += 1
            away.note(error=str(exc))
            supervisor.alive()
            await pause(OUTAGE_BACKOFF.delay(failures), stop)
        else:
            away.end()
            return True
    return False


def _describe(database: Database, store: Store, consumer: Consumer) -> str:
    if consumer.breaker_is_open:
        return "stopped consuming: what ingest sends is invalid here"
    if not (database.is_prepared and store.available):
        return "waiting for the database"
    return "consuming" if consumer.ready else "waiting for the broker"


async def _unready(database: Database, consumer: Consumer) -> dict[str, str]:
    down = {} if consumer.ready else {"broker": "not consuming"}
    if consumer.breaker_is_open:
        down = {"breaker": "open: what ingest sends is invalid here; see the log, and update this worker"}
    try:
        async with asyncio.timeout(PING_SECONDS):
            await database.ping()
    except (DatabaseUnavailable, TimeoutError):
        down["database"] = "does not answer"
    return down
