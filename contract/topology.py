"""The exchanges, queues and dead letters, by name and argument."""

from dataclasses import dataclass
from typing import ClassVar, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue
from pamqp.common import FieldTable

EXCHANGE: Final = "usage"
"""Where ingest publishes: without an alternate exchange, so that `mandatory` returns what finds no queue."""

DIRECT_EXCHANGE: Final = "usage.direct"
"""Where other producers publish: what finds no queue goes to the dead letters, also without `mandatory`."""

DEAD_EXCHANGE: Final = "usage.dead"
ROUTING_KEY: Final = "events"
QUEUE: Final = "usage.events"
DEAD_QUEUE: Final = "usage.dead-letters"

DELIVERY_LIMIT: Final = 20
"""Deliveries of one message that may end in a crash before the broker dead-letters it."""

# A quorum queue writes to disk before it confirms, also on a single node. At-least-once dead-lettering needs
# reject-publish. Queue lengths are the operator's: they are set by policy, so that they can change in place.
QUEUE_ARGUMENTS: Final[FieldTable] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD_EXCHANGE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}

# Without a limit of its own, a 4.x broker would drop a dead letter that was looked at 20 times.
DEAD_QUEUE_ARGUMENTS: Final[FieldTable] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as it must be."""

    kind: ClassVar[str] = "exchange"
    name: str
    type: ExchangeType
    arguments: FieldTable | None = None

    async def declare(self, channel: AbstractChannel, *, passive: bool = False) -> AbstractExchange:
        """Create it if it is missing; `passive` only asks whether it is there."""
        return await channel.declare_exchange(
            self.name, self.type, durable=True, passive=passive, arguments=self.arguments
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it must be."""

    kind: ClassVar[str] = "queue"
    name: str
    arguments: FieldTable

    async def declare(self, channel: AbstractChannel, *, passive: bool = False) -> AbstractQueue:
        """Create it if it is missing; `passive` only asks whether it is there, and how deep it is."""
        return await channel.declare_queue(self.name, durable=True, passive=passive, arguments=self.arguments)


_DEAD_EXCHANGE: Final = Exchange(DEAD_EXCHANGE, ExchangeType.FANOUT)
_DEAD_QUEUE: Final = Queue(DEAD_QUEUE, DEAD_QUEUE_ARGUMENTS)
_QUEUE: Final = Queue(QUEUE, QUEUE_ARGUMENTS)
_EXCHANGE: Final = Exchange(EXCHANGE, ExchangeType.DIRECT)
_DIRECT_EXCHANGE: Final = Exchange(DIRECT_EXCHANGE, ExchangeType.DIRECT, {"alternate-exchange": DEAD_EXCHANGE})

PARTS: Final = (_EXCHANGE, _DIRECT_EXCHANGE, _QUEUE, _DEAD_EXCHANGE, _DEAD_QUEUE)
"""All that `declare` creates, but for the bindings."""


async def declare(channel: AbstractChannel) -> None:
    """Create what is missing; the broker refuses when something exists with other arguments."""
    dead_exchange = await _DEAD_EXCHANGE.declare(channel)
    dead_queue = await _DEAD_QUEUE.declare(channel)
    await dead_queue.bind(dead_exchange)
    queue = await _QUEUE.declare(channel)
    exchange = await _EXCHANGE.declare(channel)
    direct_exchange = await _DIRECT_EXCHANGE.declare(channel)
    await queue.bind(exchange, ROUTING_KEY)
    await queue.bind(direct_exchange, ROUTING_KEY)
