"""How events are grouped, and what a group meets on its way; every interleaving is for the model to try."""

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.connection import BrokerUnavailable
from contract.grouping import GroupLimits
from contract.publisher import CONFIRM_TIMEOUT, NotConfirmed
from tests.support.callers import DEADLINE, LIMITS, Scene, publishing
from tests.support.fake_broker import FakeBroker
from tests.support.timeless import run_timeless, settle_down


def test_events_that_arrive_while_a_message_awaits_its_confirm_leave_together_after_it() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(publisher)
            for size in (4, 1, 1, 1):
                scene.arrive(size)
                await settle_down()
            assert broker.sent == [b'[{"n":0},{"n":1},{"n":2},{"n":3}]']
            broker.confirm()
            await settle_down()
            assert broker.sent[1:] == [b'[{"n":4},{"n":5},{"n":6}]']
            broker.confirm()
            await asyncio.gather(*(caller.task for caller in scene.callers))

    run_timeless(main())


def test_a_group_as_large_as_the_message_before_leaves_beside_it() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(publisher)
            # given a message that awaits its confirm
            scene.arrive(2)
            await settle_down()
            # when the next group becomes as large, then it leaves
            for _ in range(2):
                assert len(broker.sent) == 1
                scene.arrive(1)
                await settle_down()
            assert broker.sent == [b'[{"n":0},{"n":1}]', b'[{"n":2},{"n":3}]']
            # and when as many are under way as may be, one that is larger waits
            scene.arrive(3)
            await settle_down()
            assert len(broker.sent) == 2
            while not all(caller.task.done() for caller in scene.callers):
                broker.confirm()
                await settle_down()
            assert broker.sent[2:] == [b'[{"n":4},{"n":5},{"n":6}]']

    run_timeless(main())


def test_callers_who_come_back_one_by_one_when_they_are_answered_end_up_in_messages_of_about_one_size() -> None:
    async def main() -> list[int]:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(events=100, in_flight=2)) as publisher:
            scene = Scene(publisher)
            coming = 64
            for _ in range(50):
                for _ in range(coming):
                    scene.arrive(1)
                    await settle_down()
                broker.confirm()
                await settle_down()
                answered = [caller for caller in scene.callers if caller.task.done()]
                coming = len(answered)
                scene.callers = [caller for caller in scene.callers if caller not in answered]
            return [len(json.loads(body)) for body in broker.sent]

    sizes = run_timeless(main())
    assert max(sizes[:5]) > 60  # at first nearly all wait for one that was alone
    assert all(16 <= size <= 32 for size in sizes[30:])


def test_a_full_group_does_not_wait_for_the_confirm_of_the_message_before() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(events=3, in_flight=2)) as publisher:
            scene = Scene(publisher)
            # given a message that awaits its confirm, larger than any group becomes, and one that is all but full
            for size in (4, 2):
                scene.arrive(size)
                await settle_down()
            assert len(broker.sent) == 1
            # when something comes that cannot join it, the group leaves beside the message
            scene.arrive(2)
            await settle_down()
            assert broker.sent[1:] == [b'[{"n":4},{"n":5}]']
            # and when as many are under way as may be, the next full one waits
            scene.arrive(3)
            await settle_down()
            assert len(broker.sent) == 2
            while not all(caller.task.done() for caller in scene.callers):
                broker.confirm()
                await settle_down()
            assert broker.sent[2:] == [b'[{"n":6},{"n":7}]', b'[{"n":8},{"n":9},{"n":10}]']

    run_timeless(main())


@given(st.lists(st.integers(1, 8), min_size=1, max_size=20))
def test_no_message_goes_beyond_the_limits_unless_it_is_a_single_call(sizes: list[int]) -> None:
    async def main() -> tuple[list[bytes], list[bytes]]:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(publisher)
            for size in sizes:
                scene.arrive(size)
            await settle_down()
            while not all(caller.task.done() for caller in scene.callers):
                broker.confirm()
                await settle_down()
            return broker.sent, [b"[" + caller.text + b"]" for caller in scene.callers]

    sent, alone = run_timeless(main())
    for body in sent:
        assert body in alone or (len(json.loads(body)) <= LIMITS.events and len(body) <= LIMITS.bytes)


def test_a_message_may_be_exactly_as_large_as_the_limit_and_not_a_byte_larger() -> None:
    async def bodies(limit: int) -> list[bytes]:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(events=10, bytes=limit, in_flight=1)) as publisher:
            scene = Scene(publisher)
            for _ in range(3):
                scene.arrive(1)
            await settle_down()
            while not all(caller.task.done() for caller in scene.callers):
                broker.confirm()
                await settle_down()
            return broker.sent

    whole = b'[{"n":0},{"n":1},{"n":2}]'
    assert run_timeless(bodies(len(whole))) == [whole]
    assert run_timeless(bodies(len(whole) - 1)) == [b'[{"n":0},{"n":1}]', b'[{"n":2}]']


def test_a_group_whose_confirm_was_lost_is_sent_again_first_of_all_and_byte_for_byte() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(in_flight=1)) as publisher:
            scene = Scene(publisher)
            first = scene.arrive(2)
            await settle_down()
            later = scene.arrive(1)
            await settle_down()
            broker.lose()
            await asyncio.sleep(0.2)
            assert len(broker.connections) == 2
            assert broker.sent == [b'[{"n":0},{"n":1}]'] * 2
            broker.confirm()
            await first.task
            await settle_down()
            broker.confirm()
            await later.task
            assert broker.sent[2:] == [b'[{"n":2}]']

    run_timeless(main())


def test_a_group_that_nobody_waits_for_any_more_is_not_sent() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(in_flight=1)) as publisher:
            scene = Scene(publisher)
            scene.arrive(1)
            await settle_down()
            gone = [scene.arrive(1), scene.arrive(1)]
            await settle_down()
            for caller in gone:
                caller.task.cancel()
            broker.confirm()
            await settle_down()
            assert broker.sent == [b'[{"n":0}]']

    run_timeless(main())


def test_a_caller_who_leaves_does_not_disturb_those_in_its_group() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(in_flight=1)) as publisher:
            scene = Scene(publisher)
            first = scene.arrive(1)
            await settle_down()
            stays, leaves, stays_too = (scene.arrive(1) for _ in range(3))
            await settle_down()
            leaves.task.cancel()
            broker.confirm()
            await settle_down()
            broker.confirm()
            await asyncio.gather(first.task, stays.task, stays_too.task, leaves.task)
            assert [caller.error for caller in (first, stays, stays_too)] == [None] * 3
            assert leaves.error is asyncio.CancelledError

    run_timeless(main())


def test_what_was_perhaps_stored_at_its_first_sending_is_never_called_refused() -> None:
    async def main() -> type[BaseException] | None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(in_flight=1)) as publisher:
            # given a group that the broker has stored, but whose confirm was lost
            caller = Scene(publisher).arrive(1)
            await settle_down()
            broker.lose(stored=True)
            await asyncio.sleep(0.2)
            # when its copy is refused, for the queue has become full
            broker.refuse()
            await caller.task
            return caller.error

    # then the caller must not be told that the events were not taken
    assert run_timeless(main()) is NotConfirmed


def test_when_the_broker_stops_confirming_callers_are_told_at_once_until_it_confirms_again() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(publisher)
            waiting = scene.arrive(1)
            broker.trouble = BrokerUnavailable
            await asyncio.sleep(CONFIRM_TIMEOUT + 0.1)
            assert not publisher.ready
            refused = scene.arrive(1)
            await refused.task
            assert refused.error is BrokerUnavailable
            assert refused.seconds == 0
            await waiting.task
            assert waiting.error is NotConfirmed
            assert waiting.seconds == pytest.approx(DEADLINE)
            broker.trouble = None
            await asyncio.sleep(5)
            assert publisher.ready

    run_timeless(main())


def test_a_cut_connection_is_replaced_before_any_caller_needs_to_know() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            broker.lose()
            await settle_down()
            assert publisher.ready
            caller = Scene(publisher).arrive(1)
            await asyncio.sleep(0.2)
            broker.confirm()
            await caller.task
            assert caller.error is None

    run_timeless(main())


def test_the_loop_of_these_tests_takes_no_time() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1800, print).cancel()
        await asyncio.sleep(3600)

    began = time.monotonic()
    run_timeless(main())
    assert time.monotonic() - began < 30
