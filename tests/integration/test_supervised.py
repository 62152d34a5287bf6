"""Both processes, as a supervisor with a notify socket hears them."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from devstack import Devstack
from tests.support.pair import Site
from tests.support.processes import Process, running
from tests.support.queue import Queue
from tests.support.waiting import eventually


class Notifications:
    """A notify socket, and what it has heard so far, with the time of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)  # noqa: FBT003 - the only way to call it
        self._heard: list[tuple[float, str]] = []

    @property
    def heard(self) -> list[tuple[float, str]]:
        try:
            while True:
                self._heard.append((time.monotonic(), self._socket.recv(4096).decode()))
        except BlockingIOError:
            return self._heard

    def said(self, word: str) -> bool:
        return any(word in text for _, text in self.heard)

    def since(self, moment: float, word: str) -> int:
        """How often it was said since then."""
        return sum(at > moment and word in text for at, text in self.heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifications]:
    """Where every process that the test starts sends what it has to say."""
    notifications = Notifications(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(notifications.path))
    yield notifications
    notifications.close()


@asynccontextmanager
async def supervised(site: Site, module: str) -> AsyncIterator[Process]:
    async with running(site.ingest() if module == "ingest" else site.worker()) as process:
        yield process


BOTH = pytest.mark.parametrize("module", ["ingest", "worker"])


@BOTH
async def test_ready_signs_of_life_and_stopping_are_heard_in_this_order(
    module: str, site: Site, queue: Queue, notifications: Notifications
) -> None:
    del queue
    async with supervised(site, module) as process:
        await eventually(lambda: notifications.said("READY=1"))
        status = {"ingest": "STATUS=publishing", "worker": "STATUS=consuming"}[module]
        # idle, it goes on saying so
        began = time.monotonic()
        await eventually(lambda: notifications.since(began, f"WATCHDOG=1\n{status}") >= 3, seconds=20)
        assert await process.stop() == 0
    texts = [text for _, text in notifications.heard]
    assert texts[-1].startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000")
    assert sum("READY=1" in text for text in texts) == 1


@BOTH
async def test_a_process_that_waits_for_its_broker_is_alive_and_not_ready_and_stops_with_0(
    module: str, site: Site, stack: Devstack, queue: Queue, notifications: Notifications
) -> None:
    del queue
    await asyncio.to_thread(stack.broker.kill)
    try:
        async with supervised(site, module) as process:
            await eventually(lambda: notifications.since(0, "WATCHDOG=1\nSTATUS=waiting for the broker") >= 2)
            assert not notifications.said("READY=1")
            assert await process.stop() == 0
    finally:
        await asyncio.to_thread(stack.broker.start)


async def test_a_worker_that_waits_for_its_database_before_it_asks_for_the_broker_says_so(
    site: Site, queue: Queue, notifications: Notifications
) -> None:
    del queue
    nowhere = "mongodb://127.0.0.1:9/?replicaSet=rs0"
    site.worker_settings |= {"mongodb_uri": nowhere, "mongodb_timeout": "0.2"}
    async with supervised(site, "worker") as worker, aiohttp.ClientSession() as http:
        await eventually(lambda: notifications.since(0, "WATCHDOG=1\nSTATUS=waiting for the database") >= 2)
        assert not notifications.said("STATUS=waiting for the broker")
        port = (await worker.logged(r'"port": (\d+)'))[1]
        async with http.get(f"http://127.0.0.1:{port}/metrics") as metrics:
            assert "usage_database_ready 0.0" in await metrics.text()
        assert await worker.stop() == 0


async def test_a_worker_whose_database_is_frozen_is_alive_and_says_what_it_waits_for(
    site: Site, stack: Devstack, queue: Queue, notifications: Notifications
) -> None:
    site.worker_settings["mongodb_timeout"] = "1"
    async with supervised(site, "worker") as worker:
        await eventually(lambda: notifications.said("READY=1"))
        await asyncio.to_thread(stack.database.freeze)
        frozen = time.monotonic()
        try:
            await queue.send(
                [b'{"projectId":"p","email":"a@example.com","metric":"m","quantity":1,"idempotencyKey":"k"}']
            )
            waits = "WATCHDOG=1\nSTATUS=waiting for the database"
            await eventually(lambda: notifications.since(frozen, waits) >= 2, seconds=30)
        finally:
            await asyncio.to_thread(stack.database.thaw)
        assert await worker.stop() == 0


@BOTH
async def test_a_process_that_hangs_is_not_heard_of(
    module: str, site: Site, queue: Queue, notifications: Notifications
) -> None:
    del queue
    async with supervised(site, module) as process:
        await eventually(lambda: notifications.said("READY=1"))
        process.signal(signal.SIGSTOP)
        await eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        assert notifications.heard  # what it said until then has an earlier time
        began = time.monotonic()
        await asyncio.sleep(3)  # the length of the fault
        assert notifications.since(began, "WATCHDOG=1") == 0
        process.signal(signal.SIGCONT)
        await eventually(lambda: notifications.since(began, "WATCHDOG=1") >= 1)
