"""A request's body, read within bounds of time, size and form."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, hdrs, web

_GZIP_WINDOW: Final = 31
_IDENTITY: Final = "identity"
_GZIP: Final = "gzip"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


class BodyTooLarge(Exception):
    """The body is larger than allowed."""


class BodyTimeout(Exception):
    """The body did not arrive in time."""


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says, or its framing is broken."""


class UnsupportedMediaType(Exception):
    """The body is of a type or encoding that is not taken here."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a body may be once inflated, how many seconds it may take to arrive, and which types it may have."""

    bytes: int
    seconds: float
    types: tuple[str, ...] = (JSON,)


def check_head(request: web.BaseRequest, limits: BodyLimits) -> int:
    """Refuse by the headers alone what need not be read; return how many bytes to expect at the most.

    Raises UnsupportedMediaType, BodyTooLarge.
    """
    if request.headers.get(hdrs.CONTENT_TYPE) not in limits.types and not _has_type(request, limits.types):
        raise UnsupportedMediaType(f"Content-Type must be {' or '.join(limits.types)}, in UTF-8")
    encoding = _encoding_of(request)
    if encoding not in {_IDENTITY, _GZIP}:
        raise UnsupportedMediaType("Content-Encoding must be identity or gzip")
    length = request.content_length
    if length is None:
        return limits.bytes
    if length > limits.bytes:
        raise _too_large(limits)
    return length if encoding == _IDENTITY else limits.bytes  # a thousandth of it may be sent


async def read_body(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """Read the body as it is sent, deflated or not; raises BodyTooLarge, BodyTimeout, BadEncoding."""
    stream = request.content
    try:
        if stream.is_eof():  # the usual case: head and body came together
            body = stream.read_nowait(-1)
        else:
            async with asyncio.timeout(limits.seconds):
                body = await _read_chunks(stream, limits)
    except TimeoutError as exc:
        raise BodyTimeout(f"the body did not arrive within {limits.seconds:g} s") from exc
    except web.RequestPayloadError as exc:
        raise BadEncoding("the body's framing is broken") from exc
    if len(body) > limits.bytes:
        raise _too_large(limits)
    return body


def decode_body(request: web.BaseRequest, body: bytes, limits: BodyLimits) -> bytes:
    """Undo the body's Content-Encoding; raises BodyTooLarge, BadEncoding."""
    return _inflate(body, limits) if _encoding_of(request) == _GZIP else body


def _has_type(request: web.BaseRequest, types: tuple[str, ...]) -> bool:
    """Whether it is one of these, however it is spelled."""
    return request.content_type in types and (request.charset or "utf-8").lower() in {"utf-8", "utf8"}


def _encoding_of(request: web.BaseRequest) -> str:
    return request.headers.get(hdrs.CONTENT_ENCODING, _IDENTITY).lower()


async def _read_chunks(stream: StreamReader, limits: BodyLimits) -> bytes:
    chunks = bytearray()
    while chunk := await stream.readany():
        chunks += chunk
        if len(chunks) > limits.bytes:
            raise _too_large(limits)
    return bytes(chunks)


def _inflate(body: bytes, limits: BodyLimits) -> bytes:
    inflated = b""
    try:
        while body:  # one round for each member
            member = zlib.decompressobj(_GZIP_WINDOW)
            inflated += member.decompress(body, limits.bytes + 1 - len(inflated))
            if len(inflated) > limits.bytes:
                raise _too_large(limits)
            if not member.eof:
                raise BadEncoding("the gzip body ends too early")
            body = member.unused_data
    except zlib.error as exc:
        raise BadEncoding("the body is not valid gzip") from exc
    return inflated


def _too_large(limits: BodyLimits) -> BodyTooLarge:
    return BodyTooLarge(f"the body must not be larger than {limits.bytes} bytes")
