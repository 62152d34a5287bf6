"""How a trace goes on across the queue; only loaded by a process that traces."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from contract import topology
from contract.grouping import Group, Sealed
from contract.stamp import Stamper
from contract.traceparent import RULE, TRACEPARENT

_W3C: Final = TraceContextTextMapPropagator()


def span_context(header: object) -> SpanContext | None:
    """Read a `traceparent`; None when it is not one: anybody may write headers."""
    if not isinstance(header, str) or not RULE.fullmatch(header):
        return None
    found = trace.get_current_span(_W3C.extract({TRACEPARENT: header}, Context())).get_span_context()
    return found if found.is_valid else None


def as_parent(context: SpanContext | None) -> Context:
    """The context of a span that has this one for its parent, or none at all, wherever it is begun."""
    return Context() if context is None else trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def links_to(contexts: Iterable[SpanContext]) -> list[Link]:
    """Link to those of these spans that are recorded; the others lead nowhere."""
    return [Link(context) for context in contexts if context.trace_flags.sampled]


class TracedGroup(Group):
    """A group whose message has a span from its first sending until it is settled, and carries its `traceparent`.

    The span goes on with the first recorded trace of those whose events it holds, and links to all of them.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self._callers: list[SpanContext] = []
        self._span: Span | None = None

    def add(self, events: Sequence[bytes], size: int, waiter: asyncio.Future[None]) -> None:
        """Note also in which span their caller is."""
        super().add(events, size, waiter)
        caller = trace.get_current_span().get_span_context()
        if caller.is_valid:
            self._callers.append(caller)

    def seal(self, stamper: Stamper) -> Sealed:
        """Begin the span with the message; a mark, which nobody's events are in, has none."""
        is_first = self.sealed is None
        sealed = super().seal(stamper)
        if is_first and sealed.stamp.events:
            self._span = self._begin(sealed)
            _W3C.inject(sealed.headers, trace.set_span_in_context(self._span, Context()))
        return sealed

    def _begin(self, sealed: Sealed) -> Span:
        links = links_to(self._callers)
        parent = next((link.context for link in links), next(iter(self._callers), None))
        attributes: dict[str, str | int] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "send",
            "messaging.operation.name": "publish",
            "messaging.destination.name": topology.EXCHANGE,
            "messaging.rabbitmq.destination.routing_key": topology.ROUTING_KEY,
            "messaging.message.body.size": len(sealed.body),
            "usage.stamp": sealed.stamp.name,
            "usage.events": sealed.stamp.events,
        }
        return self._tracer.start_span(
            f"publish {topology.EXCHANGE}", as_parent(parent), SpanKind.PRODUCER, attributes, links
        )

    def settle(self, error: Exception | None = None) -> None:
        """End the span, too, with what became of the message."""
        super().settle(error)
        span, self._span = self._span, None
        if span is None:
            return
        if error is not None:
            fail(span, error, str(error))
        span.end()


def fail(span: Span, error: Exception, why: str) -> None:
    """Say in a span what went wrong, in words that may be read by anyone."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR, why)
