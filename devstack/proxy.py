"""Stand between a client and a server, as a network that can be broken at will."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from enum import Enum, auto
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024
NO_LINGER = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends RST instead of FIN."""


class _Mode(Enum):
    PASS = auto()
    BLACKHOLE = auto()
    DROP_REPLIES = auto()
    RESET = auto()


class Proxy:
    """Listens on `port` of the loopback interface for clients of the target; use it with `async with`.

    What is set holds for open connections and for new ones, until `pass_`. What got lost stays lost: after `pass_`, a
    connection that was in use meanwhile has a hole in its stream, so `cut` it unless that is what you want to see.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.port = 0
        self.accepted = 0
        """Connections so far."""
        self.pass_()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        links = list(self._links)
        self.cut()
        await asyncio.gather(*links, return_exceptions=True)

    def pass_(self) -> None:
        """Be a plain wire."""
        self._mode = _Mode.PASS
        self._delay = 0.0
        self._left: int | None = None

    def blackhole(self) -> None:
        """Lose everything both ways, FIN included; connections are still accepted."""
        self._mode = _Mode.BLACKHOLE

    def drop_replies(self) -> None:
        """Lose what the server says; what clients say arrives."""
        self._mode = _Mode.DROP_REPLIES

    def reset(self) -> None:
        """Reset every connection, and each new one as soon as it is accepted."""
        self._mode = _Mode.RESET
        self.cut()

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data, both ways, for this long."""
        self._delay = seconds

    def cut_after(self, size: int) -> None:
        """Cut once clients have said this many bytes more; these still arrive, the rest does not."""
        self._left = size

    def cut(self) -> None:
        """Reset (RST) every connection of this moment, on both sides; new ones are served."""
        for link, writers in list(self._links.items()):
            for writer in writers:
                _abort(writer)
            link.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with self._link(writer) as writers, contextlib.suppress(OSError, asyncio.CancelledError):
            if self._mode is _Mode.RESET:
                _abort(writer)
            elif self._mode is _Mode.BLACKHOLE:
                await asyncio.Future()
            else:
                await self._join(reader, writer, writers)

    @contextlib.contextmanager
    def _link(self, writer: asyncio.StreamWriter) -> Iterator[list[asyncio.StreamWriter]]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        writers = self._links[task] = [writer]
        try:
            yield writers
        finally:
            del self._links[task]
            for each in writers:
                each.close()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        there, to_there = await asyncio.open_connection(*self._target)
        writers.append(to_there)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, to_there, replies=False))
                pumps.create_task(self._pump(there, writer, replies=True))
        except* OSError:
            _abort(writer)
            _abort(to_there)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(CHUNK):
            await asyncio.sleep(self._delay)
            if self._loses(replies=replies):
                continue
            allowed = data if replies else self._spend(data)
            sink.write(allowed)
            await sink.drain()
            if len(allowed) < len(data):
                self.cut()
        if self._loses(replies=replies):
            await asyncio.Future()  # a FIN is lost as well: until this link is cut
        sink.write_eof()

    def _loses(self, *, replies: bool) -> bool:
        return self._mode is _Mode.BLACKHOLE or (replies and self._mode is _Mode.DROP_REPLIES)

    def _spend(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        allowed = data[: self._left]
        self._left -= len(allowed)
        return allowed


def _abort(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()
