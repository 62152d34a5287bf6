"""The proxy breaks connections the way its methods say."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from devstack.proxy import Proxy
from tests.support.waiting import eventually

SOON = 30.0
NEVER = 0.2
"""Seconds after which silence is taken for good."""


class Echo:
    """A server that answers every line with itself."""

    def __init__(self) -> None:
        self.heard = b""
        self.losses = 0
        self._news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                self.heard += data
                self._news.set()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            self.losses += 1
        finally:
            writer.close()

    async def has_heard(self, data: bytes) -> None:
        async with asyncio.timeout(SOON):
            while self.heard != data:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Proxy("127.0.0.1", port) as proxy:
        yield echo, proxy


@asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), NEVER)
    except TimeoutError:
        # All of us may have been stopped for so long: what was sent before must have met the proxy as it was then.
        for _ in range(10):
            await asyncio.sleep(0)
        return True
    return False


async def test_a_plain_wire_passes_both_ways_and_the_end_of_the_stream(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    async with client(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
    assert proxy.accepted == 1


async def test_a_black_hole_keeps_connections_open_and_silent(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    async with client(proxy) as (reader, writer):
        proxy.blackhole()
        writer.write(b"lost")
        assert await hears_nothing(reader)
        async with client(proxy) as (late_reader, late_writer):
            late_writer.write(b"lost as well")
            assert await hears_nothing(late_reader)
    assert server.heard == b""


async def test_after_a_black_hole_what_was_lost_stays_lost(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    async with client(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.blackhole()
        writer.write(b"lost")
        assert await hears_nothing(reader)
        proxy.pass_()
        writer.write(b"found")
        assert await reader.readexactly(5) == b"found"


async def test_dropped_replies_do_not_keep_requests_from_arriving(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    async with client(proxy) as (reader, writer):
        proxy.drop_replies()
        writer.write(b"publish")
        assert await hears_nothing(reader)
        await server.has_heard(b"publish")


async def test_a_cut_resets_both_sides_while_new_connections_are_served(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    async with client(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), SOON)
    async with client(proxy) as (reader, writer):
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"
    await eventually(lambda: server.losses, what="the other side to be reset")
    assert server.losses == 1


async def test_reset_refuses_new_connections_until_it_passes_again(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        async with client(proxy) as (reader, _):
            await asyncio.wait_for(reader.read(1), SOON)
    proxy.pass_()
    async with client(proxy) as (reader, writer):
        writer.write(b"z")
        assert await reader.readexactly(1) == b"z"


async def test_a_delay_holds_back_each_direction(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    clock = asyncio.get_running_loop().time
    async with client(proxy) as (reader, writer):
        proxy.delay(0.1)
        start = clock()
        writer.write(b"slow")
        assert await reader.readexactly(4) == b"slow"
        assert clock() - start >= 0.2


@pytest.mark.parametrize("size", [0, 1, 7])
async def test_a_cut_after_some_bytes_lets_just_these_arrive(echo: tuple[Echo, Proxy], size: int) -> None:
    server, proxy = echo
    async with client(proxy) as (reader, writer):
        proxy.cut_after(size)
        writer.write(b"0123456789")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), SOON)
        await server.has_heard(b"0123456789"[:size])


async def test_a_target_that_is_down_looks_like_a_closed_connection() -> None:
    with socket.socket() as held:  # so that nobody else can listen there
        held.bind(("127.0.0.1", 0))
        async with Proxy(*held.getsockname()) as proxy, client(proxy) as (reader, _):
            assert await asyncio.wait_for(reader.read(1), SOON) == b""
