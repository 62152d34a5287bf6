"""Grouped publishing, held against a model while everything that can happen to it happens, in any order."""

import asyncio
import gc
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count

from aiormq.exceptions import AMQPConnectionError, ChannelInvalidStateError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contract.cancellation import end
from contract.connection import BrokerMisconfigured, BrokerUnavailable
from contract.publisher import CONFIRM_TIMEOUT, SILENCE, NotConfirmed, Publisher, Refused, Unroutable
from contract.stamp import Stamp
from tests.support.callers import DEADLINE, LIMITS, Caller, event
from tests.support.fake_broker import FakeBroker, Fate, Publish
from tests.support.timeless import TimelessLoop, settle_down

ROUNDING = 1e-6
"""Seconds."""

REFUSALS = {Fate.NACKED, Fate.RETURNED}
HEARD = {Fate.CONFIRMED, *REFUSALS}


@dataclass
class Message:
    """What has one number: the calls that travel in it, and each time that it was published."""

    stamp: Stamp
    callers: list[Caller]
    publishes: list[Publish] = field(default_factory=list)

    @property
    def fates(self) -> list[Fate]:
        return [one.fate for one in self.publishes]

    @property
    def is_confirmed(self) -> bool:
        return Fate.CONFIRMED in self.fates

    @property
    def is_wanted(self) -> bool:
        return any(not caller.task.done() for caller in self.callers)


@dataclass
class Model:
    """What was published so far, and what can be said of it."""

    messages: dict[int, Message] = field(default_factory=dict)
    carrier: dict[Caller, Message] = field(default_factory=dict)
    floor: int = 0
    """The largest that was told."""
    decided: int = 0
    """Every number up to it had been decided when it was last looked."""
    seen: int = 0

    def look(self, published: list[Publish], callers: list[Caller], waiting: list[Caller]) -> None:
        """Check what was published since the last look; `waiting` are those who were then not yet answered."""
        for publish in published[self.seen :]:
            message = self._enter(publish, callers)
            assert not message.callers or set(message.callers) & set(waiting), "what nobody waits for is not sent"
        self.seen = len(published)
        while self._is_decided(self.decided + 1):
            self.decided += 1

    def _enter(self, publish: Publish, callers: list[Caller]) -> Message:
        stamp = Stamp.from_headers(publish.headers)
        assert stamp is not None
        if stamp.seq not in self.messages:
            assert stamp.seq == len(self.messages) + 1, "numbers have no gap"
            self._check_stamp(stamp)
            self.messages[stamp.seq] = Message(stamp, self._load(publish.body, callers))
            self.carrier |= dict.fromkeys(self.messages[stamp.seq].callers, self.messages[stamp.seq])
        message = self.messages[stamp.seq]
        assert stamp.seq > self.floor, "what was decided is not sent again"
        for earlier in message.publishes[:1]:
            assert (publish.body, publish.headers) == (earlier.body, earlier.headers)
        message.publishes.append(publish)
        self.floor = max(self.floor, stamp.floor)
        assert stamp.events == len(json.loads(publish.body))
        return message

    def _load(self, body: bytes, callers: list[Caller]) -> list[Caller]:
        """The calls whose events these are: whole, once, in the order they came, and not too many."""
        aboard = [caller for caller in callers if caller not in self.carrier and caller.text in body]
        assert body == b"[" + b",".join(caller.text for caller in aboard) + b"]"
        size = sum(len(caller.events) for caller in aboard)
        assert len(aboard) == 1 or (size <= LIMITS.events and len(body) <= LIMITS.bytes)
        return aboard

    def _check_stamp(self, stamp: Stamp) -> None:
        assert max(self.floor, self.decided) <= stamp.floor < stamp.seq
        below = [self.messages[seq] for seq in range(1, stamp.floor + 1)]
        assert all(Fate.OPEN not in message.fates for message in below)
        assert stamp.confirmed == sum(message.stamp.events for message in below if message.is_confirmed)
        given_up = {message.stamp.seq for message in below if not message.is_confirmed}
        void = _numbers([stamp])
        assert void <= given_up <= void | self.told
        assert all(self._may_be_given_up(self.messages[seq]) for seq in given_up)

    def _may_be_given_up(self, message: Message) -> bool:
        return message.fates[-1] in HEARD or not message.is_wanted

    @property
    def told(self) -> set[int]:
        """Numbers that a confirmed message calls void."""
        return _numbers(message.stamp for message in self.messages.values() if message.is_confirmed)

    def _is_decided(self, seq: int) -> bool:
        return seq in self.messages and (seq <= self.floor or self.messages[seq].fates[-1] in HEARD)

    def check_books(self) -> None:
        """Nothing is under way any more: all is told, on good authority."""
        stamps = [message.stamp for message in self.messages.values() if message.is_confirmed]
        floor = max(stamp.floor for stamp in stamps)
        assert floor >= max(seq for seq, message in self.messages.items() if message.stamp.events)
        assert self.told >= {seq for seq in range(1, floor + 1) if not self.messages[seq].is_confirmed}


def _numbers(stamps: Iterable[Stamp]) -> set[int]:
    return {seq for stamp in stamps for first, last in stamp.void for seq in range(first, last + 1)}


class Life(RuleBasedStateMachine):
    """Callers, a broker, a network, an operator, and a supervisor."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.runner = self.resources.enter_context(asyncio.Runner(loop_factory=TimelessLoop))
        self.loop = self.runner.get_loop()
        self.unhandled: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self.numbers = count()
        self.unsettled = 0
        """How many steps are yet to be taken before the publisher gets its turn."""
        self.is_sound = True

    def start(self) -> None:
        """A new publisher, which is a new process, at a broker that remembers nothing."""
        self.broker = FakeBroker(confirms_marks=False)
        self.installed = self.resources.enter_context(ExitStack())
        self.installed.enter_context(self.broker.installed())
        self.publisher = Publisher("amqp://fake/", name="test", deadline=DEADLINE, limits=self.limits)
        self.running = self.loop.create_task(self.publisher.run())
        self.callers: list[Caller] = []
        self.waiting: list[Caller] = []
        self.hung_up: set[Caller] = set()
        self.model = Model()

    @initialize(in_flight=st.sampled_from([1, 2, 4]), is_proven=st.booleans())
    def connect(self, in_flight: int, is_proven: bool) -> None:  # noqa: FBT001
        self.limits = replace(LIMITS, in_flight=in_flight)
        self.start()
        if is_proven:
            self.loop.run_until_complete(asyncio.sleep(0.01))
            self.broker.confirm()

    # Callers.

    @rule(size=st.sampled_from([1, 1, 1, 2, 3, 8]))
    def arrive(self, size: int) -> None:
        caller = Caller([event(next(self.numbers)) for _ in range(size)]).start(self.publisher, self.loop)
        self.callers.append(caller)
        self.waiting.append(caller)

    @rule(sizes=st.lists(st.integers(1, 3), min_size=2, max_size=6))
    def arrive_together(self, sizes: list[int]) -> None:
        for size in sizes:
            self.arrive(size)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.waiting))
        caller.task.cancel()
        self.hung_up.add(caller)

    # The broker.

    @precondition(lambda self: self.broker.unanswered)
    @rule(index=st.integers(-1, 0))
    def confirm(self, index: int) -> None:
        self.broker.confirm(self.broker.unanswered[index])

    @precondition(lambda self: self.broker.unanswered)
    @rule()
    def confirm_all(self) -> None:
        for publish in self.broker.unanswered:
            self.broker.confirm(publish)

    @precondition(lambda self: self.broker.unanswered)
    @rule(index=st.integers(-1, 0), fate=st.sampled_from(sorted(REFUSALS, key=str)))
    def refuse(self, index: int, fate: Fate) -> None:
        self.broker.refuse(self.broker.unanswered[index], fate)

    # The network, and who configures it.

    @precondition(lambda self: self.broker.connections)
    @rule(
        stored=st.booleans(),
        error=st.sampled_from([ChannelInvalidStateError, AMQPConnectionError, OSError, asyncio.CancelledError]),
    )
    def lose_connection(self, stored: bool, error: type[BaseException]) -> None:  # noqa: FBT001
        self.broker.lose(stored=stored, error=error)

    # At first contact a broker that refuses ends the process.
    @precondition(lambda self: self.publisher.ready)
    @rule(trouble=st.sampled_from([BrokerUnavailable, BrokerMisconfigured]))
    def become_unreachable(self, trouble: type[Exception]) -> None:
        self.broker.trouble = trouble

    @precondition(lambda self: self.broker.trouble)
    @rule()
    def become_reachable(self) -> None:
        self.broker.trouble = None

    # Time.

    @rule(seconds=st.sampled_from([0.001, 0.06, 0.06, 0.06, 0.3, SILENCE, CONFIRM_TIMEOUT, 3.0, DEADLINE + 1]))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @precondition(lambda self: not self.unsettled)
    @rule()
    def let_two_things_happen_at_once(self) -> None:
        self.unsettled = 2

    # The supervisor.

    @rule()
    def restart(self) -> None:
        self.is_sound = False
        self.loop.run_until_complete(self.stop())
        self.start()

    async def stop(self) -> None:
        """Whatever is under way: it ends in time, and leaves nobody waiting, and nothing behind."""
        began = self.loop.time()
        await self.publisher.finish()
        await end(self.running)
        assert self.loop.time() - began <= CONFIRM_TIMEOUT + ROUNDING
        assert self.running.cancelled()
        await asyncio.sleep(DEADLINE)
        await settle_down()
        self.check()
        assert not self.waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}
        del self.publisher, self.running
        for caller in self.callers:
            del caller.task  # cancelled before it began, it keeps hold of its frame, and with it of the publisher
        assert not self.held()
        self.installed.close()

    # What must hold.

    @invariant()
    def all_is_well(self) -> None:
        if self.unsettled:
            self.unsettled -= 1
            return
        self.is_sound = False
        self.loop.run_until_complete(settle_down())
        assert not self.running.done()
        self.check()
        self.check_slots()
        self.is_sound = True

    def check(self) -> None:
        assert not self.unhandled
        self.model.look(self.broker.published, self.callers, self.waiting)
        assert len(self.broker.unanswered) <= self.limits.in_flight
        for caller in [one for one in self.waiting if one.task.done()]:
            self.waiting.remove(caller)
            self.check_answer(caller)
        for caller in self.waiting:
            assert self.loop.time() <= caller.began + DEADLINE + ROUNDING
            assert not HEARD & set(self.fates(caller)), "nobody waits for what was answered"

    def fates(self, caller: Caller) -> list[Fate]:
        """What became of each publish of its events."""
        return self.model.carrier[caller].fates if caller in self.model.carrier else []

    def check_answer(self, caller: Caller) -> None:
        if caller in self.hung_up and caller.task.cancelled():  # before it had begun
            return
        assert caller.answers == 1
        fates = self.fates(caller)
        match caller.error:
            case None:
                assert fates[-1] is Fate.CONFIRMED
            case error if error is Refused:
                assert fates == [Fate.NACKED]
            case error if error is Unroutable:
                assert fates == [Fate.RETURNED]
            case error if error is BrokerUnavailable:
                assert not caller.seconds
                self.callers.remove(caller)  # so that its events, if they are sent, are nobody's
            case error if error is asyncio.CancelledError:
                assert caller in self.hung_up
            case error:
                assert error is NotConfirmed

    def check_slots(self) -> None:
        """Those who wait beside a free slot are one small group that is not full, and wait for a confirm.

        When the broker does not take what it gets, the connection is replaced.
        """
        fates = {one.fate for one in self.broker.published if one.connection.is_open}
        if fates & REFUSALS:
            assert Fate.OPEN in fates
        elif Fate.CONFIRMED in fates and Fate.LOST not in fates:
            idle = [caller for caller in self.waiting if self.fates(caller)[-1:] != [Fate.OPEN]]
            assert not idle or self.broker.unanswered
            if len(self.broker.unanswered) < self.limits.in_flight:
                assert len(idle) <= 1 or fit_together(idle)
                last = json.loads(self.broker.published[-1].body)
                assert sum(len(caller.events) for caller in idle) < max(1, len(last))

    def held(self) -> set[Caller]:
        """Whose events somebody keeps hold of, beside themselves."""
        if self.referenced():
            gc.collect()
        return self.referenced()

    def referenced(self) -> set[Caller]:
        return {caller for caller in self.callers for one in caller.events if sys.getrefcount(one) > UNHELD}

    def teardown(self) -> None:
        with self.resources:
            if self.is_sound:
                self.loop.run_until_complete(self.recover())
                self.loop.run_until_complete(self.stop())

    async def recover(self) -> None:
        """When all is in order again, it works again by itself, has nobody waiting, and owes no account."""
        self.broker.trouble = None
        await self.obey(10)
        assert self.publisher.ready
        for expected in range(1, self.limits.in_flight + 1):
            self.arrive(LIMITS.events)
            await settle_down()
            assert len(self.broker.unanswered) == expected
        self.arrive(1)
        await settle_down()
        last = self.callers[-self.limits.in_flight - 1 :]
        assert len(self.broker.unanswered) == self.limits.in_flight
        await self.obey(3 * SILENCE)
        self.check()
        assert not self.waiting
        assert [caller.error for caller in last] == [None] * len(last)
        # a slot that waits for the next group still knows its last one
        assert self.held() <= set(last)
        self.model.check_books()

    async def obey(self, seconds: float) -> None:
        """Confirm what comes, for so long."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(0.2)
            self.confirm_all()
            await settle_down()


def fit_together(callers: Sequence[Caller]) -> bool:
    """Whether the events of these may be one message."""
    events = [one for caller in callers for one in caller.events]
    return len(events) <= LIMITS.events and sum(map(len, events)) + len(events) + 1 <= LIMITS.bytes


UNHELD = max(sys.getrefcount(one) for one in [event(10**9)])
"""References to an event in a list, looked at in a loop."""


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
