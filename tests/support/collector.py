"""A collector of traces: OTLP over HTTP, kept to be looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.waiting import eventually


@dataclass(frozen=True)
class Received:
    """A span, and which service it comes from."""

    service: str
    span: Span

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def links(self) -> list[tuple[str, str]]:
        """Traces and spans that it links to."""
        return [(link.trace_id.hex(), link.span_id.hex()) for link in self.span.links]

    @property
    def attributes(self) -> dict[str, str | int]:
        return {
            pair.key: pair.value.string_value if pair.value.HasField("string_value") else pair.value.int_value
            for pair in self.span.attributes
        }


@dataclass
class Collector:
    """What has been exported to it, in order."""

    url: str
    spans: list[Received] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        exported = ExportTraceServiceRequest.FromString(await request.read())
        for resource in exported.resource_spans:
            [service] = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            self.spans += [Received(service, span) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def span(self, kind: "Span.SpanKind.ValueType", attribute: str, value: str | int) -> Received:
        """Wait for the one span of this kind with this attribute."""

        def found() -> list[Received]:
            return [one for one in self.spans if one.span.kind == kind and one.attributes.get(attribute) == value]

        [span] = await eventually(found, what=f"a span with {attribute} {value}")
        return span


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector for the length of a block."""
    collector = Collector("")
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        collector.url = f"http://{host}:{port}"
        yield collector
    finally:
        await runner.cleanup()
