"""Recording usage straight on the queue, for services that are trusted to."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import uuid_utils.compat as uuid_utils

from contract import topology
from contract.backoff import Backoff
from contract.cancellation import end
from contract.connection import BrokerUnavailable
from contract.event import Reason, Source, Unacceptable, UsageEvent
from contract.fields import PropertyValue, format_timestamp
from contract.publisher import NotConfirmed, Publisher, Refused

RETRY: Final = Backoff(first=0.05, cap=1.0)


class UsageProducer:
    """Records usage on the queue: grouped, confirmed, sent again with the same id until it is.

        async with UsageProducer("amqp://...") as usage:
            await usage.record("proj_nCBo0AB7UWpj", "name@example.com", "api_calls", 1, idempotency_key="order-42")

    Make one for the process, and record from as many tasks as you like: what they record at the same time travels
    together.
    """

    def __init__(self, url: str, *, name: str = "usage-producer", patience: float = 30.0) -> None:
        """Prepare; `patience` is how many seconds `record` tries before it raises."""
        # By the queue's name through the default exchange: what finds no queue comes back, and is sent again.
        self._publisher = Publisher(url, name=name, exchange="", routing_key=topology.QUEUE)
        self._patience = patience
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._publisher.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            await self._publisher.finish()
            await end(self._running)

    async def record(
        self,
        project_id: str,
        email: str,
        metric: str,
        quantity: Decimal | int | str,
        *,
        idempotency_key: str | None = None,
        timestamp: datetime | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
    ) -> UUID:
        """Record usage, and return the event's id when the broker has confirmed it.

        Without a key every call is an event of its own, however often the call itself tries. A quantity may be
        negative: a correction.

        Raises Unacceptable for what breaks a field's rule, before anything is sent; BrokerMisconfigured;
        BrokerUnavailable, Refused or NotConfirmed when `patience` is over. After NotConfirmed the event may arrive
        all the same.
        """
        if timestamp is not None and timestamp.tzinfo is None:
            raise Unacceptable(Reason.INVALID, "timestamp must have a time zone")
        wire: dict[str, Any] = {
            "projectId": project_id,
            "email": email,
            "metric": metric,
            "quantity": quantity,
            "idempotencyKey": idempotency_key,
            "timestamp": None if timestamp is None else format_timestamp(timestamp.astimezone(UTC)),
            "properties": None if properties is None else dict(properties),
            "id": str(uuid_utils.uuid7()) if idempotency_key is None else None,
        }
        given = {name: value for name, value in wire.items() if value is not None}
        event = UsageEvent.from_wire(given, source=Source.QUEUE, now=datetime.now(UTC))
        await self._send(event.to_wire())
        return event.id

    async def _send(self, event: bytes) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience
        failures = 0
        while True:
            self._raise_if_ended()
            try:
                return await self._publisher.publish([event])
            except (BrokerUnavailable, Refused, NotConfirmed):
                failures += 1
                delay = RETRY.delay(failures)
                if loop.time() + delay > give_up_at:
                    raise
            await asyncio.sleep(delay)

    def _raise_if_ended(self) -> None:
        if self._running is None or self._running.cancelled():
            raise RuntimeError("use the producer inside its async with statement")
        if self._running.done():
            self._running.result()
