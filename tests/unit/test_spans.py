"""The spans of requests, messages and batches: what they go on from, what they link to, how they end."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiormq.abc import DeliveredMessage
from multidict import CIMultiDict
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from contract.connection import BrokerUnavailable
from contract.event import Decoded
from contract.grouping import GroupLimits
from contract.publisher import Publisher
from contract.tracing import TracedGroup, as_parent, span_context
from ingest.errors import REQUEST_ID
from ingest.openapi import BATCH_PATH, USAGE_PATH
from ingest.response import Success
from ingest.spans import Spans
from tests.support.callers import DEADLINE, Caller, publishing
from tests.support.fake_broker import FakeBroker, Fate
from tests.support.spans import Kept, context_of, linked, parent_of, traceparent
from tests.support.timeless import run_timeless, settle_down
from worker.batching import Batch
from worker.spans import BatchSpans

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
UNRECORDED = f"00-{TRACE}-b7ad6b7169203331-00"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

BAD = [
    "",
    "nonsense",
    CALLER.upper(),
    f" {CALLER}",
    f"{CALLER}\n",
    f"{CALLER}-more",
    CALLER.replace("00-", "ff-", 1),
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    "0" * 100_000,
]


@pytest.fixture
def kept() -> Kept:
    return Kept()


# The header.


def test_a_traceparent_is_read_as_it_was_written() -> None:
    for header in (CALLER, UNRECORDED, OTHER):
        context = span_context(header)
        assert context is not None
        assert context.is_remote
        assert traceparent(context) == header


@pytest.mark.parametrize("header", [*BAD, None, 5, CALLER.encode(), [CALLER]], ids=lambda header: repr(header)[:70])
def test_what_is_no_traceparent_is_as_none_at_all(header: object) -> None:
    assert span_context(header) is None


# Requests.


async def answered(
    kept: Kept, *traceparents: str, method: str = "POST", path: str = "/", answer: web.StreamResponse | Exception
) -> ReadableSpan | None:
    """The span of a request that is answered so."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        request[REQUEST_ID] = "request-1"
        if isinstance(answer, Exception):
            raise answer
        return answer

    headers = CIMultiDict([("Traceparent", one) for one in traceparents])
    handler = Spans(kept.tracer).around(answering)
    with suppress(web.HTTPException):
        assert await handler(make_mocked_request(method, path, headers=headers)) is answer
    return kept.span if kept.spans else None


async def test_a_request_goes_on_with_the_trace_of_its_caller(kept: Kept) -> None:
    span = await answered(kept, CALLER, path="/api?k=secret", answer=Success(b"{}"))
    assert span is not None
    assert (parent_of(span), span.kind, span.name) == (CALLER, SpanKind.SERVER, "POST")
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "usage.request_id": "request-1",
    }


@pytest.mark.parametrize(
    "given", [(), (CALLER, OTHER), *((bad,) for bad in BAD if "\n" not in bad)], ids=lambda it: repr(it)[:70]
)
async def test_a_request_without_one_good_traceparent_begins_a_trace(kept: Kept, given: tuple[str, ...]) -> None:
    span = await answered(kept, *given, answer=Success(b"{}"))
    assert span is not None
    assert span.parent is None


async def test_a_request_whose_caller_does_not_record_is_not_recorded(kept: Kept) -> None:
    assert await answered(kept, UNRECORDED, answer=Success(b"{}")) is None


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", USAGE_PATH.replace("{projectId}", "a%40b.co"), f"POST {USAGE_PATH}"),
        ("POST", BATCH_PATH.replace("{projectId}", "p") + "?atomic=true", f"POST {BATCH_PATH}"),
        ("GET", "/docs", "GET"),
        ("X" * 1000, "/x@y.co", "_OTHER"),
    ],
    ids=["single", "batch", "other", "strange"],
)
async def test_a_span_is_named_by_what_is_documented_and_never_by_what_was_sent(
    kept: Kept, method: str, path: str, name: str
) -> None:
    span = await answered(kept, method=method, path=path, answer=web.Response())
    assert span is not None
    assert span.name == name
    assert "@" not in str(span.attributes)
    assert "%40" not in str(span.attributes)


@pytest.mark.parametrize("path", ["/healthz", "/readyz?x=1"])
async def test_who_only_asks_whether_we_live_is_not_traced(kept: Kept, path: str) -> None:
    assert await answered(kept, path=path, answer=web.Response()) is None


@pytest.mark.parametrize(
    ("answer", "status", "failed"),
    [
        (web.Response(status=400), 400, False),
        (web.HTTPNotFound(), 404, False),
        (web.Response(status=503), 503, True),
    ],
    ids=["400", "404", "503"],
)
async def test_only_what_is_our_fault_is_an_error(
    kept: Kept, answer: web.StreamResponse | Exception, status: int, *, failed: bool
) -> None:
    span = await answered(kept, answer=answer)
    assert span is not None
    assert (span.attributes or {})["http.response.status_code"] == status
    assert (span.status.status_code is StatusCode.ERROR) == failed


# Messages.


async def arrive(publisher: Publisher, kept: Kept, *callers: str | None) -> list[Caller]:
    """Publish one event for each of these callers, who have spans of their own or none."""
    loop, arrived = asyncio.get_running_loop(), []
    for caller in callers:
        if caller is None:
            arrived.append(Caller([b"{}"]).start(publisher, loop))
        else:
            with kept.tracer.start_as_current_span("request", as_parent(span_context(caller))):
                arrived.append(Caller([b"{}"]).start(publisher, loop))
        await settle_down()
    return arrived


def of_kind(kept: Kept, kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in kept.spans if span.kind is kind]


def requests_of(kept: Kept) -> list[str]:
    return [traceparent(context_of(span)) for span in of_kind(kept, SpanKind.INTERNAL)]


ONE_SLOT = GroupLimits(in_flight=1)


def test_a_message_goes_on_with_the_first_recorded_trace_and_links_to_all(kept: Kept) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, ONE_SLOT, partial(TracedGroup, kept.tracer)) as publisher:
            await arrive(publisher, kept, None)
            await arrive(publisher, kept, None, UNRECORDED, CALLER, OTHER)
            broker.confirm()
            await settle_down()
            broker.confirm()
            await settle_down()
            requests = requests_of(kept)
            assert len(requests) == 2
            alone, together = of_kind(kept, SpanKind.PRODUCER)
            assert (alone.parent, linked(alone)) == (None, [])
            assert (parent_of(together), linked(together)) == (requests[0], requests)
            assert context_of(together).trace_id == int(TRACE, 16)
            assert (together.attributes or {})["usage.events"] == 4
            sent = [one.headers.get("traceparent") for one in broker.published]
            assert sent[-2:] == [traceparent(context_of(alone)), traceparent(context_of(together))]
            # A mark is nobody's.
            assert set(sent[:-2]) == {None}

    run_timeless(main())


def test_a_message_that_is_sent_again_is_the_same_in_one_span(kept: Kept) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, ONE_SLOT, partial(TracedGroup, kept.tracer)) as publisher:
            [caller] = await arrive(publisher, kept, CALLER)
            broker.lose()
            await asyncio.sleep(0.2)
            assert of_kind(kept, SpanKind.PRODUCER) == []
            broker.confirm()
            await caller.task
            first, again = [one for one in broker.published if one.body != b"[]"]
            assert first.headers == again.headers
            [span] = of_kind(kept, SpanKind.PRODUCER)
            assert again.headers["traceparent"] == traceparent(context_of(span))
            assert span.status.status_code is StatusCode.UNSET

    run_timeless(main())


@pytest.mark.parametrize(("fate", "error"), [(Fate.NACKED, "Refused"), (None, "NotConfirmed")], ids=["full", "late"])
def test_a_message_that_is_not_confirmed_is_an_error(kept: Kept, fate: Fate | None, error: str) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, ONE_SLOT, partial(TracedGroup, kept.tracer)) as publisher:
            await arrive(publisher, kept, CALLER)
            if fate is not None:
                broker.refuse(fate=fate)
            await asyncio.sleep(DEADLINE)
            [span] = of_kind(kept, SpanKind.PRODUCER)
            assert span.status.status_code is StatusCode.ERROR
            assert (span.attributes or {})["error.type"] == error

    run_timeless(main())


# Batches.


def delivered(tag: int, header: object) -> DeliveredMessage:
    headers: FieldTable = {} if header is None else {"traceparent": header}  # type: ignore[dict-item]
    properties = ContentHeader(properties=Basic.Properties(headers=headers))
    return DeliveredMessage(Basic.Deliver("tag", tag), properties, b"[]", None)  # type: ignore[arg-type]


def batch_of(spans: BatchSpans, *headers: object) -> Batch:
    """A batch of messages with these headers."""
    batch = Batch()
    for tag, header in enumerate(headers, 1):
        batch.add(spans.read(delivered(tag, header)), Decoded([], []), 0.0)
    return batch


async def test_a_batch_links_to_what_published_its_messages(kept: Kept) -> None:
    spans = BatchSpans(kept.tracer)
    batch = batch_of(spans, CALLER, None, *BAD, 5, b"x", UNRECORDED, OTHER)
    later = spans.read(delivered(100, CALLER))

    async def write(given: Batch) -> None:
        assert given is batch
        assert get_current_span().is_recording()

    with kept.tracer.start_as_current_span("not its parent"):
        await spans.around(write)(batch)
    span = kept.spans[0]
    assert (span.kind, span.parent, linked(span)) == (SpanKind.CONSUMER, None, [CALLER, OTHER])
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["messaging.batch.message_count"] == batch.messages == 5 + len(BAD) + 1

    # What comes later is not in it, and what was in it is not in the next.
    following = Batch()
    following.add(later, Decoded([], []), 0.0)
    await spans.around(nothing)(following)
    assert linked(kept.spans[-1]) == [CALLER]


async def nothing(_: Batch) -> None:
    """Write it."""


async def test_a_batch_that_cannot_be_written_is_an_error_without_a_password(kept: Kept) -> None:
    async def fail(_: Batch) -> None:
        raise BrokerUnavailable("amqp://me:hunter2@broker/ is away")

    spans = BatchSpans(kept.tracer)
    with pytest.raises(BrokerUnavailable):
        await spans.around(fail)(batch_of(spans, CALLER))
    assert kept.span.status.status_code is StatusCode.ERROR
    assert kept.span.status.description == "amqp://***@broker/ is away"
    assert (kept.span.attributes or {})["error.type"] == "BrokerUnavailable"
    assert kept.span.events == ()


async def test_a_batch_of_thousands_of_messages_links_to_as_many_as_may_be() -> None:
    async def links(environment: dict[str, str]) -> int:
        kept = Kept(environment)
        spans = BatchSpans(kept.tracer)
        await spans.around(nothing)(batch_of(spans, *[CALLER] * 1500))
        return len(kept.span.links)

    assert await links({}) == 1000
    assert await links({"OTEL_SPAN_LINK_COUNT_LIMIT": "7"}) == 7


# Sampling.


@pytest.mark.parametrize(
    ("sampler", "header", "recorded"),
    [
        ("parentbased_traceidratio", CALLER, True),
        ("parentbased_traceidratio", UNRECORDED, False),
        ("parentbased_traceidratio", None, False),
        ("parentbased_always_off", CALLER, True),
        ("parentbased_always_on", None, True),
        ("always_off", CALLER, False),
        ("traceidratio", CALLER, False),
    ],
)
async def test_a_sampled_trace_does_not_end_at_the_queue_if_the_sampler_goes_by_parents(
    sampler: str, header: str | None, *, recorded: bool
) -> None:
    kept = Kept({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0"})
    spans = BatchSpans(kept.tracer)
    await spans.around(nothing)(batch_of(spans, header))
    assert bool(kept.spans) is recorded
