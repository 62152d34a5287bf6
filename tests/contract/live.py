"""The ingest process, and what it publishes, as the outside sees them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.contract.raw import Answer, raw
from tests.support.pair import EXAMPLE_PROJECT, Site, public_url
from tests.support.processes import Process
from tests.support.waiting import eventually


@dataclass
class Ingest:
    """An ingest process that listens."""

    process: Process
    url: str

    @property
    def port(self) -> int:
        """The public one."""
        return int(self.url.rpartition(":")[2])

    def usage_url(self, project: str = EXAMPLE_PROJECT) -> str:
        """Where a project's records are posted."""
        return f"{self.url}/api/billing/public/projects/{project}/usage"

    async def send(self, *parts: bytes, seconds: float = 15) -> Answer:
        """Write these bytes to a connection of their own, and read one answer."""
        async with asyncio.timeout(seconds), raw(self.port) as connection:
            await connection.write(*parts)
            return await connection.answer()


class Tap:
    """Everything that ingest has published, in order."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def shows(self, text: str) -> bytes:
        """Wait for the message that holds `text`."""
        return await eventually(
            lambda: next((body for body in self.bodies if text.encode() in body), None), what=f"a message with {text}"
        )

    def shown(self, text: str) -> bool:
        """Whether any message so far holds `text`."""
        return any(text.encode() in body for body in self.bodies)


@asynccontextmanager
async def running_ingest(
    amqp_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    settings: Mapping[str, str] | None = None,
    *,
    connected: bool = True,
) -> AsyncIterator[Ingest]:
    """An ingest process for the length of a block."""
    site = Site(amqp_url, "", "", tmp_path_factory.mktemp(name))
    process = site.ingest(name, **(settings or {}))
    try:
        await process.start()
        if connected:
            url = await public_url(process)
        else:
            url = (await process.logged(r'"address": "(http://[^"]+)"'))[1]
        yield Ingest(process, url)
    finally:
        await process.close()


@asynccontextmanager
async def without_errors(process: Process) -> AsyncIterator[None]:
    """Whatever a client does, it is no error of ours: the process goes on, and logs none."""
    before = len(process.text)
    yield
    logged = process.text[before:]
    assert process.running
    assert '"level": "error"' not in logged, logged
    assert "Traceback" not in logged, logged
