"""The page that explains the API, with a form to try it."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib import resources
from pathlib import PurePath
from typing import Final

from aiohttp import web

PATH: Final = "/docs"

_PAGE: Final = "page.html"
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_HEADERS: Final = {
    # Everything comes from here, and nothing that is written into the page runs: an API key is typed into it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # keep it, and ask each time whether it is still the same
}


def add_docs(router: web.UrlDispatcher) -> None:
    """Serve the page at /docs, and what it is made of below; all of it is read now."""
    for file in resources.files("ingest").joinpath("docs").iterdir():
        content_type = _TYPES.get(PurePath(file.name).suffix)
        if content_type is not None:  # what an editor left there is none of it
            path = PATH if file.name == _PAGE else f"{PATH}/{file.name}"
            router.add_get(path, _serve(file.read_bytes(), content_type))


def _serve(body: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    tag = sha256(body).hexdigest()[:32]
    headers = {**_HEADERS, "ETag": f'"{tag}"'}

    async def answer(request: web.Request) -> web.Response:
        if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    return answer
