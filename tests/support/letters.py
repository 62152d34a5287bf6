"""Dead letters, put there by hand, and the real command that works on them."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiormq
import msgspec
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.event import encode_json
from contract.stamp import Stamp
from devstack import Devstack
from tests.support.pair import EXAMPLE, Site
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually

AT_ONCE = 500
SECONDS = 120
"""For one run of the command."""

Documents = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True)
class Ended:
    """A run of the command that is over."""

    code: int
    """Negative when a signal ended it."""
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def items(self) -> list[dict[str, Any]]:
        """What `--json` printed, line by line."""
        return [msgspec.json.decode(line) for line in self.stdout.splitlines()]


@dataclass(frozen=True)
class Tool:
    """`python -m worker dead-letters`, or another command, in one test's surroundings."""

    site: Site
    settings: dict[str, str] = field(default_factory=dict)
    launcher: tuple[str, ...] = ()
    """A module that starts the command, with its arguments."""
    command: str = "dead-letters"

    async def __call__(self, *arguments: str, code: int | None = 0, stdin: int = subprocess.DEVNULL) -> Ended:
        """Run it to its end, which must be this exit code."""
        ended = await asyncio.to_thread(self._run, arguments, stdin)
        assert code is None or ended.code == code, (ended.code, ended.text[-2000:], ended.stderr[-2000:])
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    async def until_there_is_none(self, *arguments: str) -> None:
        """Run it again and again until it finds no letter; a broker that still counts a dead reader is waited out."""

        async def is_done() -> bool:
            ended = await self(*arguments, code=None)
            assert ended.code in {0, 1, 75}, ended.stderr
            return ended.code == 1

        await eventually(is_done, seconds=SECONDS, every=0.2, what="all letters to be gone")

    def _run(self, arguments: Sequence[str], stdin: int) -> Ended:
        process = self.start(*arguments, stdin=stdin)
        try:
            stdout, stderr = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        return Ended(process.returncode, stdout, stderr.decode())

    async def peak_kib(self, *arguments: str) -> tuple[int, Path]:
        """Run it to its end; the most memory it had, and where its output is."""
        out = self.site.directory / "stdout"
        with out.open("wb") as stdout:
            process = self.start(*arguments, stdout=stdout.fileno(), stderr=subprocess.DEVNULL)
            peak = 0
            while process.poll() is None:
                peak = _high_water_kib(process.pid) or peak
                await asyncio.sleep(0.02)  # between two looks
        assert process.returncode == 0
        return peak, out

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "WORKER_"))}
        settings = {
            "amqp_url": self.site.amqp_url,
            "mongodb_uri": self.site.mongodb_uri,
            "mongodb_database": self.site.database,
            **self.settings,
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *self.launcher, "worker", self.command, *arguments],
            cwd=ROOT,
            env={**kept, **{f"WORKER_{name.upper()}": value for name, value in settings.items()}},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )


def _high_water_kib(pid: int) -> int:
    """0 when it has just ended. Not from wait4, which counts what the parent had before the exec."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Letter:
    """One that a worker has parked, or a whole message."""

    body: bytes
    headers: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.headers["usage-key"])


def event(number: int, project: str = "p", **fields: Any) -> bytes:
    """A valid event as a producer writes it."""
    return encode_json({**EXAMPLE, "quantity": "1", "projectId": project, "idempotencyKey": f"key-{number}", **fields})


def parked(
    body: bytes,
    reason: str = "REFUSED",
    *,
    at: str = "2026-01-31T12:00:00.000Z",
    source: str = "queue",
    key: UUID | None = None,
    detail: str = "a sentence",
) -> Letter:
    """A letter as a worker parks it."""
    return Letter(
        body,
        {
            "usage-key": str(key or uuid4()),
            "usage-reason": reason,
            "usage-detail": detail,
            "usage-source": source,
            "usage-parked-at": at,
        },
    )


class Post:
    """Puts messages anywhere, as whoever may send them."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def park(self, letters: Iterable[Letter]) -> None:
        """Put letters among the dead letters, in this order."""
        every = list(letters)
        for start in range(0, len(every), AT_ONCE):
            await asyncio.gather(*(self.send(one.body, one.headers) for one in every[start : start + AT_ONCE]))

    async def send(
        self,
        body: bytes,
        headers: dict[str, Any] | None = None,
        *,
        exchange: str = topology.DEAD_EXCHANGE,
        routing_key: str = "",
    ) -> None:
        """Publish one message, and have it confirmed."""
        properties = Basic.Properties(content_type="application/json", delivery_mode=2, headers=headers or {})
        await self._channel.basic_publish(
            body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True, timeout=30
        )

    async def strand(self, body: bytes, stamp: Stamp | None = None) -> None:
        """Publish where no queue is bound: the broker itself makes it a dead letter."""
        headers = None if stamp is None else stamp.to_headers()
        await self.send(body, headers, exchange=topology.DIRECT_EXCHANGE, routing_key="nowhere")

    async def wear_out(self, body: bytes, headers: dict[str, Any] | None = None, *, exchange: str) -> None:
        """Publish where workers read, and have it delivered until the broker makes it a dead letter."""
        await self.send(body, headers, exchange=exchange, routing_key=topology.ROUTING_KEY)
        await self.exhaust()

    async def exhaust(self) -> None:
        """Return all that workers would read to the queue, until the broker makes it dead letters."""
        while (got := await self._channel.basic_get(topology.QUEUE)).delivery_tag:
            await self._channel.basic_nack(got.delivery_tag, requeue=True)


@asynccontextmanager
async def posting(url: str) -> AsyncIterator[Post]:
    """Connect, for the length of a block."""
    connection = await aiormq.connect(url)
    try:
        yield Post(await connection.channel(on_return_raises=True))
    finally:
        await connection.close()


@pytest.fixture
def tool(site: Site) -> Tool:
    return Tool(site)


@pytest.fixture
async def post(stack: Devstack, queue: Queue) -> AsyncIterator[Post]:
    del queue  # asked for only to be empty
    async with posting(stack.broker.url) as post:
        yield post


async def settled_depth(queue: Queue, count: int) -> None:
    """Wait until so many dead letters are ready: those of a dead reader come back a moment later."""

    async def is_so() -> bool:
        return await queue.depth(topology.DEAD_QUEUE) == count

    await eventually(is_so, what=f"{count} dead letters")
