"""Answers that stay the same for as long as the process lives."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from contract.event import encode_json


def serve(document: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers with `document`, which is encoded once."""
    body = encode_json(document)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return answer
