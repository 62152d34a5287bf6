"""A broker without a network: each answer of it, and each loss, comes when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError, PublishError
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from contract import publisher as module
from contract import topology

CONNECT_SECONDS = 0.001
MARK = b"[]"


class Fate(Enum):
    """What the publisher has heard of a message."""

    OPEN = auto()
    CONFIRMED = auto()
    NACKED = auto()
    RETURNED = auto()
    LOST = auto()
    """Nothing, and it never will: the connection is gone, or the publisher waits no longer."""


def _returned() -> PublishError:
    """What the driver makes of a Basic.Return."""
    how = Basic.Return(312, "NO_ROUTE", topology.EXCHANGE, topology.ROUTING_KEY)
    message = DeliveredMessage(delivery=how, header=ContentHeader(), body=b"", channel=None)  # type: ignore[arg-type]
    return PublishError(message, Basic.Ack())


_REFUSALS: dict[Fate, Callable[[], Exception]] = {
    Fate.NACKED: lambda: DeliveryError(None, Basic.Nack()),
    Fate.RETURNED: _returned,
}


@dataclass(eq=False)
class Publish:
    """A message that was published; what is published again is another one."""

    body: bytes
    headers: FieldTable
    connection: "FakeConnection"
    answer: asyncio.Future[tuple[Fate, Callable[[], BaseException] | None]] = field(default_factory=asyncio.Future)
    """The broker's, and how to make what the driver raises for it."""
    fate: Fate = Fate.OPEN
    stored: bool = False

    async def heard(self, seconds: float) -> None:
        """Return, or raise, as the driver does when the broker has answered."""
        try:
            async with asyncio.timeout(seconds):
                self.fate, error = await self.answer
        except BaseException:
            self.fate = Fate.LOST
            raise
        if error is not None:
            raise error()


class FakeConnection:
    """A connection, and its only channel."""

    def __init__(self, broker: "FakeBroker") -> None:
        self._broker = broker
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self._over.done()

    def end(self) -> None:
        if self.is_open:
            self._over.set_result(None)

    async def driver_channel(self) -> "FakeConnection":
        return self

    async def closed(self) -> None:
        await asyncio.wait([self._over])

    async def basic_publish(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        properties: Basic.Properties,
        mandatory: bool,
        timeout: float,  # noqa: ASYNC109 - the driver's
    ) -> None:
        assert (exchange, routing_key, mandatory) == (topology.EXCHANGE, topology.ROUTING_KEY, True)
        publish = Publish(body, dict(properties.headers or {}), self)
        self._broker.published.append(publish)
        if not self.is_open:
            publish.answer.set_result((Fate.LOST, ChannelInvalidStateError))
        elif body == MARK and self._broker.confirms_marks:
            self._broker.confirm(publish)
        await publish.heard(timeout)


@dataclass
class FakeBroker:
    """Answers nothing by itself, but for messages without events when it `confirms_marks`."""

    confirms_marks: bool = True
    trouble: type[Exception] | None = None
    """What becomes of each new connection."""
    connections: list[FakeConnection] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)
    """All there ever was, in order."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the place of every real broker during this block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "connect", self._connect)
            yield

    @asynccontextmanager
    async def _connect(self, url: str, *, name: str) -> AsyncIterator[FakeConnection]:
        del url, name
        await asyncio.sleep(CONNECT_SECONDS)
        if self.trouble is not None:
            raise self.trouble("as the test wants it")
        self.connections.append(FakeConnection(self))
        try:
            yield self.connections[-1]
        finally:
            self.lose()

    @property
    def unanswered(self) -> list[Publish]:
        """What its publisher waits for, in order."""
        return [one for one in self.published if not one.answer.done()]

    @property
    def sent(self) -> list[bytes]:
        """Each message with events, as often as it was published."""
        return [one.body for one in self.published if one.body != MARK]

    def confirm(self, publish: Publish | None = None) -> None:
        """Confirm this message, or the one that waits longest."""
        publish = publish or self.unanswered[0]
        publish.stored = True
        publish.answer.set_result((Fate.CONFIRMED, None))

    def refuse(self, publish: Publish | None = None, fate: Fate = Fate.NACKED) -> None:
        """Refuse it instead: nacked, or returned."""
        publish = publish or self.unanswered[0]
        publish.answer.set_result((fate, _REFUSALS[fate]))

    def lose(self, *, stored: bool = False, error: type[BaseException] = ChannelInvalidStateError) -> None:
        """The connection breaks; `stored`: what is unanswered had arrived, and only its confirm is lost."""
        for publish in self.unanswered:
            publish.stored = stored
            publish.answer.set_result((Fate.LOST, error))
        if self.connections:
            self.connections[-1].end()
