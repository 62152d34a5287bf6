"""Spans that are kept, to be looked at."""

from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Tracer, format_span_id, format_trace_id

from runtime.otlp import new_provider


class Kept:
    """A tracer as a process of ours has it, set up by these variables, with all spans that have ended."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            provider = new_provider("test")
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        [span] = self.spans
        return span


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.get_span_context()
    assert context is not None
    return context


def traceparent(context: SpanContext) -> str:
    """The header that leads to it."""
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def linked(span: ReadableSpan) -> list[str]:
    """The headers that lead to what it links to, in order."""
    return [traceparent(link.context) for link in span.links]


def parent_of(span: ReadableSpan) -> str | None:
    """The header that leads to its parent."""
    return None if span.parent is None else traceparent(span.parent)
