"""Where spans go: by OTLP over HTTP, in a thread of their own, which the work never waits for."""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SPAN_LINK_COUNT_LIMIT
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from runtime.sampling import following_links

log = structlog.get_logger(__name__)

MOST_LINKS: Final = 1000
"""Of one span, unless the environment says how many: the usual 128 are fewer than the requests of a full message."""


class Trouble(Protocol):
    """Where it is told that spans cannot be exported, as often as that happens, and that they can be again."""

    def note(self, **why: Any) -> None:
        """Some could not be exported."""

    def end(self) -> bool:
        """Some could."""


@asynccontextmanager
async def exporting(service: str, trouble: Trouble, flush_seconds: float) -> AsyncIterator[Tracer]:
    """Yield a tracer; on leaving, export what is left, for so long at the most.

    The standard variables say where to, under which name, and how much of it.
    """
    provider = new_provider(service)
    provider.add_span_processor(BatchSpanProcessor(Exporter(trouble)))
    # What it says of its settings has been said; of its exports we tell, in words without its URL.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    try:
        yield provider.get_tracer("usage-ingest")
    finally:
        await _shut_down(provider, flush_seconds)


def new_provider(service: str) -> TracerProvider:
    """Set up all but where spans go."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    limits = SpanLimits(max_links=None if os.environ.get(OTEL_SPAN_LINK_COUNT_LIMIT) else MOST_LINKS)
    provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
    provider.sampler = following_links(provider.sampler)
    return provider


async def _shut_down(provider: TracerProvider, seconds: float) -> None:
    # A thread that nobody waits for at the exit: the library's own patience is 30 s, and cannot be told.
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: it has taken too long
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="last spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        log.warning("last spans not exported", seconds=seconds)


class Exporter(SpanExporter):
    """Exports by OTLP, and tells of trouble once, not once per attempt."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._session = _Session()
        self._exporter = OTLPSpanExporter(session=self._session)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, or drop, these spans."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._trouble.end()
        else:
            self._trouble.note(error=self._session.trouble, spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Session(requests.Session):
    """Remembers what was wrong with the last request, in words without its URL, which may hold a credential."""

    trouble = "cannot be encoded"

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().request(*args, **kwargs)
        except Exception as exc:
            self.trouble = type(exc).__name__
            raise
        self.trouble = f"HTTP {response.status_code}"
        return response
