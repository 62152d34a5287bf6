"""From a request's trace to the batch that stored its event, as a collector sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.collector import Collector, Received, collecting
from tests.support.logs import entries
from tests.support.pair import EXAMPLE, Pair, Site, running_pair
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
MANY = 300
PASSWORD = "hunter2-geheim"  # noqa: S105 - not one


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as collector:
        yield collector


@pytest.fixture
async def pair(site: Site, collector: Collector) -> AsyncIterator[Pair]:
    site.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    async with running_pair(site) as pair:
        yield pair


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """The URL of who takes everything, and never answers."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())


async def test_one_trace_leads_from_the_request_by_its_message_to_the_batch(
    pair: Pair, collector: Collector, http: aiohttp.ClientSession
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "traced-1"}
    async with http.post(pair.usage_url(), json=EXAMPLE, headers=headers) as response:
        assert response.status == 200, await response.text()

    request = await collector.span(Span.SPAN_KIND_SERVER, "usage.request_id", "traced-1")
    assert (request.service, request.trace_id, request.parent_id) == ("usage-ingest", TRACE, CALLER)
    assert request.attributes["http.response.status_code"] == 200

    message = await collector.span(Span.SPAN_KIND_PRODUCER, "usage.events", 1)
    assert (message.service, message.trace_id, message.parent_id) == ("usage-ingest", TRACE, request.span_id)
    assert message.links == [(TRACE, request.span_id)]

    batch = await collector.span(Span.SPAN_KIND_CONSUMER, "usage.events", 1)
    assert (batch.service, batch.parent_id) == ("usage-worker", "")
    assert batch.links == [(TRACE, message.span_id)]
    assert batch.span.status.code == Status.STATUS_CODE_UNSET
    assert batch.trace_id != TRACE

    # What a process still holds when it is stopped comes, too.
    async with http.post(pair.usage_url(), json={}, headers={**headers, "X-Request-Id": "traced-2"}) as response:
        assert response.status == 400
    assert await pair.ingest.stop() == 0
    refused = await collector.span(Span.SPAN_KIND_SERVER, "usage.request_id", "traced-2")
    assert refused.attributes["http.response.status_code"] == 400


async def test_of_many_requests_each_leads_to_one_message_and_each_message_to_one_batch(
    pair: Pair, collector: Collector, http: aiohttp.ClientSession
) -> None:
    async def post() -> None:
        async with http.post(pair.usage_url(), json=EXAMPLE) as response:
            assert response.status == 200

    def of_kind(kind: Span.SpanKind.ValueType) -> list[Received]:
        return [one for one in collector.spans if one.span.kind == kind]

    def events(kind: Span.SpanKind.ValueType) -> int:
        return sum(int(one.attributes["usage.events"]) for one in of_kind(kind))

    await asyncio.gather(*(post() for _ in range(MANY)))
    await eventually(lambda: len(of_kind(Span.SPAN_KIND_SERVER)) == MANY)
    await eventually(lambda: events(Span.SPAN_KIND_PRODUCER) == events(Span.SPAN_KIND_CONSUMER) == MANY)
    messages, batches = of_kind(Span.SPAN_KIND_PRODUCER), of_kind(Span.SPAN_KIND_CONSUMER)
    assert len(messages) < MANY, "nothing was grouped, so nothing was tried"
    for ends, starts in ((messages, of_kind(Span.SPAN_KIND_SERVER)), (batches, messages)):
        links = [link for one in ends for link in one.links]
        assert sorted(links) == sorted((one.trace_id, one.span_id) for one in starts)


async def test_collectors_that_are_away_or_hang_cost_a_warning_and_neither_an_answer_nor_a_stop(
    site: Site, http: aiohttp.ClientSession
) -> None:
    async with hanging() as url:
        site.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        worker = site.worker()
        away = f"http://me:{PASSWORD}@127.0.0.1:9/?token={PASSWORD}"
        site.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": away, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
        ingest = site.ingest(log_level="DEBUG")
        pair = Pair(site, await ingest.start(), await worker.start())
        try:
            await pair.ready()
            for told in ("spans lost", "spans lost, still"):
                async with http.post(pair.usage_url(), json=EXAMPLE) as response:
                    assert response.status == 200
                await ingest.logged(f'"{told}"')
            await worker.logged('"stored": [1-9]')
            assert (await ingest.stop(), await worker.stop()) == (0, 0)
        finally:
            await ingest.close()
            await worker.close()
    [lost] = [line for line in entries([ingest.log], "spans lost") if line["level"] == "warning"]
    assert lost["error"] == "ConnectionError"
    assert '"last spans not exported"' in worker.text
    for process in (ingest, worker):
        assert PASSWORD not in process.text
        assert "Traceback" not in process.text
        assert "opentelemetry" not in process.text
