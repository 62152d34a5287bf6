"""The ingest process, put together."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

from contract.cancellation import end
from contract.connection import BrokerMisconfigured
from contract.grouping import Group, GroupLimits
from contract.incident import Incident
from contract.publisher import Publisher
from ingest.app import create_handlers, listening
from ingest.credentials import Credentials
from ingest.settings import Settings
from ingest.vitals import Vitals
from runtime.admin import serve_admin
from runtime.memory import settle_in
from runtime.metrics import new_registry
from runtime.notify import Supervisor, announcing
from runtime.process import run_process
from runtime.supervision import Misconfigured
from runtime.tracing import tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from ingest.spans import Spans

log = structlog.get_logger(__name__)

COMPLETION: Final = "_USAGE_INGEST_COMPLETE"
"""Set by a shell that asks, without any argument, how a line may go on."""


async def serve(settings: Settings, supervisor: Supervisor, stop: asyncio.Event) -> None:
    """Serve until `stop`, then finish what was accepted; raises Misconfigured."""
    trouble = Incident("spans lost", "spans exported")
    async with tracing("usage-ingest", trouble, drain_seconds=settings.drain_timeout) as tracer:
        await _serve(settings, supervisor, stop, None if tracer is None else _spans(tracer))


def _spans(tracer: "Tracer") -> "Spans":
    from ingest.spans import Spans  # noqa: PLC0415 - it loads an extra

    return Spans(tracer)


async def _serve(settings: Settings, supervisor: Supervisor, stop: asyncio.Event, spans: "Spans | None") -> None:
    registry = new_registry()
    vitals = Vitals(registry, alive=supervisor.alive)
    publisher = Publisher(
        settings.amqp_url,
        name="usage-ingest",
        deadline=settings.deadline,
        limits=GroupLimits(settings.group_events, settings.group_bytes, settings.groups_in_flight),
        observer=vitals,
        new_group=spans.new_group if spans else Group,
    )
    vitals.broker_ready.set_function(lambda: publisher.ready)
    supervisor.describe = lambda: "publishing" if publisher.ready else "waiting for the broker"
    credentials = Credentials(
        settings.auth,
        api_keys_file=settings.api_keys_file,
        signing_secrets_file=settings.signing_secrets_file,
    )
    handlers = create_handlers(settings, publisher, credentials, vitals)
    admin = serve_admin(
        settings.admin_host,
        settings.admin_port,
        explicit="admin_port" in settings.model_fields_set,
        unready=handlers.unready,
        registry=registry,
    )
    # Leaving goes in the opposite order: requests are finished before the publisher that answers them ends.
    async with (
        credentials.watching(),
        _running(publisher, stop),
        admin,
        listening(settings, handlers, spans.around if spans else None),
        announcing(supervisor, handlers.unready),
    ):
        settle_in()
        await stop.wait()


@asynccontextmanager
async def _running(publisher: Publisher, stop: asyncio.Event) -> AsyncIterator[None]:
    """Keep the publisher connected; when it ends by itself, so do we."""
    task = asyncio.create_task(publisher.run())
    task.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        await publisher.finish()
        await end(task)
    if not task.cancelled() and (exc := task.exception()) is not None:
        if isinstance(exc, BrokerMisconfigured):
            raise Misconfigured(f"INGEST_AMQP_URL cannot be used: {exc}") from exc
        raise exc


def main() -> int:
    """Run the process, or one of its commands; the return value is the exit code."""
    if sys.argv[1:] or COMPLETION in os.environ:
        from ingest import commands  # noqa: PLC0415 - what the server does not need need not be loaded

        commands.app(prog_name=commands.NAME)
    return run_process(Settings, serve)


if __name__ == "__main__":
    sys.exit(main())
