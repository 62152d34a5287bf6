"""What is going on, watched with the real command."""

import asyncio
import contextlib
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from devstack import Devstack
from tests.support.deployment import proxy_of
from tests.support.letters import Tool
from tests.support.pair import EXAMPLE, Pair, Site
from tests.support.processes import Process
from tests.support.waiting import eventually
from worker.operate.sources import Away, Broker, Queues

NOBODY = "http://127.0.0.1:9"


async def admin_url(process: Process) -> str:
    port = (await process.logged(r'"port": (\d+)'))[1]
    return f"http://127.0.0.1:{port}"


async def sampled(pair: Pair, *options: str) -> dict[str, Any]:
    """One sample of both, and of a worker that is not there."""
    urls = ("--ingest", await admin_url(pair.ingest), "--worker", await admin_url(pair.worker), "--worker", NOBODY)
    [sample] = (await Tool(pair.site, command="top")("--json", *urls, *options)).items
    return sample


@asynccontextmanager
async def traffic(pair: Pair, http: aiohttp.ClientSession) -> AsyncIterator[None]:
    """Record and have refused, for the length of a block."""

    async def record() -> None:
        while True:
            for body in (EXAMPLE, EXAMPLE, {}):
                async with http.post(pair.usage_url(), json=body):
                    pass

    recording = asyncio.create_task(record())
    try:
        yield
    finally:
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording


async def test_a_sample_tells_how_much_of_what_happens_and_who_is_away(
    pair: Pair, http: aiohttp.ClientSession, stack: Devstack
) -> None:
    async with traffic(pair, http):
        sample = await sampled(pair, "--interval", "1")
    [ingest], [worker, nobody] = sample["ingest"], sample["worker"]
    assert sample["broker"]["consumers"] == 1
    assert ingest["ready"] is worker["ready"] is True
    assert ingest["acceptedPerSecond"] > 2
    assert ingest["refusedPerSecond"] == pytest.approx(ingest["acceptedPerSecond"] / 2, rel=0.5)
    assert worker["storedPerSecond"] > 2
    assert 0 < ingest["confirmSecondsMedian"] <= ingest["confirmSeconds99"] < 2
    assert 0 < worker["lagSecondsMedian"] <= worker["lagSeconds99"] < 30
    assert 1 <= worker["eventsPerBatch"] < 1000
    assert nobody == {"url": NOBODY, "away": "nobody is there"}

    # and while the database hangs, what the worker holds
    await asyncio.to_thread(stack.database.freeze)
    try:
        async with http.post(pair.usage_url(), json=EXAMPLE) as answer:
            assert answer.status == 200
        [worker, _] = (await sampled(pair, "--interval", "0.1"))["worker"]
    finally:
        await asyncio.to_thread(stack.database.thaw)
    assert worker["unsettled"] >= 1
    assert worker["unready"] == {"database": "does not answer"}


async def test_a_broker_that_is_away_is_no_error_and_is_seen_again_when_it_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.operate.sources.PATIENCE", 20)
    async with proxy_of(site.amqp_url) as proxy, Broker(f"amqp://guest:guest@127.0.0.1:{proxy.port}/") as broker:
        assert await broker.look() == Queues(0, 0, 0)
        proxy.reset()
        assert isinstance(await broker.look(), Away)
        assert isinstance(await broker.look(), Away)
        proxy.pass_()
        assert await broker.look() == Queues(0, 0, 0)
        assert proxy.accepted >= 2
        proxy.blackhole()
        monkeypatch.setattr("worker.operate.sources.PATIENCE", 1)
        assert await broker.look() == Away("does not answer")


@pytest.mark.parametrize("way", ["q", "SIGINT"])
async def test_the_screen_is_live_until_it_is_told_to_stop_and_leaves_the_terminal_as_it_was(
    site: Site, way: str
) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    before = termios.tcgetattr(theirs)
    # Not the default ports, where somebody else on this machine may have processes.
    nowhere = ("--ingest", NOBODY, "--worker", NOBODY)
    process = Tool(site, command="top").start(*nowhere, "--interval", "0.1", stdin=theirs, stdout=theirs)
    seen = bytearray()

    def frames() -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.extend(os.read(ours, 65536))
        return seen.count(b"WORKER") >= 2

    try:
        await eventually(frames, what="two frames")
        if way == "q":
            os.write(ours, b"xq")
        else:
            process.send_signal(signal.SIGINT)
        await eventually(lambda: frames() and process.poll() is not None, what="the end")
        assert process.returncode == 0
        assert termios.tcgetattr(theirs) == before
        assert b"nobody is there" in seen
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
        os.close(theirs)
