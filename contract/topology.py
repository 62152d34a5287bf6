"""The exchanges, queues and dead letters, by name and argument."""

from typing import Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
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


async def declare(channel: AbstractChannel) -> None:
    """Create what is missing; the broker refuses when something exists with other arguments."""
    dead_exchange = await channel.declare_exchange(DEAD_EXCHANGE, ExchangeType.FANOUT, durable=True)
    dead_queue = await channel.declare_queue(DEAD_QUEUE, durable=True, arguments=DEAD_QUEUE_ARGUMENTS)
    await dead_queue.bind(dead_exchange)
    queue = await channel.declare_queue(QUEUE, durable=True, arguments=QUEUE_ARGUMENTS)
    exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.DIRECT, durable=True)
    direct_exchange = await channel.declare_exchange(
        DIRECT_EXCHANGE, ExchangeType.DIRECT, durable=True, arguments={"alternate-exchange": DEAD_EXCHANGE}
    )
    await queue.bind(exchange, ROUTING_KEY)
    await queue.bind(direct_exchange, ROUTING_KEY)
