"""HTTP by hand, for what no well-behaved client sends."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.pair import EXAMPLE_PROJECT

USAGE_PATH = f"/api/billing/public/projects/{EXAMPLE_PROJECT}/usage"
JSON = "Content-Type: application/json"


@dataclass(frozen=True)
class Answer:
    """A response as it stood on the wire; `interim` holds the statuses that came before it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    interim: tuple[int, ...] = ()

    @property
    def json(self) -> dict[str, Any]:
        """The body, which must be an object."""
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed


@dataclass
class Connection:
    """One TCP connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, *parts: bytes) -> None:
        """Send each part as a segment of its own; what the other side no longer takes is dropped."""
        for part in parts:
            self.writer.write(part)
            try:
                await self.writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(0)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one response by its Content-Length."""
        interim: list[int] = []
        while True:
            status, headers = await self._head()
            if status >= 200:
                length = 0 if bodiless else int(headers["content-length"])
                return Answer(status, headers, await self.reader.readexactly(length), tuple(interim))
            interim.append(status)

    async def ended(self) -> bool:
        """Whether the server closes the connection without another byte."""
        return await self.reader.read(1) == b""

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version in {"HTTP/1.1", "HTTP/1.0", "HTTP/0.9"}
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header twice: {lines}"
        return int(status), headers


@asynccontextmanager
async def raw(port: int) -> AsyncIterator[Connection]:
    """A connection that is closed at the end of the block, whatever is still under way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def head(*lines: str, method: str = "POST", path: str = USAGE_PATH) -> bytes:
    """A request head in HTTP/1.1."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: ingest", *lines, "", ""]).encode("latin-1")


def post(body: bytes, *lines: str, path: str = USAGE_PATH) -> bytes:
    """A well-formed request of JSON, with more header lines."""
    return head(JSON, f"Content-Length: {len(body)}", *lines, path=path) + body


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of `size` bytes."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
