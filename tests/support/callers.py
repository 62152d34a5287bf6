"""Those who publish, and what they are told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from contract.grouping import Group, GroupLimits
from contract.publisher import NewGroup, Publisher
from tests.support.fake_broker import FakeBroker

DEADLINE = 4.0
LIMITS = GroupLimits(events=6, bytes=60, in_flight=2)


def event(number: int) -> bytes:
    return b'{"n":%d}' % number


@dataclass(eq=False)
class Caller:
    """One call of `publish`, with its answer."""

    events: Sequence[bytes]
    task: asyncio.Task[None] = field(init=False)
    began: float = 0.0
    error: type[BaseException] | None = None
    """Without what it holds on to."""
    answers: int = 0
    seconds: float = 0.0

    def start(self, publisher: Publisher, loop: asyncio.AbstractEventLoop) -> "Caller":
        self.began = loop.time()
        self.task = loop.create_task(self._publish(publisher))
        return self

    async def _publish(self, publisher: Publisher) -> None:
        try:
            await publisher.publish(self.events)
        except BaseException as exc:  # noqa: BLE001 - the answer is looked at, whatever it is
            self.error = type(exc)
        self.answers += 1
        self.seconds = asyncio.get_running_loop().time() - self.began

    @property
    def text(self) -> bytes:
        return b",".join(self.events)


@dataclass
class Scene:
    """A publisher with its callers."""

    publisher: Publisher
    callers: list[Caller] = field(default_factory=list)
    count: int = 0

    def arrive(self, size: int) -> Caller:
        events = [event(n) for n in range(self.count, self.count + size)]
        self.count += size
        self.callers.append(Caller(events).start(self.publisher, asyncio.get_running_loop()))
        return self.callers[-1]


@asynccontextmanager
async def publishing(
    broker: FakeBroker, limits: GroupLimits = LIMITS, new_group: NewGroup = Group
) -> AsyncIterator[Publisher]:
    """A publisher that runs, and is ready, for the length of a block."""
    publisher = Publisher("amqp://fake/", name="test", deadline=DEADLINE, limits=limits, new_group=new_group)
    with broker.installed():
        task = asyncio.create_task(publisher.run())
        try:
            while not publisher.ready:  # noqa: ASYNC110 - time is not real here
                await asyncio.sleep(0.001)
            yield publisher
        finally:
            task.cancel()
            [end] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end
