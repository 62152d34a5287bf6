"""A span for each batch; only loaded by a process that traces."""

from collections.abc import Callable, Coroutine
from typing import Any

from aiormq.abc import DeliveredMessage
from opentelemetry.trace import SpanContext, SpanKind, Tracer

from contract import topology
from contract.traceparent import TRACEPARENT
from contract.tracing import as_parent, fail, links_to, span_context
from runtime.redaction import redact
from worker.batching import Batch
from worker.delivery import Delivery
from worker.subscription import delivery_of

Write = Callable[[Batch], Coroutine[Any, Any, None]]


class BatchSpans:
    """The spans of one session's batches; each links to those that published its messages."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._published: dict[int, SpanContext] = {}
        """Of what is delivered and not yet written, by its receipt."""

    def read(self, message: DeliveredMessage) -> Delivery:
        """Take from the driver's message also which span has published it."""
        delivery = delivery_of(message)
        published = span_context((message.header.properties.headers or {}).get(TRACEPARENT))
        if published is not None:
            self._published[delivery.tag] = published
        return delivery

    def around(self, write: Write) -> Write:
        """Return the same with spans: until the batch is acknowledged, or has failed."""

        async def handler(batch: Batch) -> None:
            published = [self._published.pop(tag) for tag in batch.tags if tag in self._published]
            with self._tracer.start_as_current_span(
                f"store {topology.QUEUE}",
                as_parent(None),
                SpanKind.CONSUMER,
                {
                    "messaging.system": "rabbitmq",
                    "messaging.operation.type": "process",
                    "messaging.operation.name": "store",
                    "messaging.destination.name": topology.QUEUE,
                    "messaging.batch.message_count": batch.messages,
                    "usage.events": batch.events,
                    "usage.redelivered": batch.redelivered,
                },
                links_to(published),
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    await write(batch)
                except Exception as exc:
                    fail(span, exc, redact(str(exc)))
                    raise

        return handler
