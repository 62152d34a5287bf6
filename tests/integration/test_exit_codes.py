import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aio_pika
import aiohttp
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from yarl import URL

from contract import topology
from devstack import Devstack
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Site, public_url
from tests.support.processes import Process, running
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]

PASSWORD = "hunter2-geheim"  # noqa: S105 - not one
NOBODY = "127.0.0.1:9"
"""Where nobody listens."""
NO_BROKER = f"amqp://guest:guest@{NOBODY}/"
NO_DATABASE = f"mongodb://{NOBODY}/?replicaSet=rs0"


def process_of(site: Site, module: str, name: str | None = None, **settings: str) -> Process:
    return {"ingest": site.ingest, "worker": site.worker}[module](name or module, **settings)


async def refusal(process: Process) -> str:
    """What a process says that cannot work as it is set up: one sentence, which is its last line."""
    async with running(process):
        assert await process.wait(seconds=30) == 78, process.text
    assert "Traceback" not in process.text
    assert PASSWORD not in process.text
    assert '"error"' not in process.text
    return process.text.splitlines()[-1]


async def refusals(site: Site, module: str, variable: str, values: list[str]) -> list[str]:
    """What it says to each of these values of a variable."""
    wrong = [process_of(site, module, f"{variable}-{n}", **{variable: value}) for n, value in enumerate(values)]
    return await asyncio.gather(*map(refusal, wrong))


@contextmanager
def busy_port(port: int = 0) -> Iterator[int]:
    """Somebody else listens there."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # then it is busy already
            taken.bind(("127.0.0.1", port))
            taken.listen()
            port = taken.getsockname()[1]
        yield port


# Settings that can never work: 78.


@pytest.mark.parametrize(
    ("module", "variable", "values"),
    [
        ("ingest", "port", ["http"]),
        ("ingest", "amqp_url", [f"http://me:{PASSWORD}@broker/", "amqp:///"]),
        ("worker", "amqp_url", [f"http://me:{PASSWORD}@broker/", "amqp:///"]),
        ("worker", "mongodb_uri", [f"http://me:{PASSWORD}@database/", f"mongodb://me:not/{PASSWORD}@h/"]),
        ("worker", "mongodb_uri", ["mongodb://", "mongodb://h/?tls=true&tlsCAFile=/nowhere"]),
        ("worker", "mongodb_database", ["a.b"]),
    ],
)
async def test_a_setting_that_can_never_work_is_refused_in_a_sentence_that_names_it(
    site: Site, module: str, variable: str, values: list[str]
) -> None:
    for sentence in await refusals(site, module, variable, values):
        assert sentence.startswith(f"{module}_{variable} ".upper()), sentence


async def test_a_public_port_that_is_busy_is_refused(site: Site) -> None:
    with busy_port() as port:
        sentence = await refusal(site.ingest(port=str(port)))
    assert f"INGEST_PORT {port}" in sentence


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_an_admin_port_that_was_asked_for_and_is_busy_is_refused(site: Site, module: str) -> None:
    with busy_port() as port:
        sentence = await refusal(process_of(site, module, admin_port=str(port)))
    assert str(port) in sentence
    assert "admin port" in sentence


@pytest.mark.parametrize(("module", "default"), [("ingest", 9101), ("worker", 9102)])
async def test_an_admin_port_that_nobody_asked_for_makes_way(
    site: Site, module: str, default: int, http: aiohttp.ClientSession, default_ports: None
) -> None:
    del default_ports  # asked for only so that nobody else has them
    with busy_port(default):
        async with running(process_of(site, module, admin_port="")) as process:
            found = await process.logged(r'"port": (\d+), "event": "admin port"')
            assert int(found[1]) != default
            async with http.get(f"http://127.0.0.1:{found[1]}/healthz") as response:
                assert response.status == 200
            assert await process.stop() == 0


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_the_admin_port_listens_only_where_it_is_told(
    site: Site, module: str, http: aiohttp.ClientSession
) -> None:
    async with running(process_of(site, module, admin_host="127.0.0.2")) as process:
        port = (await process.logged(r'"port": (\d+), "event": "admin port"'))[1]
        async with http.get(f"http://127.0.0.2:{port}/healthz") as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"http://127.0.0.1:{port}/healthz")
        assert await process.stop() == 0


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_an_admin_address_of_another_machine_is_refused(site: Site, module: str) -> None:
    sentence = await refusal(process_of(site, module, admin_host="192.0.2.1"))
    assert "admin port 192.0.2.1:" in sentence


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_a_password_that_the_broker_refuses_is_said(site: Site, module: str) -> None:
    url = URL(site.amqp_url).with_password(PASSWORD)
    [sentence] = await refusals(site, module, "amqp_url", [str(url)])
    assert f"{module.upper()}_AMQP_URL" in sentence
    assert "credentials" in sentence


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_a_virtual_host_that_does_not_exist_is_said(site: Site, module: str) -> None:
    [sentence] = await refusals(site, module, "amqp_url", [str(URL(site.amqp_url).with_path("/nowhere"))])
    assert f"{module.upper()}_AMQP_URL" in sentence
    assert "virtual host" in sentence


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_a_queue_with_other_arguments_is_said(site: Site, queue: Queue, module: str) -> None:
    await queue.delete()
    connection = await aio_pika.connect(site.amqp_url)
    async with connection, connection.channel() as channel:
        await channel.declare_queue(topology.QUEUE, durable=True)
    try:
        sentence = await refusal(process_of(site, module))
        assert "other arguments" in sentence
        assert topology.QUEUE in sentence
    finally:
        await queue.reset()


async def test_a_database_without_durable_writes_is_said(site: Site) -> None:
    [sentence] = await refusals(site, "worker", "mongodb_uri", [f"{site.mongodb_uri}&w=1"])
    assert "WORKER_MONGODB_URI" in sentence
    assert "write concern" in sentence


async def test_a_password_that_the_database_refuses_is_said(site: Site) -> None:
    uri = site.mongodb_uri.replace("mongodb://", f"mongodb://me:{PASSWORD}@")
    [sentence] = await refusals(site, "worker", "mongodb_uri", [uri])
    assert "WORKER_MONGODB_URI" in sentence


# Stopped as asked: 0.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_stop_with_0_when_all_is_well(site: Site, number: signal.Signals) -> None:
    async with running(site.ingest()) as ingest, running(site.worker()) as worker:
        await public_url(ingest)
        await worker.logged("consuming", seconds=30)
        for process in (ingest, worker):
            process.signal(number)
        assert (await ingest.wait(), await worker.wait()) == (0, 0)
    for process in (ingest, worker):
        assert '"stopped"' in process.text
        assert "Traceback" not in process.text


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_a_stop_while_it_still_starts_is_clean(site: Site, module: str) -> None:
    async with running(process_of(site, module)) as process:
        await process.logged('"admin port"')
        assert await process.stop() == 0
    assert "Traceback" not in process.text


@pytest.mark.parametrize(
    ("module", "settings", "noticed"),
    [
        ("ingest", {"amqp_url": NO_BROKER}, "broker lost"),
        ("worker", {"amqp_url": NO_BROKER}, "broker lost"),
        ("worker", {"mongodb_uri": NO_DATABASE, "mongodb_timeout": "1"}, "database away"),
        ("ingest", {"amqp_url": "amqp://broker.invalid/"}, "broker lost"),
        ("worker", {"mongodb_uri": "mongodb+srv://database.invalid/", "mongodb_timeout": "1"}, "database away"),
    ],
)
async def test_what_was_never_there_is_waited_for_and_no_reason_not_to_stop(
    site: Site, module: str, settings: dict[str, str], noticed: str
) -> None:
    async with running(process_of(site, module, **settings)) as process:
        await process.logged(noticed)
        process.signal(signal.SIGTERM)
        assert await process.wait(seconds=20) == 0
    assert "Traceback" not in process.text


async def test_a_worker_stops_with_0_while_the_database_hangs_and_its_batch_is_stored_by_the_next(
    site: Site, stack: Devstack, queue: Queue, database: Database
) -> None:
    async with running(site.worker(mongodb_timeout="1")) as worker:
        await worker.logged("consuming", seconds=30)
        await asyncio.to_thread(stack.database.freeze)
        try:
            await queue.send([record(n) for n in range(10)])
            await worker.logged("database lost")
            worker.signal(signal.SIGTERM)
            assert await worker.wait(seconds=25) == 0
        finally:
            await thaw(stack, database)
    async with running(site.worker("next")):
        await eventually(lambda: all_stored(database, 10), seconds=30)


def record(number: int) -> bytes:
    return json.dumps({**EXAMPLE, "projectId": EXAMPLE_PROJECT, "idempotencyKey": f"order-{number}"}).encode()


async def thaw(stack: Devstack, database: Database) -> None:
    await asyncio.to_thread(stack.database.thaw)
    # The transaction that nobody will end would hold up the removal of the test's database for a minute.
    await database.client.admin.command("killAllSessions", [])


async def all_stored(database: Database, count: int) -> bool:
    return await database.events.count_documents({}) == count


# Stopped by force: 75.


async def test_a_second_signal_ends_a_worker_that_cannot_finish_its_batch(
    site: Site, stack: Devstack, queue: Queue, database: Database
) -> None:
    async with running(site.worker(mongodb_timeout="30")) as worker:
        await worker.logged("consuming", seconds=30)
        await asyncio.to_thread(stack.database.freeze)
        try:
            await queue.send([record(n) for n in range(10)])
            await eventually(lambda: queue_is_empty(queue))
            worker.signal(signal.SIGTERM)
            await worker.logged('"stopping"')
            worker.signal(signal.SIGTERM)
            assert await worker.wait(seconds=20) == 75
        finally:
            await thaw(stack, database)
    assert "second signal" in worker.text
    # and nothing was lost by it
    async with running(site.worker("next")):
        await eventually(lambda: all_stored(database, 10), seconds=30)


async def queue_is_empty(queue: Queue) -> bool:
    return await queue.depth() == 0


@asynccontextmanager
async def request_under_way(ingest: Process) -> AsyncIterator[None]:
    """A client who has sent the head of a request, and takes its time for the body."""
    url = URL(await public_url(ingest))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /api/billing/public/projects/{EXAMPLE_PROJECT}/usage HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 100 ", await reader.readline())
    yield
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_a_second_signal_ends_an_ingest_that_still_waits_for_a_body(site: Site) -> None:
    async with running(site.ingest()) as ingest, request_under_way(ingest):
        ingest.signal(signal.SIGTERM)
        await ingest.logged('"stopping"')
        ingest.signal(signal.SIGTERM)
        assert await ingest.wait(seconds=20) == 75
    assert "second signal" in ingest.text


async def test_a_drain_that_takes_too_long_ends_with_75(site: Site) -> None:
    async with running(site.ingest(drain_timeout="0.3")) as ingest, request_under_way(ingest):
        ingest.signal(signal.SIGTERM)
        assert await ingest.wait(seconds=20) == 75
    assert "drain deadline" in ingest.text
