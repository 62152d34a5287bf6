"""The services of a stack work, break, recover, and end with whoever started them."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import psutil
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.common import FieldTable
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from devstack import Broker, Database, Devstack, DidNotStart, NotRunning, Service
from devstack.broker import LocalBroker, speaks_amqp
from devstack.database import LocalDatabase
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE
from devstack.local import LocalService

SOON = 20.0
QUORUM: FieldTable = {"x-queue-type": "quorum"}
OURS = {"beam.smp", "epmd", "mongod"}

CALLER = """
import signal, sys, time
from devstack import Devstack
# A shell that starts this test in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Devstack() as stack:
    {start}
    print("up", stack._directory.path, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Devstack]:
    """A stack of this module's own, since it is broken all the time."""
    if {AMQP_VARIABLE, MONGODB_VARIABLE} & os.environ.keys():
        pytest.skip("what the environment provides is not ours to break")
    with Devstack() as stack:
        yield stack.start()


@pytest.fixture
def broker(own: Devstack) -> Iterator[Broker]:
    yield own.broker
    own.broker.start()


@pytest.fixture
def database(own: Devstack) -> Iterator[Database]:
    yield own.database
    own.database.start()


async def channel_of(connection: AbstractConnection) -> AbstractChannel:
    channel = await connection.channel(on_return_raises=True)
    await channel.declare_queue("own", durable=True, arguments=QUORUM)
    return channel


async def publish(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await channel_of(connection)
        message = aio_pika.Message(b"x", delivery_mode=2)
        await channel.default_exchange.publish(message, "own", timeout=SOON)


async def depth(url: str) -> int | None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("own", passive=True)
        return queue.declaration_result.message_count


def client_of(database: Database, seconds: float = SOON) -> MongoClient[dict[str, Any]]:
    return MongoClient(database.uri, w="majority", timeoutMS=int(seconds * 1000))


def insert(database: Database, seconds: float = SOON) -> int:
    """Store one more document, in so many seconds at the most; how many there are."""
    with client_of(database, seconds) as client:
        client.own.documents.insert_one({})
        return client.own.documents.count_documents({})


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_confirmed_messages_outlive_the_broker(broker: Broker, end: str) -> None:
    await publish(broker.url)
    before = await depth(broker.url)
    url = broker.url

    await asyncio.to_thread(getattr(broker, end))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*_address(url))
    await asyncio.to_thread(broker.start)

    assert broker.url == url
    assert await depth(url) == before
    await publish(url)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_acknowledged_documents_outlive_the_database(database: Database, end: str) -> None:
    before = insert(database)
    uri = database.uri

    getattr(database, end)()
    with pytest.raises(PyMongoError):
        insert(database, seconds=1)
    database.start()

    assert database.uri == uri
    assert insert(database) == before + 1


async def test_a_queue_declared_just_before_a_kill_keeps_its_messages(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        await (await connection.channel()).queue_delete("own")
    await publish(broker.url)

    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)

    assert await depth(broker.url) == 1


def test_a_frozen_database_answers_when_it_thaws(database: Database) -> None:
    insert(database)
    database.freeze()
    with pytest.raises(PyMongoError):
        insert(database, seconds=1)
    database.thaw()
    insert(database)


async def test_a_frozen_broker_answers_when_it_thaws(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await channel_of(connection)
        broker.freeze()
        publishing = asyncio.ensure_future(channel.default_exchange.publish(aio_pika.Message(b"x"), "own"))
        _, waiting = await asyncio.wait([publishing], timeout=0.5)
        assert waiting
        broker.thaw()
        await asyncio.wait_for(publishing, SOON)


async def test_a_frozen_broker_can_be_killed(broker: Broker) -> None:
    broker.freeze()
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    await publish(broker.url)


async def test_a_frozen_database_can_be_stopped(database: Database) -> None:
    database.freeze()
    await asyncio.to_thread(database.stop)
    await asyncio.to_thread(database.start)
    insert(database)


async def test_the_broker_is_controlled_as_by_its_operator(broker: Broker) -> None:
    await publish(broker.url)
    queues = await asyncio.to_thread(broker.ctl, "list_queues", "name", "type")
    assert "own\tquorum" in queues
    assert await asyncio.to_thread(broker.ctl, "eval", "Answer = 6 * 7, {answer, Answer}.") == "{answer, 42}\n"
    for wrong in (["no_such_command"], ["eval", "1 = 2."]):
        with pytest.raises(subprocess.CalledProcessError):
            await asyncio.to_thread(broker.ctl, *wrong)


async def test_a_memory_alarm_blocks_publishers_until_it_is_lifted(broker: Broker) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await channel_of(connection)
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            publishing = asyncio.ensure_future(channel.default_exchange.publish(aio_pika.Message(b"x"), "own"))
            _, waiting = await asyncio.wait([publishing], timeout=0.5)
            assert waiting
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
        await asyncio.wait_for(publishing, SOON)


def test_the_database_has_fail_points(database: Database) -> None:
    insert(database)
    point = {"failCommands": ["insert"], "errorCode": 9}
    with client_of(database) as client:
        client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=point)
    with pytest.raises(PyMongoError):
        insert(database)
    insert(database)


def test_starting_what_runs_changes_nothing(own: Devstack) -> None:
    pids = [_local(service).server.pid for service in (own.broker, own.database)]
    own.broker.start()
    own.database.start()
    assert pids == [_local(service).server.pid for service in (own.broker, own.database)]


def test_what_is_down_cannot_be_broken_again(database: Database) -> None:
    service = _local(database)
    service.kill()
    service.stop()
    for deed in (service.kill, service.freeze, service.thaw):
        with pytest.raises(NotRunning, match="the database is not running"):
            deed()


def test_a_broker_that_is_down_has_nobody_to_control(broker: Broker) -> None:
    _local(broker).stop()
    with pytest.raises(NotRunning):
        broker.ctl("list_queues")


def test_a_failed_start_shows_the_log(own: Devstack, tmp_path: Path) -> None:
    _local(own.database)
    database = LocalDatabase(tmp_path, arguments=["--no-such-option"])
    with pytest.raises(DidNotStart, match=r"the database ended while it started(?s:.*)no-such-option"):
        database.start()


def test_closing_ends_a_start(own: Devstack, tmp_path: Path) -> None:
    _local(own.broker)
    broker = LocalBroker(tmp_path)
    failures: list[Exception] = []

    def start() -> None:
        try:
            broker.start()
        except DidNotStart as failure:
            failures.append(failure)

    thread = threading.Thread(target=start)
    thread.start()
    while not broker.running:
        time.sleep(0.01)
    broker.close()
    thread.join(SOON)
    assert len(failures) == 1
    assert not speaks_amqp("127.0.0.1", broker.port)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_everything_ends_with_its_caller(own: Devstack, number: signal.Signals) -> None:
    _local(own.broker)
    with _caller("stack.start()") as caller:
        directory = _directory_of(caller)
        family = psutil.Process(caller.pid).children(recursive=True)
        assert {process.name() for process in family} >= OURS
        # To the whole group, as Ctrl-C in a terminal does.
        os.killpg(caller.pid, number)
        assert psutil.wait_procs(family, timeout=SOON)[1] == []
    assert not directory.exists()


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGKILL, 0.3), (signal.SIGKILL, 1.5), (signal.SIGINT, 1.0)])
def test_everything_ends_with_a_caller_that_ends_while_it_starts_them(
    own: Devstack, number: signal.Signals, seconds: float
) -> None:
    _local(own.broker)
    with _caller("print('starting', stack._directory.path, flush=True); stack.start()") as caller:
        directory = _directory_of(caller)
        with pytest.raises(subprocess.TimeoutExpired):
            caller.wait(seconds)
        family = psutil.Process(caller.pid).children(recursive=True)
        caller.send_signal(number)
        assert psutil.wait_procs(family, timeout=SOON)[1] == []
    # and so does what was started between the look and the signal
    late = [process for process in psutil.process_iter(["cmdline"]) if _mentions(process, directory)]
    assert psutil.wait_procs(late, timeout=SOON)[1] == []
    assert not directory.exists()
    assert [process for process in psutil.process_iter(["cmdline"]) if _mentions(process, directory)] == []


def _caller(start: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CALLER.format(start=start)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _directory_of(caller: subprocess.Popen[str]) -> Path:
    assert caller.stdout is not None
    directory = Path(caller.stdout.readline().split()[1])
    assert directory.is_dir()
    return directory


def _mentions(process: psutil.Process, directory: Path) -> bool:
    return any(str(directory) in argument for argument in process.info["cmdline"] or ())


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _local(service: Service) -> LocalService:
    if not isinstance(service, LocalService):
        pytest.skip("this service is not a process of this machine")
    return service
