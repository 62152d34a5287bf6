"""One AMQP connection that is opened in bounded time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from aio_pika import Connection
from aio_pika.abc import AbstractChannel, ConnectionParameter
from aiormq.abc import AbstractChannel as DriverChannel
from aiormq.abc import AbstractConnection as DriverConnection
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp.commands import Connection as Commands
from yarl import URL

from contract import properties, topology

CONNECT_TIMEOUT: Final = 5.0
CLOSE_TIMEOUT: Final = 1.0
HEARTBEAT: Final = 10
"""Seconds; a dead peer is noticed after 3 x (heartbeat + 1), and 60, the default, is too long for that."""


# The driver reports a refusal by the repr of its frame, which would name neither the code nor the text.
setattr(  # noqa: B010 - not a method that a type checker would let us assign
    Commands.Close, "__repr__", lambda close: f"<Connection.Close {close.reply_code} {close.reply_text}>"
)


class BrokerUnavailable(Exception):
    """The broker cannot be reached, or the connection to it was lost."""


class BrokerMisconfigured(Exception):
    """The broker refuses what we ask for, and will refuse it again: credentials, virtual host or queue arguments."""


class _AbortableTransport(TransportFactory):
    """Keeps hold of the socket: a polite close waits half a minute for a frozen broker, an abort does not."""

    writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **kwargs)
        return reader, self.writer

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()


class _Connection(Connection):
    PARAMETERS = (
        *Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


class BrokerConnection:
    """An open connection; all its channels end with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def server(self) -> Mapping[str, Any]:
        """What the broker says of itself: `product`, `version` and more."""
        return self._driver.server_properties

    @property
    def heartbeat(self) -> int:
        """Seconds from sign of life to sign of life; 0: none are sent."""
        return self._driver.connection_tune.heartbeat or 0

    @property
    def _driver(self) -> DriverConnection:
        if self._connection.transport is None:
            raise BrokerUnavailable("the connection to the broker was lost")
        return self._connection.transport.connection

    async def channel(self) -> AbstractChannel:
        """Open a channel. Raises BrokerUnavailable."""
        with translated():
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._connection.channel()

    async def driver_channel(self) -> DriverChannel:
        """Open a channel of the driver's own, with one task for a publish or delivery instead of two.

        It confirms publishes, and raises what comes back unroutable.

        Raises BrokerUnavailable.
        """
        with translated():
            async with asyncio.timeout(CONNECT_TIMEOUT):
                # No bound to the frames that wait to be handled: the prefetch bounds them. With ten, the default, the
                # connection's reader and the channel's wait for each other at every third small message, which is
                # half of what such a message costs.
                return await self._driver.channel(publisher_confirms=True, on_return_raises=True, frame_buffer_size=0)

    async def closed(self) -> None:
        """Return when the connection is gone, whoever ended it."""
        # Not by the connection's own closed(), which knows only of its close().
        if self._connection.transport is not None:
            await asyncio.wait([self._connection.transport.connection.closing])


@asynccontextmanager
async def connect(url: str, *, name: str, declare: bool = True) -> AsyncIterator[BrokerConnection]:
    """Connect and declare the topology; on leaving close, and after BrokerUnavailable without a word to the broker.

    `name` is what an operator sees in the broker's list of connections. Without `declare` nothing is created.

    Raises BrokerUnavailable when that takes longer than 5 s, BrokerMisconfigured when the broker refuses.
    """
    properties.install()
    transport = _AbortableTransport()
    connection = _Connection(_with_defaults(url, name), transport_factory=transport)
    try:
        with translated(), _refusals():
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
                if declare:
                    async with connection.channel() as channel:
                        await topology.declare(channel)
        yield BrokerConnection(connection)
    except BrokerUnavailable:
        transport.abort()
        raise
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()
        except TimeoutError:
            transport.abort()


def _with_defaults(url: str, name: str) -> URL:
    given = URL(url)
    defaults = {"heartbeat": str(HEARTBEAT), "name": name}
    return given.update_query({**defaults, **given.query})


@contextmanager
def translated() -> Iterator[None]:
    """Raise whatever the driver raises for a lost connection or channel as BrokerUnavailable."""
    try:
        yield
    except (AMQPError, OSError, EOFError, RuntimeError, StopAsyncIteration) as exc:
        # ChannelInvalidStateError is a RuntimeError; TimeoutError is an OSError; a connection that ends during the
        # handshake is a StopAsyncIteration.
        raise BrokerUnavailable(f"the broker is unavailable: {exc!r}") from exc
    except asyncio.CancelledError as exc:
        # The driver ends the waits of a stuck connection with CancelledError, though nobody cancelled us.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailable("the connection to the broker was lost") from exc


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (ProbableAuthenticationError, AuthenticationError) as exc:
        raise BrokerMisconfigured(f"the broker refuses the credentials: {exc}") from exc
    except ConnectionNotAllowed as exc:
        raise BrokerMisconfigured(f"the broker refuses the virtual host: {exc}") from exc
    except InvalidFrameError as exc:
        # How the driver reports a Connection.Close in answer to Connection.Open. A vhost that is down, or has reached
        # its limit of connections, may be up again.
        if "NOT_ALLOWED" in str(exc) and "vhost" in str(exc) and "limit" not in str(exc):
            raise BrokerMisconfigured(f"the broker refuses the virtual host: {exc}") from exc
        raise
    except ChannelAccessRefused as exc:
        raise BrokerMisconfigured(f"the broker's user may not declare what is needed: {exc}") from exc
    except ChannelPreconditionFailed as exc:
        raise BrokerMisconfigured(
            f"an exchange or queue exists with other arguments; delete it or use another virtual host: {exc}"
        ) from exc
