"""How groups meet a broker that does its worst, with every interleaving a fake of it can make."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError, PublishError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from contract import publisher as module
from contract.connection import BrokerUnavailable
from contract.grouping import GroupLimits
from contract.publisher import NotConfirmed, Publisher, Refused, Unroutable

T = TypeVar("T")

DEADLINE = 4.0
LIMITS = GroupLimits(events=6, bytes=60, in_flight=2)


class TimelessLoop(asyncio.SelectorEventLoop):
    """Never sleeps: when nothing is left to do, it is at once as late as the next timer wants it to be."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_timeless(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(main)


def returned() -> DeliveredMessage:
    """What the driver makes of a Basic.Return."""
    how = Basic.Return(312, "NO_ROUTE", "usage", "events")
    return DeliveredMessage(delivery=how, header=ContentHeader(), body=b"", channel=None)  # type: ignore[arg-type]


@dataclass
class Publish:
    """A message that the broker has got and not yet answered for."""

    body: bytes
    answer: asyncio.Future[None]


@dataclass
class FakeBroker:
    """Confirms nothing by itself, but for the probe of a new connection."""

    reachable: bool = True
    """Whether a connection can be opened."""
    connections: int = 0
    unanswered: list[Publish] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    confirmed: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    most_in_flight: int = 0
    _closed: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def connect(self, url: str, *, name: str) -> AsyncIterator["FakeBroker"]:
        del url, name
        await asyncio.sleep(0.001)
        if not self.reachable:
            raise BrokerUnavailable("not reachable")
        self.connections += 1
        self._closed = asyncio.get_running_loop().create_future()
        try:
            yield self
        finally:
            self.lose()

    async def channel(self) -> "FakeBroker":
        return self

    async def closed(self) -> None:
        assert self._closed is not None
        await asyncio.shield(self._closed)

    async def basic_publish(self, body: bytes, *, timeout: float, mandatory: bool, **_: Any) -> None:  # noqa: ASYNC109 - the driver's
        assert mandatory
        if body == b"[]":
            return
        if self._closed is None or self._closed.done():
            raise ChannelInvalidStateError
        self.sent.append(body)
        publish = Publish(body, asyncio.get_running_loop().create_future())
        self.unanswered.append(publish)
        self.most_in_flight = max(self.most_in_flight, len(self.unanswered))
        try:
            async with asyncio.timeout(timeout):
                await publish.answer
        finally:
            if publish in self.unanswered:
                self.unanswered.remove(publish)

    def confirm(self, index: int = 0) -> None:
        if publish := self._take(index):
            self.confirmed.append(publish.body)
            publish.answer.set_result(None)

    def nack(self, index: int = 0) -> None:
        if publish := self._take(index):
            self.refused.append(publish.body)
            publish.answer.set_exception(DeliveryError(None, Basic.Nack()))

    def give_back(self, index: int = 0) -> None:
        if publish := self._take(index):
            self.refused.append(publish.body)
            publish.answer.set_exception(PublishError(returned(), Basic.Ack()))

    def lose(self, *, kept: bool = False) -> None:
        """The connection breaks; `kept`: what is unanswered was stored all the same."""
        if kept:
            self.confirmed += [publish.body for publish in self.unanswered]
        while publish := self._take(0):
            publish.answer.set_exception(ChannelInvalidStateError())
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _take(self, index: int) -> Publish | None:
        waiting = [publish for publish in self.unanswered if not publish.answer.done()]
        if not waiting:
            return None
        publish = waiting[index % len(waiting)]
        self.unanswered.remove(publish)
        return publish


async def _itself(channel: T) -> T:
    return channel


@asynccontextmanager
async def publishing(broker: FakeBroker, limits: GroupLimits = LIMITS) -> AsyncIterator[Publisher]:
    publisher = Publisher("amqp://fake/", name="test", deadline=DEADLINE, limits=limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "connect", broker.connect)
        patch.setattr(module, "driver_channel", _itself)
        task = asyncio.create_task(publisher.run())
        try:
            while not publisher.ready:  # noqa: ASYNC110 - time is not real here
                await asyncio.sleep(0.001)
            yield publisher
        finally:
            task.cancel()
            [end] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end


async def settle_down() -> None:
    """Let everybody do what can be done without time passing."""
    for _ in range(30):
        await asyncio.sleep(0)


def event(number: int) -> bytes:
    return b'{"n":%d}' % number


@dataclass
class Caller:
    """One call of `publish`, with its answer."""

    events: Sequence[bytes]
    task: asyncio.Task[None] = field(init=False)
    error: BaseException | None = None
    answers: int = 0
    seconds: float = 0.0

    def start(self, publisher: Publisher) -> "Caller":
        self.task = asyncio.create_task(self._publish(publisher))
        return self

    async def _publish(self, publisher: Publisher) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await publisher.publish(self.events)
        except BaseException as exc:  # noqa: BLE001 - the answer is looked at, whatever it is
            self.error = exc
        self.answers += 1
        self.seconds = loop.time() - began

    @property
    def text(self) -> bytes:
        return b",".join(self.events)

    @property
    def cancelled(self) -> bool:
        return isinstance(self.error, asyncio.CancelledError)


@dataclass
class Scene:
    """A publisher with its callers, and what may happen to them."""

    broker: FakeBroker
    publisher: Publisher
    callers: list[Caller] = field(default_factory=list)
    count: int = 0

    def arrive(self, size: int) -> Caller:
        events = [event(n) for n in range(self.count, self.count + size)]
        self.count += size
        caller = Caller(events).start(self.publisher)
        self.callers.append(caller)
        return caller

    def cancel(self, index: int) -> None:
        if self.callers:
            self.callers[index % len(self.callers)].task.cancel()


Action = tuple[str, int]
actions = st.lists(
    st.tuples(
        st.sampled_from(
            ["arrive"] * 6
            + ["confirm"] * 3
            + ["nack", "give back", "lose", "lose kept", "unreachable", "reachable", "cancel", "wait"]
        ),
        st.integers(0, 7),
    ),
    max_size=40,
)


async def play(script: Sequence[Action], scene: Scene) -> None:
    broker = scene.broker
    moves: dict[str, Callable[[int], object]] = {
        "arrive": lambda n: scene.arrive(n + 1),
        "confirm": broker.confirm,
        "nack": broker.nack,
        "give back": broker.give_back,
        "lose": lambda _: broker.lose(),
        "lose kept": lambda _: broker.lose(kept=True),
        "unreachable": lambda _: setattr(broker, "reachable", False),
        "reachable": lambda _: setattr(broker, "reachable", True),
        "cancel": scene.cancel,
    }
    for name, number in script:
        if name == "wait":
            await asyncio.sleep((0.001, 0.01, 0.1, 0.5, 1, 2, 3, 5)[number])
        else:
            moves[name](number)
        if number % 2:
            await settle_down()


@given(actions)
def test_every_caller_is_answered_once_in_time_and_truthfully(script: list[Action]) -> None:
    async def main() -> Scene:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(broker, publisher)
            await play(script, scene)
            broker.reachable = True
            await asyncio.gather(*(caller.task for caller in scene.callers), return_exceptions=True)
            return scene

    scene = run_timeless(main())
    broker = scene.broker
    assert broker.most_in_flight <= LIMITS.in_flight
    # whatever is sent again is sent byte for byte, so no two different bodies share an event
    bodies = set(broker.sent)
    numbers = [item["n"] for body in bodies for item in json.loads(body)]
    assert len(numbers) == len(set(numbers))
    for caller in scene.callers:
        if not caller.answers:  # cancelled before it had begun
            assert caller.task.cancelled()
            continue
        assert caller.answers == 1
        assert caller.seconds <= DEADLINE + 0.001
        carriers = [body for body in bodies if caller.text in body]
        # a batch travels in one message, or not at all
        assert len(carriers) <= 1
        assert sum(event in body for event in caller.events for body in bodies) in {0, len(caller.events)}
        match caller.error:
            case None:
                assert set(carriers) <= set(broker.confirmed)
                assert carriers
            case Unroutable() | Refused():
                assert carriers[0] in broker.refused
            case BrokerUnavailable():
                assert not carriers
            case NotConfirmed() | asyncio.CancelledError():
                pass
            case other:
                pytest.fail(f"no answer of ours: {other!r}")


@given(actions)
def test_after_any_trouble_it_publishes_again_by_itself(script: list[Action]) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(broker, publisher)
            await play(script, scene)
            broker.reachable = True
            await asyncio.sleep(10)
            assert publisher.ready
            assert broker.unanswered == []
            last = scene.arrive(1)
            await settle_down()
            broker.confirm()
            await last.task
            assert last.error is None

    run_timeless(main())


def test_events_that_arrive_while_the_slots_are_taken_leave_together() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(broker, publisher)
            for _ in range(2):
                scene.arrive(1)
                await settle_down()
            for _ in range(4):
                scene.arrive(1)
                await settle_down()
            assert broker.sent == [b'[{"n":0}]', b'[{"n":1}]']
            broker.confirm()
            await settle_down()
            assert broker.sent[2:] == [b'[{"n":2},{"n":3},{"n":4},{"n":5}]']
            broker.confirm()
            broker.confirm()
            await asyncio.gather(*(caller.task for caller in scene.callers))

    run_timeless(main())


@given(st.lists(st.integers(1, 8), min_size=1, max_size=20))
def test_no_message_goes_beyond_the_limits_unless_it_is_a_single_call(sizes: list[int]) -> None:
    async def main() -> tuple[list[bytes], list[bytes]]:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(broker, publisher)
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
            scene = Scene(broker, publisher)
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
            scene = Scene(broker, publisher)
            first = scene.arrive(2)
            await settle_down()
            later = scene.arrive(1)
            await settle_down()
            broker.lose()
            await asyncio.sleep(0.2)
            assert broker.connections == 2
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
            scene = Scene(broker, publisher)
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
            scene = Scene(broker, publisher)
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
            assert leaves.cancelled

    run_timeless(main())


def test_what_was_perhaps_stored_at_its_first_sending_is_never_called_refused() -> None:
    async def main() -> BaseException | None:
        broker = FakeBroker()
        async with publishing(broker, GroupLimits(in_flight=1)) as publisher:
            # given a group that the broker has stored, but whose confirm was lost
            caller = Scene(broker, publisher).arrive(1)
            await settle_down()
            broker.lose(kept=True)
            await asyncio.sleep(0.2)
            # when its copy is refused, for the queue has become full
            broker.nack()
            await caller.task
            return caller.error

    # then the caller must not be told that the events were not taken
    assert isinstance(run_timeless(main()), NotConfirmed)


def test_when_the_broker_stops_confirming_callers_are_told_at_once_until_it_confirms_again() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            scene = Scene(broker, publisher)
            waiting = scene.arrive(1)
            broker.reachable = False
            await asyncio.sleep(module.CONFIRM_TIMEOUT + 0.1)
            assert not publisher.ready
            refused = scene.arrive(1)
            await refused.task
            assert isinstance(refused.error, BrokerUnavailable)
            assert refused.seconds == 0
            await waiting.task
            assert isinstance(waiting.error, NotConfirmed)
            assert waiting.seconds == pytest.approx(DEADLINE)
            broker.reachable = True
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
            caller = Scene(broker, publisher).arrive(1)
            await asyncio.sleep(0.2)
            broker.confirm()
            await caller.task
            assert caller.error is None

    run_timeless(main())


def test_the_loop_of_these_tests_takes_no_time() -> None:
    began = time.monotonic()
    run_timeless(asyncio.sleep(3600))
    assert time.monotonic() - began < 5
