"""Deliveries reach a subscription as they are read."""

import asyncio
from typing import Any, TypeVar

from aiormq.abc import DeliveredMessage

from contract.connection import connect
from devstack import Devstack
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.policies import PrefetchPolicy
from worker.subscription import Subscription, delivery_of

MESSAGES = 20
S = TypeVar("S", bound=Subscription)


class Watched(Subscription):
    """Knows which task each delivery was received in."""

    def __init__(self, *args: Any) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        super().__init__(*args)

    async def _receive(self, message: DeliveredMessage) -> None:
        self.tasks.append(asyncio.current_task())
        await super()._receive(message)


class Trusting(PrefetchPolicy):
    def first(self) -> int:
        return MESSAGES


class Failing(Subscription):
    async def _receive(self, _message: DeliveredMessage) -> None:
        raise ValueError("what is wrong with it")


async def subscribed(kind: type[S], url: str, messages: int) -> S:
    """A subscription of this kind that so many messages wait for, when it has them or has ended."""
    async with connect(url, name="test") as connection:
        channel = await connection.driver_channel()
        subscription = kind(channel, Trusting(), lambda: None, delivery_of)
        await subscription.start()
        await eventually(lambda: subscription.lost or len(subscription.arrived) == messages)
        return subscription


async def test_deliveries_are_received_in_order_and_without_tasks_of_their_own(stack: Devstack, queue: Queue) -> None:
    await queue.send([b"%d" % number for number in range(MESSAGES)])
    subscription = await subscribed(Watched, stack.broker.url, MESSAGES)
    bodies = [int(delivery.body) for delivery in subscription.arrived]
    assert bodies == list(range(MESSAGES))
    assert len(set(subscription.tasks)) == 1


async def test_a_delivery_that_cannot_be_received_ends_the_subscription(stack: Devstack, queue: Queue) -> None:
    await queue.send([b"1"])
    subscription = await subscribed(Failing, stack.broker.url, 1)
    assert subscription.lost == "a delivery could not be received: ValueError('what is wrong with it')"
    assert not subscription.arrived
    await eventually(queue.depth, what="the message to return")
