"""HTTP/1.1 on a socket, with JSON also for what never becomes a request."""

import asyncio
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from ingest.errors import REQUEST_ID, HeadTimeout, MalformedRequest, error_body, error_response, request_id_of
from ingest.listener import Listener


class JsonRequestHandler(RequestHandler):
    """aiohttp's connection handler; errors leave as JSON, a head that trickles is cut off.

    `handle_error`, `finish_response` and `_waiter` are not part of aiohttp's documented interface; a test guards them.
    """

    __slots__ = ("_head_seconds", "_head_timer")

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Watch how long a head takes that did not come in one piece; aiohttp has no limit for it."""
        super().data_received(data)
        if self._waiter is not None and not self._waiter.done():
            if self._head_timer is None:
                self._head_timer = asyncio.get_running_loop().call_later(self._head_seconds, self._head_expired)
        elif self._head_timer is not None:
            self._stop_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timer with the connection."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_expired(self) -> None:
        self._head_timer = None
        if self.transport is None:
            return
        exc = HeadTimeout(f"the request line and headers did not arrive within {self._head_seconds:g} s")
        request_id = request_id_of({})
        body = error_body(exc, path="/", request_id=request_id)
        head = (
            "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp's parser refuses.

        Its own sentence is left out: it may quote the line that was sent, with a credential in it.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        if status < 500:  # noqa: PLR2004 - the first server error
            exc = MalformedRequest("the request line, a header or the framing of the body is not valid HTTP/1.1")
        return _response_to(exc if exc is not None else MalformedRequest(message), request)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Put into JSON what aiohttp answers by itself: 404, 405, 417."""
        # Not a coroutine of its own: every request would pay for it.
        if isinstance(resp, web.HTTPException):
            resp = _response_to(resp, request)
        return super().finish_response(request, resp, start_time)


def _response_to(exc: BaseException, request: web.BaseRequest) -> web.Response:
    request_id = request.get(REQUEST_ID) or request_id_of(request.headers)
    return error_response(exc, path=request.raw_path, request_id=request_id)


class JsonSite(web.BaseSite):
    """A listening socket whose connections are JsonRequestHandlers."""

    __slots__ = ("_handler_arguments", "_listener", "_sock")

    def __init__(self, runner: web.BaseRunner, sock: socket.socket, **handler_arguments: Any) -> None:
        super().__init__(runner)
        self._sock = sock
        self._handler_arguments = handler_arguments
        self._listener: Listener | None = None

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._sock.getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Accept connections."""
        await super().start()
        loop = asyncio.get_running_loop()
        connection = partial(JsonRequestHandler, self._runner.server, loop=loop, **self._handler_arguments)
        self._listener = Listener(self._sock, connection)
        self._listener.start()

    async def stop(self) -> None:
        """Accept no more; connections stay."""
        if self._listener is not None:
            await self._listener.close()
        await super().stop()
