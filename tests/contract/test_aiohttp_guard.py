"""What `ingest/protocol.py` relies on in aiohttp without being promised it: when this fails, read that again."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp.http_parser
import pytest
from aiohttp import web, web_protocol

from ingest.protocol import JsonRequestHandler, JsonSite
from tests.contract.raw import raw
from tests.support.waiting import eventually


class Watched(web_protocol.RequestHandler):
    """aiohttp's handler, which tells what it was asked to answer."""

    __slots__ = ("asked",)

    def __init__(self, *args: Any, asked: list[tuple[Any, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked = asked

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Note it, and answer with something of our own."""
        self.asked.append((request.path, status, type(exc).__name__, message))
        return web.Response(status=status, text="ours")


def test_the_parser_is_the_one_in_c() -> None:
    # Several weaknesses of the past were in the parser written in Python only.
    assert aiohttp.http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"
    assert aiohttp.http_parser.HttpRequestParser is not aiohttp.http_parser.HttpRequestParserPy
    assert vars(web_protocol)["HttpRequestParser"] is aiohttp.http_parser.HttpRequestParser


def test_handle_error_has_the_signature_that_we_override() -> None:
    theirs = inspect.signature(web_protocol.RequestHandler.handle_error)
    ours = inspect.signature(JsonRequestHandler.handle_error)
    assert [(p.name, p.default, p.kind) for p in ours.parameters.values()] == [
        (p.name, p.default, p.kind) for p in theirs.parameters.values()
    ]
    assert not inspect.iscoroutinefunction(web_protocol.RequestHandler.handle_error)


def test_the_handler_has_the_slots_and_methods_that_we_use() -> None:
    assert "_waiter" in web_protocol.RequestHandler.__slots__
    for name in ("data_received", "connection_lost", "force_close"):
        assert inspect.isfunction(getattr(web_protocol.RequestHandler, name))


@pytest.mark.parametrize("name", ["keepalive_timeout", "auto_decompress", "access_log", "loop"])
def test_the_handler_takes_the_arguments_that_we_pass(name: str) -> None:
    assert name in inspect.signature(web_protocol.RequestHandler.__init__).parameters


def test_a_site_has_the_attributes_that_ours_sets() -> None:
    assert "_runner" in web.BaseSite.__slots__
    assert issubclass(JsonSite, web.BaseSite)


async def test_what_the_parser_refuses_is_answered_by_handle_error_with_400() -> None:
    asked: list[tuple[Any, ...]] = []
    async with _served(asked) as port, raw(port) as connection:
        await connection.write(b"no HTTP\r\n\r\n")
        answer = await connection.answer()
    assert (answer.status, answer.body) == (400, b"ours")
    [(path, status, error, message)] = asked
    assert (path, status) == ("/", 400)
    assert error.startswith("Bad")
    assert message  # it quotes the line, which is why ours is left out


async def test_what_a_handler_raises_outside_of_middlewares_is_answered_by_handle_error_with_500() -> None:
    asked: list[tuple[Any, ...]] = []
    async with _served(asked) as port, raw(port) as connection:
        await connection.write(b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await connection.answer()
    assert (answer.status, answer.body) == (500, b"ours")
    assert asked == [("/bug", 500, "ZeroDivisionError", None)]


async def test_the_waiter_is_pending_exactly_while_a_connection_waits_for_a_request() -> None:
    seen: list[bool] = []
    handlers: list[Watched] = []
    released = asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.Response:
        seen.append(handlers[0]._waiter is not None)
        await released.wait()
        seen.append(handlers[0]._waiter is not None)
        return web.Response()

    async with _served([], handler, handlers) as port, raw(port) as connection:
        # given a connection with half a head on it
        await connection.write(b"GET / HTTP/1.1\r\nHo")
        await _until(lambda: bool(handlers) and _waits(handlers[0]))
        # when the rest comes, and the request is under way
        await connection.write(b"st: x\r\n\r\n")
        await _until(lambda: bool(seen))
        released.set()
        await connection.answer()
        # then it waits again only after the answer
        assert seen == [False, False]
        await _until(lambda: _waits(handlers[0]))


def _waits(handler: Watched) -> bool:
    return handler._waiter is not None and not handler._waiter.done()


async def _bug(_: web.BaseRequest) -> web.Response:
    raise ZeroDivisionError


@asynccontextmanager
async def _served(
    asked: list[tuple[Any, ...]],
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = _bug,
    handlers: list[Watched] | None = None,
) -> AsyncIterator[int]:
    """Serve with a watched handler for each connection; the port is yielded."""
    server = web.Server(handler)
    loop = asyncio.get_running_loop()

    def connection() -> Watched:
        watched = Watched(server, loop=loop, asked=asked, access_log=None)
        if handlers is not None:
            handlers.append(watched)
        return watched

    listening = await loop.create_server(connection, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(1)


async def _until(condition: Callable[[], bool]) -> None:
    await eventually(condition)
