"""Who wants to connect is let in at once, whatever else the process does."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from aiohttp import web
from structlog.testing import capture_logs

from ingest.listener import BACKLOG, Listener
from ingest.protocol import JsonSite
from tests.support.waiting import eventually

TURNS = 20
"""Of the loop."""

MANY = 15 * TURNS
"""Clients."""

Run = Callable[[Coroutine[Any, Any, None]], None]


class Visitor(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@contextmanager
def knocking(count: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A socket that listens, and clients that are connected to it as far as the kernel is concerned."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listening, ExitStack() as clients:
        address = listening.getsockname()
        yield listening, [clients.enter_context(socket.create_connection(address)) for _ in range(count)]


@asynccontextmanager
async def welcoming(listening: socket.socket) -> AsyncIterator[tuple[Listener, list[Visitor]]]:
    """A listener that has not started, and whom it has let in."""
    present: list[Visitor] = []

    def new_visitor() -> Visitor:
        present.append(Visitor())
        return present[-1]

    listener = Listener(listening, new_visitor)
    yield listener, present
    await listener.close()
    for visitor in present:
        visitor.transport.close()
    await turns()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def test_all_who_wait_are_let_in_within_a_few_turns(run: Run) -> None:
    async def main() -> None:
        async with welcoming(listening) as (listener, present):
            listener.start()
            await turns()
            assert len(present) == MANY

    with knocking(MANY) as (listening, _):
        run(main())


def test_so_does_the_site_of_ingest(run: Run) -> None:
    async def main() -> None:
        runner = web.ServerRunner(web.Server(no_request), shutdown_timeout=0)
        await runner.setup()
        site = JsonSite(runner, listening, head_seconds=1)
        try:
            await site.start()
            await turns()
            assert runner.server is not None
            assert len(runner.server.connections) == MANY
        finally:
            await runner.cleanup()

    with knocking(MANY) as (listening, _):
        run(main())


async def no_request(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


def test_closing_lets_nobody_in_and_leaves_those_who_are(run: Run) -> None:
    async def main() -> None:
        address = listening.getsockname()
        async with welcoming(listening) as (listener, present):
            listener.start()
            await eventually(lambda: len(present) == 1)
            await listener.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            client.sendall(b"still here")
            assert await asyncio.to_thread(client.recv, 100) == b"still here"

    with knocking(1) as (listening, [client]):
        run(main())


def test_who_is_accepted_last_has_a_protocol_when_it_is_closed(run: Run) -> None:
    async def main() -> None:
        async with welcoming(listening) as (listener, present):
            listener.start()
            while not listener._arriving:  # noqa: ASYNC110 - turn by turn
                await asyncio.sleep(0)
            await listener.close()
            assert [visitor.transport.is_closing() for visitor in present] == [False]

    with knocking(1) as (listening, _):
        run(main())


def test_without_file_descriptors_they_wait_until_there_are_some(run: Run) -> None:
    async def main() -> None:
        async with welcoming(listening) as (listener, present):
            with capture_logs() as logs:
                with descriptors_left(2):
                    listener.start()
                    await eventually(lambda: logs)
                    await turns()
                    assert len(present) == 2
                await eventually(lambda: len(present) == 5)
        assert [line["event"] for line in logs] == ["no connection can be accepted", "connections are accepted again"]
        assert logs[0]["error"] == "Too many open files"

    with knocking(5) as (listening, _):
        run(main())


def test_it_can_be_closed_while_it_waits_for_file_descriptors(run: Run) -> None:
    async def main() -> None:
        async with welcoming(listening) as (listener, present):
            with descriptors_left(0), capture_logs() as logs:
                listener.start()
                await eventually(lambda: logs)
            await listener.close()
            await asyncio.sleep(1.1)  # longer than it pauses
            assert not present

    with knocking(1) as (listening, _):
        run(main())


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process may open so many more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    with ExitStack() as gaps:
        while (free := os.dup(0)) < highest:
            gaps.callback(os.close, free)
        os.close(free)
        gaps.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, limits[1]))
        yield
