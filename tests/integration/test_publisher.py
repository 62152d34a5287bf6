import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from unittest.mock import Mock

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from contract import topology
from contract.connection import BrokerMisconfigured, BrokerUnavailable
from contract.grouping import GroupLimits
from contract.publisher import NotConfirmed, Observer, Publisher, Refused, Unroutable
from devstack import Devstack
from devstack.proxy import Proxy
from tests.support.queue import Queue
from tests.support.waiting import eventually

PROBE = b"[]"
"""What a publisher sends on each new connection before it takes anything from callers."""

AT_ONCE = 1.0
"""Seconds: less than any deadline, more than a busy machine lets us wait."""

LATE = 2.5
"""Seconds by which an answer that is due may come later on a busy machine."""

NOT_TAKEN = 200
"""The number of the events that are refused at once."""


def through(proxy: Proxy, stack: Devstack) -> str:
    """The broker's URL by way of the proxy."""
    return str(URL(stack.broker.url).with_host("127.0.0.1").with_port(proxy.port))


@asynccontextmanager
async def publishing(url: str, **options: Any) -> AsyncIterator[Publisher]:
    """A publisher that runs, and is ready, for the length of a block."""
    publisher = Publisher(url, name="test-publisher", **options)
    task = asyncio.create_task(publisher.run())
    try:
        await eventually(lambda: publisher.ready or task.done())
        yield publisher
    finally:
        task.cancel()
        [end] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError), f"the publisher ended by itself: {end!r}"


async def everything(url: str) -> list[AbstractIncomingMessage]:
    """All that is on the queue, taken off it."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(topology.QUEUE, passive=True)
        found = []
        while message := await queue.get(fail=False):
            await message.ack()
            found.append(message)
        return found


async def messages(url: str) -> list[AbstractIncomingMessage]:
    """All that is on the queue, taken off it; without probes."""
    return [message for message in await everything(url) if message.body != PROBE]


async def bodies(url: str) -> list[bytes]:
    return [message.body for message in await messages(url)]


def event(number: int, size: int = 0) -> bytes:
    return json.dumps({"n": number} | ({"padding": "x" * size} if size else {})).encode()


def numbers(found: Iterable[bytes]) -> list[list[int]]:
    """The numbers of the events in each message; fails for anything that is not an array of them."""
    return [[item["n"] for item in json.loads(body)] for body in found]


async def answers(calls: Iterable[Awaitable[None]]) -> list[BaseException | None]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def seconds_of(call: Awaitable[None]) -> tuple[float, BaseException | None]:
    began = time.monotonic()
    [answer] = await answers([call])
    return time.monotonic() - began, answer


async def refused_at_once(publisher: Publisher) -> None:
    """See that nothing is taken, and that nobody has to wait to be told so."""
    seconds, answer = await seconds_of(publisher.publish([event(NOT_TAKEN)]))
    assert isinstance(answer, BrokerUnavailable)
    assert seconds < AT_ONCE


async def ctl(stack: Devstack, *arguments: str) -> str:
    return await asyncio.to_thread(stack.broker.ctl, *arguments)


def works_again(publisher: Publisher, number: int = 999) -> Callable[[], Awaitable[bool]]:
    """Whether an event can be published now."""

    async def works() -> bool:
        with suppress(BrokerUnavailable, NotConfirmed, Refused):
            await publisher.publish([event(number)])
            return True
        return False

    return works


def refused_by(publisher: Publisher) -> Callable[[], Awaitable[BaseException | None]]:
    """What a publish raises now."""

    async def refused() -> BaseException | None:
        [answer] = await answers([publisher.publish([event(1)])])
        return answer

    return refused


# What goes into a message.


async def test_a_lone_event_is_a_message_of_its_own_and_leaves_at_once(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        for number in range(3):
            await publisher.publish([event(number)])
    assert await bodies(stack.broker.url) == [b'[{"n": 0}]', b'[{"n": 1}]', b'[{"n": 2}]']


async def test_concurrent_events_share_messages_and_each_is_sent_once(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        await asyncio.gather(*(publisher.publish([event(n)]) for n in range(2000)))
    found = numbers(await bodies(stack.broker.url))
    assert sorted(number for group in found for number in group) == list(range(2000))
    assert len(found) <= 20


async def test_a_message_is_persistent_json_without_an_identity_of_ours(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        await publisher.publish([b'{"id": "d756084a-f7a0-51e2-96e1-80b49e81eaae"}'])
    [message] = await messages(stack.broker.url)
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.content_type == "application/json"
    assert message.exchange == topology.EXCHANGE
    assert message.routing_key == topology.ROUTING_KEY
    assert message.message_id != "d756084a-f7a0-51e2-96e1-80b49e81eaae"
    assert message.expiration is None


async def test_the_events_of_one_call_stay_together(stack: Devstack, queue: Queue) -> None:
    del queue
    calls = [[event(100 * call + n) for n in range(call % 13 + 1)] for call in range(200)]
    async with publishing(stack.broker.url, limits=GroupLimits(events=20)) as publisher:
        await asyncio.gather(*map(publisher.publish, calls))
    found = await bodies(stack.broker.url)
    for call in calls:
        assert sum(b", ".join(call).replace(b"}, {", b"},{") in body for body in found) == 1
    assert max(map(len, numbers(found))) <= 20


async def test_a_message_stays_below_its_limits(stack: Devstack, queue: Queue) -> None:
    del queue
    limits = GroupLimits(events=10, bytes=2000, in_flight=1)
    async with publishing(stack.broker.url, limits=limits) as publisher:
        await asyncio.gather(*(publisher.publish([event(n, size=10 * (n % 50))]) for n in range(500)))
    found = await bodies(stack.broker.url)
    assert sorted(number for group in numbers(found) for number in group) == list(range(500))
    assert all(len(group) <= 10 for group in numbers(found))
    assert max(map(len, found)) <= 2001
    assert any(len(group) == 10 for group in numbers(found))


async def test_a_call_beyond_the_limits_is_a_message_of_its_own(stack: Devstack, queue: Queue) -> None:
    del queue
    limits = GroupLimits(events=5, bytes=100, in_flight=1)
    large = [event(n) for n in range(50)]
    async with publishing(stack.broker.url, limits=limits) as publisher:
        await asyncio.gather(*map(publisher.publish, [[event(100)], [event(101)], large, [event(102)]]))
    assert list(range(50)) in numbers(await bodies(stack.broker.url))


async def test_a_message_of_many_frames_arrives_whole(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        await publisher.publish([event(n, size=10_000) for n in range(100)])
    assert numbers(await bodies(stack.broker.url)) == [list(range(100))]


async def test_a_caller_who_leaves_does_not_disturb_the_others_of_its_group(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url, limits=GroupLimits(in_flight=1)) as publisher:
        calls = [asyncio.create_task(publisher.publish([event(n)])) for n in range(100)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        results = await answers(calls)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::3])
    stayed = set(range(100)) - set(range(0, 100, 3))
    assert all(results[n] is None for n in stayed)
    assert stayed <= {number for group in numbers(await bodies(stack.broker.url)) for number in group}


# What the broker does not take.


@asynccontextmanager
async def limited_queue(stack: Devstack) -> AsyncIterator[None]:
    """An operator's limit, which is reached after some messages."""
    limit = '{"max-length": 5}'
    await ctl(stack, "set_policy", "full", "^usage[.]events$", limit, "--apply-to", "queues")
    try:
        yield
    finally:
        await ctl(stack, "clear_policy", "full")


async def test_a_full_queue_is_refused_until_there_is_room_again(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher, limited_queue(stack):
        # when the queue is full, the first who publish are told so, and the others that it is of no use
        refusal = await eventually(refused_by(publisher))
        assert type(refusal) is Refused
        await eventually(lambda: not publisher.ready)
        for _ in range(20):
            await refused_at_once(publisher)
        # when a worker makes room, it goes on by itself
        await everything(stack.broker.url)
        await eventually(lambda: publisher.ready)
        await publisher.publish([event(1000)])
        assert [1000] in numbers(await bodies(stack.broker.url))


async def test_whoever_comes_to_a_full_queue_is_answered_in_time(stack: Devstack, queue: Queue) -> None:
    del queue
    limits = GroupLimits(events=10)
    async with publishing(stack.broker.url, deadline=1.0, limits=limits) as publisher, limited_queue(stack):
        answered = await asyncio.gather(*(seconds_of(publisher.publish([event(n)])) for n in range(1000)))
    confirmed = {number for number, (_, answer) in enumerate(answered) if answer is None}
    assert len(confirmed) < 1000
    assert max(seconds for seconds, _ in answered) < 1.0 + LATE
    assert all(isinstance(answer, None | Refused | NotConfirmed) for _, answer in answered)
    assert confirmed <= {number for group in numbers(await bodies(stack.broker.url)) for number in group}


async def test_a_queue_whose_limit_was_taken_away_is_published_to_again(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        async with limited_queue(stack):
            await eventually(refused_by(publisher))
        # RabbitMQ 3.10 goes on refusing on a channel that it has once told so
        await eventually(works_again(publisher))


async def test_a_queue_that_was_full_before_the_first_connection_makes_it_unready_not_misconfigured(
    stack: Devstack, queue: Queue
) -> None:
    observer = Mock(Observer)
    publisher = Publisher(stack.broker.url, name="test-publisher", observer=observer)
    async with limited_queue(stack):

        async def is_full() -> bool:
            try:
                await queue.send([event(0)])
            except aio_pika.exceptions.DeliveryError:
                return True
            return False

        await eventually(is_full)
        running = asyncio.create_task(publisher.run())
        await eventually(lambda: observer.lost.called or running.done())
        await refused_at_once(publisher)
    try:
        await eventually(lambda: publisher.ready)
    finally:
        running.cancel()
        await answers([running])


async def test_a_deleted_queue_is_unroutable_for_those_in_flight_and_declared_anew(
    stack: Devstack, queue: Queue
) -> None:
    async with publishing(stack.broker.url) as publisher:
        await queue.delete()
        # when many publish into the void
        began = time.monotonic()
        results = await answers(publisher.publish([event(n)]) for n in range(100))
        assert time.monotonic() - began < 4
        # then some are told so, and those who had not been sent yet wait for the new queue
        assert any(type(result) is Unroutable for result in results)
        assert all(result is None or type(result) is Unroutable for result in results)
        confirmed = {number for number, result in enumerate(results) if result is None}
        await publisher.publish([event(1000)])
    stored = {number for group in numbers(await bodies(stack.broker.url)) for number in group}
    assert confirmed | {1000} == stored


async def test_a_lost_binding_is_unroutable_and_made_again(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        connection = await aio_pika.connect(stack.broker.url)
        async with connection, connection.channel() as channel:
            declared = await channel.declare_queue(topology.QUEUE, passive=True)
            await declared.unbind(topology.EXCHANGE, topology.ROUTING_KEY)
        with pytest.raises(Unroutable):
            await publisher.publish([event(1)])
        await publisher.publish([event(2)])
    assert numbers(await bodies(stack.broker.url)) == [[2]]


async def test_a_deleted_exchange_heals_by_itself_within_the_call(stack: Devstack, queue: Queue) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        connection = await aio_pika.connect(stack.broker.url)
        async with connection, connection.channel() as channel:
            await channel.exchange_delete(topology.EXCHANGE)
        await publisher.publish([event(1)])
    assert numbers(await bodies(stack.broker.url)) == [[1]]


# What happens to connections.


def reached(confirmed: set[int], goal: int) -> bool:
    return len(confirmed) >= goal


async def test_killed_connections_cost_nobody_a_confirm(stack: Devstack, queue: Queue) -> None:
    del queue
    confirmed: set[int] = set()
    slowest = 0.0

    async with publishing(stack.broker.url, deadline=4.0) as publisher:
        stop = asyncio.Event()

        async def keep_publishing(start: int) -> None:
            nonlocal slowest
            number = start
            while not stop.is_set():
                seconds, answer = await seconds_of(publisher.publish([event(number)]))
                slowest = max(slowest, seconds)
                assert answer is None or isinstance(answer, NotConfirmed | BrokerUnavailable), answer
                if answer is None:
                    confirmed.add(number)
                number += 1

        # given load
        load = [asyncio.create_task(keep_publishing(1_000_000 * caller)) for caller in range(50)]
        # when an operator closes all connections, twice
        for goal in (500, 2000):
            await eventually(partial(reached, confirmed, goal))
            await ctl(stack, "close_all_connections", "maintenance")
        await eventually(partial(reached, confirmed, len(confirmed) + 500))
        stop.set()
        await asyncio.gather(*load)
    # then everybody was answered in time, and the queue holds what was confirmed, and nothing that is not ours
    assert slowest < 4.0 + LATE
    found = numbers(await bodies(stack.broker.url))
    assert confirmed <= {number for group in found for number in group}


def depth_is(queue: Queue, count: int) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return await queue.depth() == count

    return is_so


async def test_a_lost_confirm_is_asked_for_again_with_the_same_bytes(
    stack: Devstack, queue: Queue, proxy: Proxy
) -> None:
    # with so much time for a confirm that only the cut ends the connection
    limits = GroupLimits(in_flight=1)
    async with publishing(through(proxy, stack), limits=limits, deadline=20, confirm_timeout=20) as publisher:
        # given two groups, the first of them stored, and no confirm coming through
        proxy.drop_replies()
        first = asyncio.create_task(publisher.publish([event(1), event(2)]))
        await eventually(depth_is(queue, 2))  # the probe and this
        second = [asyncio.create_task(publisher.publish([event(n)])) for n in range(3, 6)]
        # when the connection is cut
        proxy.pass_()
        proxy.cut()
        # then each caller is answered, once
        assert await answers([first, *second]) == [None] * 4
    # and what the broker got twice is equal to the last byte
    found = await bodies(stack.broker.url)
    assert found == [b'[{"n": 1},{"n": 2}]'] * 2 + [b'[{"n": 3},{"n": 4},{"n": 5}]']


async def test_what_nobody_waits_for_is_not_sent_again(stack: Devstack, queue: Queue, proxy: Proxy) -> None:
    async with publishing(through(proxy, stack), deadline=20, confirm_timeout=20) as publisher:
        proxy.drop_replies()
        call = asyncio.create_task(publisher.publish([event(1)]))
        await eventually(depth_is(queue, 2))
        call.cancel()
        await answers([call])
        proxy.pass_()
        proxy.cut()
        await eventually(works_again(publisher, 2))
    assert numbers(await bodies(stack.broker.url)) == [[1], [2]]


async def test_a_broker_that_never_confirms_is_given_up_at_the_deadline(stack: Devstack, proxy: Proxy) -> None:
    async with publishing(through(proxy, stack), deadline=1.0, confirm_timeout=0.4) as publisher:
        proxy.drop_replies()
        seconds, answer = await seconds_of(publisher.publish([event(1)]))
        assert isinstance(answer, NotConfirmed)
        assert 0.9 < seconds < 1.0 + LATE
        assert not publisher.ready
        proxy.pass_()
        proxy.cut()
        await eventually(lambda: publisher.ready)
    # the broker had taken it all the same: not confirmed means that nobody knows
    assert [1] in numbers(await bodies(stack.broker.url))


async def test_a_broker_that_goes_away_while_nobody_publishes_is_noticed_and_callers_are_refused_at_once(
    stack: Devstack, proxy: Proxy
) -> None:
    async with publishing(through(proxy, stack)) as publisher:
        proxy.reset()
        await eventually(lambda: not publisher.ready)
        await refused_at_once(publisher)
        proxy.pass_()
        await eventually(lambda: publisher.ready)
        await publisher.publish([event(2)])


async def test_a_connection_that_was_cut_while_nobody_publishes_is_replaced(stack: Devstack, proxy: Proxy) -> None:
    async with publishing(through(proxy, stack)) as publisher:
        proxy.cut()
        await eventually(lambda: proxy.accepted >= 2)
        await publisher.publish([event(1)])
    assert numbers(await bodies(stack.broker.url)) == [[1]]


async def test_a_broker_that_comes_up_later_is_found(stack: Devstack, proxy: Proxy) -> None:
    proxy.reset()
    publisher = Publisher(through(proxy, stack), name="test-publisher")
    running = asyncio.create_task(publisher.run())
    try:
        await refused_at_once(publisher)
        proxy.pass_()
        await eventually(lambda: publisher.ready)
        await publisher.publish([event(2)])
    finally:
        running.cancel()
        await answers([running])
    assert numbers(await bodies(stack.broker.url)) == [[2]]


async def test_a_frozen_broker_is_noticed_within_the_deadline_and_forgiven_when_it_thaws(
    stack: Devstack, queue: Queue
) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        await asyncio.to_thread(stack.broker.freeze)
        try:
            # those who were on their way when it froze
            results = await asyncio.gather(*(seconds_of(publisher.publish([event(n)])) for n in range(100)))
            assert all(isinstance(answer, NotConfirmed) for _, answer in results)
            assert max(seconds for seconds, _ in results) < 4.0 + LATE
            # those who come later
            assert not publisher.ready
            for _ in range(20):
                await refused_at_once(publisher)
        finally:
            await asyncio.to_thread(stack.broker.thaw)
        await eventually(lambda: publisher.ready)
        await publisher.publish([event(300)])
    found = [number for group in numbers(await bodies(stack.broker.url)) for number in group]
    assert found.count(300) == 1
    assert NOT_TAKEN not in found


async def test_a_broker_frozen_for_longer_than_its_heartbeats_costs_nobody_who_can_wait(
    stack: Devstack, queue: Queue
) -> None:
    del queue
    url = str(URL(stack.broker.url).update_query(heartbeat="1"))
    async with publishing(url, deadline=20, confirm_timeout=20) as publisher:
        await asyncio.to_thread(stack.broker.freeze)
        try:
            call = asyncio.create_task(publisher.publish([event(1)]))
            # the driver gives up after 3 x (heartbeat + 1) seconds, by cancelling whoever waits
            done, _ = await asyncio.wait([call], timeout=7)
            assert not done
        finally:
            await asyncio.to_thread(stack.broker.thaw)
        await call
    assert [1] in numbers(await bodies(stack.broker.url))


async def test_a_memory_alarm_is_noticed_within_the_deadline_and_forgiven_when_it_ends(
    stack: Devstack, queue: Queue
) -> None:
    del queue
    async with publishing(stack.broker.url) as publisher:
        await ctl(stack, "set_vm_memory_high_watermark", "0.00001")
        try:

            async def blocked() -> bool:
                seconds, answer = await seconds_of(publisher.publish([event(1)]))
                assert seconds < 4.0 + LATE
                assert answer is None or isinstance(answer, NotConfirmed)
                return answer is not None

            await eventually(blocked)
            assert not publisher.ready
            await refused_at_once(publisher)
        finally:
            await ctl(stack, "set_vm_memory_high_watermark", "0.4")
        await eventually(lambda: publisher.ready)
        await publisher.publish([event(3)])
    assert [3] in numbers(await bodies(stack.broker.url))


async def test_a_publisher_that_ends_while_the_broker_is_frozen_ends_soon(stack: Devstack, queue: Queue) -> None:
    del queue
    publisher = Publisher(stack.broker.url, name="test-publisher")
    running = asyncio.create_task(publisher.run())
    await eventually(lambda: publisher.ready)
    await asyncio.to_thread(stack.broker.freeze)
    try:
        running.cancel()
        seconds, end = await seconds_of(running)
        assert isinstance(end, asyncio.CancelledError)
        assert seconds < 10  # a polite end waits for half a minute
    finally:
        await asyncio.to_thread(stack.broker.thaw)


# What will never do.


async def first_contact(url: str) -> str:
    """Run a publisher until it says what is wrong."""
    with pytest.raises(BrokerMisconfigured) as caught:
        async with asyncio.timeout(30):
            await Publisher(url, name="test-publisher").run()
    return str(caught.value)


async def test_a_wrong_password_is_said_at_first_contact(stack: Devstack, queue: Queue) -> None:
    del queue
    sentence = await first_contact(str(URL(stack.broker.url).with_password("wr0ng")))
    assert "refuses the credentials" in sentence
    assert "wr0ng" not in sentence


async def test_an_unknown_virtual_host_is_said_at_first_contact(stack: Devstack, queue: Queue) -> None:
    del queue
    assert "refuses the virtual host" in await first_contact(str(URL(stack.broker.url).with_path("/nowhere")))


async def test_a_queue_with_other_arguments_is_said_at_first_contact(stack: Devstack, queue: Queue) -> None:
    await queue.delete()
    connection = await aio_pika.connect(stack.broker.url)
    async with connection, connection.channel() as channel:
        await channel.declare_queue(topology.QUEUE, durable=True)
    try:
        assert "other arguments" in await first_contact(stack.broker.url)
    finally:
        await queue.reset()


async def test_a_refusal_is_an_outage_once_it_has_worked(stack: Devstack, queue: Queue) -> None:
    del queue
    await ctl(stack, "add_user", "passing", "secret")
    try:
        await ctl(stack, "set_permissions", "passing", ".*", ".*", ".*")
        url = str(URL(stack.broker.url).with_user("passing").with_password("secret"))
        async with publishing(url) as publisher:
            # when the password is changed, and the connections with the old one are closed
            await ctl(stack, "change_password", "passing", "other")
            await ctl(stack, "close_all_connections", "rotated")
            # then it is unready, and goes on trying
            await eventually(lambda: not publisher.ready)
            await ctl(stack, "change_password", "passing", "secret")
            await eventually(lambda: publisher.ready)
        # and a user who may do nothing is told so
        await ctl(stack, "clear_permissions", "passing")
        await ctl(stack, "set_permissions", "passing", "^$", "^$", "^$")
        assert "may not declare" in await first_contact(url)
    finally:
        await ctl(stack, "delete_user", "passing")
