"""The broker as another producer, or an operator, sees it."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, HeadersType

from contract import topology
from contract.connection import connect


@dataclass(frozen=True)
class DeadLetter:
    """What lies among the dead letters."""

    reason: str
    detail: str
    body: bytes
    headers: HeadersType


class Queue:
    """A raw client of the queue contract: plain aio-pika, nothing of ours but the names."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def reset(self) -> None:
        """Start from nothing: delete the queues and exchanges, and declare them anew."""
        async with self._channel() as channel:
            for queue in (topology.QUEUE, topology.DEAD_QUEUE):
                await channel.queue_delete(queue)
            for exchange in (topology.EXCHANGE, topology.DIRECT_EXCHANGE, topology.DEAD_EXCHANGE):
                await channel.exchange_delete(exchange)
        async with connect(self._url, name="test"):
            pass

    async def send(self, bodies: Sequence[bytes], *, exchange: str = topology.DIRECT_EXCHANGE) -> None:
        """Publish each body as a message of its own, each confirmed."""
        async with self._channel() as channel:
            target = await channel.get_exchange(exchange, ensure=False)
            for body in bodies:
                message = aio_pika.Message(body, content_type="application/json", delivery_mode=2)
                await target.publish(message, topology.ROUTING_KEY)

    async def delete(self) -> None:
        """Delete the queue with all that is in it, as an operator might."""
        async with self._channel() as channel:
            await channel.queue_delete(topology.QUEUE)

    async def depth(self, queue: str = topology.QUEUE) -> int:
        """Messages that are ready; those delivered and not settled do not count."""
        async with self._channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def events(self) -> list[dict[str, Any]]:
        """The events that a publisher of ours has put on the queue, left where they are."""
        return [event for message in await self._messages(topology.QUEUE) for event in json.loads(message.body)]

    async def dead_letters(self) -> list[DeadLetter]:
        """All of them, left where they are."""
        return [
            DeadLetter(
                str(message.headers.get("usage-reason", "")),
                str(message.headers.get("usage-detail", "")),
                message.body,
                message.headers,
            )
            for message in await self._messages(topology.DEAD_QUEUE)
        ]

    async def _messages(self, name: str) -> list[AbstractIncomingMessage]:
        async with self._channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
            found = []
            while message := await queue.get(fail=False):
                found.append(message)
            return found  # closing the channel returns them

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        connection = await aio_pika.connect(self._url, heartbeat=10)
        async with connection, connection.channel(on_return_raises=True) as channel:
            yield channel
