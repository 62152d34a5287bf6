"""What `make run` starts, shows, and stops, on the broker and the database that the tests have."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import AsyncMongoClient

from devstack import Devstack
from devstack.application import Application, DidNotDrain
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE
from devstack.live import lines
from devstack.ports import free_port
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually


@pytest.fixture
async def services(stack: Devstack, queue: Queue, default_ports: None) -> AsyncIterator[Devstack]:
    """Both, as a first run finds them, and as it must not leave them to others."""
    del queue, default_ports  # asked for only to be empty, and nobody else's
    uri = await asyncio.to_thread(lambda: stack.database.uri)
    yield stack
    async with AsyncMongoClient[dict[str, object]](uri) as client:
        await client.drop_database("usage")


def line_of(stored: str) -> str:
    """What the line that is kept true looks like."""
    return rf"\S+ in/s  0 refused/s  \S+ stored/s  (-|[0-9.]+ m?s) lag  0 unacked  {stored} stored  0 dead"


DIFFERS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9-]{10} [0-9:.]{15}\+00:00|:\d+(?=/docs)")
"""From run to run: ids, times, and the port where 8080 is taken."""


def shown_in_readme() -> list[str]:
    """What README says is printed, in parts that follow one another, before the line that is kept true."""
    [block] = re.findall(r"```text\n\$ make run\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    *shown, live = block.rstrip().split("\n")
    assert re.fullmatch(line_of(r"\d+"), live)
    return "\n".join(shown).split("\n...\n")


async def by_the_printed_lines(shown: str) -> dict[str, Any]:
    """What `top` sees for somebody who copies what is printed into another terminal."""
    [lines_to_copy] = re.findall(r"in another terminal, here:\n\n(.+?)\n\n", shown, re.DOTALL)
    shell = await asyncio.create_subprocess_shell(
        f"{lines_to_copy} --json --count 1 --interval 0.1", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await shell.communicate()
    return dict(json.loads(told))


async def test_it_shows_a_line_from_what_the_processes_say_and_stops_when_all_is_done(
    services: Devstack, tmp_path: Path
) -> None:
    theirs = {AMQP_VARIABLE: services.broker.url, MONGODB_VARIABLE: services.database.uri}
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "devstack"), cwd=ROOT, env={**os.environ, **theirs}, stdout=out, stderr=out
        )
    try:
        await eventually(lambda: re.search(rf"\n{line_of('1')} ", output.read_text()), what="the sample in the line")
        seen = await by_the_printed_lines(output.read_text())
        assert [one for one in (*seen["ingest"], *seen["worker"], seen["broker"]) if "away" in one] == []
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0, output.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    shown = output.read_text()
    for part in shown_in_readme():
        assert DIFFERS.sub("*", part) in DIFFERS.sub("*", shown)
    assert re.search(rf"\n{line_of('1')} +\n", shown)
    assert shown.endswith("\nstopping ...\nstopped\n")
    [logs] = re.findall(r"logs +(\S+)", shown)
    assert not Path(logs).exists()


def arguments_of(process: psutil.Process) -> list[str]:
    """Nothing of one that has just ended: the broker starts some for a moment."""
    try:
        return process.cmdline()[1:]
    except psutil.NoSuchProcess:
        return []


async def test_a_process_that_ends_by_itself_is_in_the_line_and_no_clean_stop(
    services: Devstack, tmp_path: Path
) -> None:
    application = Application(services.broker.url, services.database.uri, tmp_path, port=free_port())
    await asyncio.to_thread(application.__enter__)
    try:
        family = psutil.Process().children(recursive=True)
        [worker] = [one for one in family if arguments_of(one) == ["-m", "worker"]]
        worker.kill()
        seen = lines(application.admin_url("ingest"), application.admin_url("worker"), refresh=0.1)
        async with asyncio.timeout(90), aclosing(seen):
            async for line in seen:
                if line.endswith("worker: away: nobody is there"):
                    break
    finally:
        with pytest.raises(DidNotDrain, match="worker ended with 247, not 0"):
            await asyncio.to_thread(application.__exit__, None, None, None)
