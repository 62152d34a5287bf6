"""What `check` says of real surroundings, each of them wrong in one way."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from yarl import URL

import ingest.check_command
import ingest.settings
from contract import topology
from devstack import Devstack
from devstack.database import LocalDatabase
from devstack.ports import LOOPBACK
from preflight.broker import check_broker
from preflight.check import Check
from preflight.ports import check_port
from runtime.admin import serve_admin
from tests.support.pair import Site
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.check.inspection import check_database

Documents = AsyncDatabase[dict[str, Any]]

NOBODY = "127.0.0.1:9"
PASSWORD = "hunter2-geheim"  # noqa: S105 - not one
VARIABLES = ("INGEST_HOST", "INGEST_PORT")


async def run(module: str, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command, with these settings only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "WORKER_"))}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-m", module, "check", *arguments],
        cwd=ROOT,
        env={**kept, **{f"{module}_{name}".upper(): value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings_of(site: Site, module: str) -> dict[str, str]:
    of_worker = {"mongodb_uri": site.mongodb_uri, "mongodb_database": site.database}
    return {"amqp_url": site.amqp_url, "admin_port": "0", **(of_worker if module == "worker" else {"port": "0"})}


def found(checks: Sequence[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def notable(checks: Sequence[Check]) -> dict[str, str]:
    """The state of each that is not as it should be."""
    return {check.name: check.state.value for check in checks if check.state != "ok"}


async def of_broker(url: str, seconds: float = 30) -> list[Check]:
    return await check_broker(url, variable="INGEST_AMQP_URL", seconds=seconds)


async def of_database(uri: str, name: str = "usage", seconds: float = 30, **options: Any) -> list[Check]:
    return await check_database(uri, name, seconds=seconds, **options)


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_all_is_well_and_nothing_is_changed_by_looking(
    site: Site, queue: Queue, database: Documents, module: str
) -> None:
    await queue.delete()
    try:
        ended = await run(module, settings_of(site, module), "--json")
        assert await exists(site.amqp_url) is False
    finally:
        await queue.reset()
    assert ended.returncode == 0, ended.stdout
    document = msgspec.json.decode(ended.stdout)
    assert document["exitCode"] == 0
    checks = {check["name"]: check for check in document["checks"]}
    assert {check["state"] for name, check in checks.items() if name != "clock"} == {"ok"}
    assert "is not there yet" in checks["queue usage.events"]["found"]
    assert checks["queue usage.dead-letters"]["found"] == "is as it must be; ready 0, consumers 0"
    assert await database.list_collection_names() == []
    assert ended.stderr.startswith(f"{len(checks)} checks: ")


async def exists(url: str) -> bool:
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        try:
            await channel.declare_queue(topology.QUEUE, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        return True


# 78 and 75, by the real command.


async def test_a_wrong_variable_ends_with_78_and_is_named() -> None:
    ended = await run("ingest", {"amqp_url": f"http://me:{PASSWORD}@broker/", "drain_timeout": "-1"})
    assert ended.returncode == 78
    for variable in ("INGEST_AMQP_URL", "INGEST_DRAIN_TIMEOUT"):
        assert f"wrong    settings  {variable} is wrong: " in ended.stdout
        assert f"to mend it: change {variable}" in ended.stdout
    assert PASSWORD not in ended.stdout + ended.stderr


async def test_what_is_away_ends_with_75_within_the_time_that_its_variable_allows() -> None:
    settings = {"amqp_url": f"amqp://{NOBODY}/", "mongodb_uri": f"mongodb://{NOBODY}/", "admin_port": "0"}
    ended = await run("worker", {**settings, "check_timeout": "0.3", "check_json": "true"})
    assert ended.returncode == 75
    states = {check["name"]: check["state"] for check in msgspec.json.decode(ended.stdout)["checks"]}
    assert (states["broker"], states["database"]) == ("away", "away")


async def test_what_is_wrong_decides_when_something_is_away_as_well(site: Site) -> None:
    uri = site.mongodb_uri.replace("mongodb://", f"mongodb://me:{PASSWORD}@")
    settings = {**settings_of(site, "worker"), "amqp_url": f"amqp://me:{PASSWORD}@{NOBODY}/", "mongodb_uri": uri}
    ended = await run("worker", settings, "--timeout", "20")
    assert ended.returncode == 78
    assert "MongoDB refuses: OperationFailure: Authentication failed." in ended.stdout
    assert "role readWrite" in ended.stdout
    assert PASSWORD not in ended.stdout + ended.stderr


# The broker.


async def test_a_password_that_the_broker_refuses_is_wrong(site: Site) -> None:
    [check] = await of_broker(str(URL(site.amqp_url).with_password(PASSWORD)))
    assert (check.state, "credentials" in check.found) == ("wrong", True)
    assert "INGEST_AMQP_URL" in check.mend


async def test_a_virtual_host_that_does_not_exist_is_wrong(site: Site) -> None:
    [check] = await of_broker(str(URL(site.amqp_url).with_path("/nowhere")))
    assert (check.state, "virtual host" in check.found) == ("wrong", True)
    assert "add_vhost" in check.mend


async def test_a_broker_that_hangs_is_away(stack: Devstack, queue: Queue) -> None:
    del queue
    await asyncio.to_thread(stack.broker.freeze)
    try:
        [check] = await of_broker(stack.broker.url, seconds=0.3)
    finally:
        await asyncio.to_thread(stack.broker.thaw)
    assert (check.state, "within 0.3 s" in check.found) == ("away", True)


@asynccontextmanager
async def another(kind: str, queue: Queue, url: str) -> AsyncIterator[None]:
    """A queue, or an exchange, stands where ours must be, for the length of a block."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        if kind == "queue":
            await channel.queue_delete(topology.QUEUE)
            await channel.declare_queue(topology.QUEUE, durable=True)
        else:
            await channel.exchange_delete(topology.DIRECT_EXCHANGE)
            await channel.declare_exchange(topology.DIRECT_EXCHANGE, "direct", durable=True)
        try:
            yield
        finally:
            await channel.queue_delete(topology.QUEUE)
            await channel.exchange_delete(topology.DIRECT_EXCHANGE)
            await queue.reset()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("queue", "queue usage.events"), ("exchange", "exchange usage.direct")],
    ids=["queue", "exchange"],
)
async def test_what_was_declared_otherwise_is_wrong(site: Site, queue: Queue, kind: str, name: str) -> None:
    async with another(kind, queue, site.amqp_url):
        checks = await of_broker(site.amqp_url)
    assert notable(checks) == {name: "wrong"}
    assert "inequivalent arg" in found(checks, name).found
    assert "makes it anew" in found(checks, name).mend


async def test_a_user_that_may_not_declare_is_told_what_it_needs(stack: Devstack, queue: Queue) -> None:
    del queue
    add = (
        'rabbit_auth_backend_internal:add_user(<<"reader">>, <<"reader">>, <<"test">>), '
        'rabbit_auth_backend_internal:set_permissions(<<"reader">>, <<"/">>, <<"^$">>, <<"^$">>, <<".*">>, <<"test">>).'
    )
    await asyncio.to_thread(stack.broker.ctl, "eval", add)
    checks = await of_broker(str(URL(stack.broker.url).with_user("reader").with_password("reader")))
    await asyncio.to_thread(stack.broker.ctl, "delete_user", "reader")
    assert set(notable(checks)) == {f"{part.kind} {part.name}" for part in topology.PARTS}
    assert "set_permissions" in found(checks, "queue usage.events").mend


async def test_an_alarm_of_the_broker_is_seen_and_no_heartbeat_too(stack: Devstack, queue: Queue) -> None:
    del queue
    await asyncio.to_thread(stack.broker.ctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        checks = await of_broker(f"{stack.broker.url}?heartbeat=0")
    finally:
        await asyncio.to_thread(stack.broker.ctl, "set_vm_memory_high_watermark", "0.4")
    assert notable(checks) == {"broker's alarms": "away", "heartbeat": "warning"}


# The database.


class Lone(LocalDatabase):
    """One that nobody has initiated, or that is started without a replica set at all."""

    def __init__(self, directory: Path, *, member: bool, arguments: Sequence[str] = ()) -> None:
        super().__init__(directory, arguments=arguments)
        self._member = member

    def command(self) -> Sequence[str]:
        return [one for one in super().command() if self._member or not one.startswith("--replSet")]

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0


async def skip_without_mongod(stack: Devstack) -> None:
    if not isinstance(await asyncio.to_thread(lambda: stack.database), LocalDatabase):
        pytest.skip("there is no mongod on this machine")


@asynccontextmanager
async def running(server: Lone) -> AsyncIterator[Lone]:
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.mark.parametrize(("kind", "mend"), [("alone", "--replSet"), ("new member", "rs.initiate()")])
async def test_a_server_that_has_no_transactions_is_wrong_and_not_away(
    stack: Devstack, tmp_path: Path, kind: str, mend: str
) -> None:
    await skip_without_mongod(stack)
    async with running(Lone(tmp_path, member=kind == "new member")) as server:
        [check] = await of_database(server.uri, seconds=3)
    assert check.state == "wrong"
    assert mend in check.mend


async def test_a_server_that_asks_for_a_login_is_well_with_the_role_that_the_runbook_names_and_wrong_with_none(
    stack: Devstack, tmp_path: Path
) -> None:
    await skip_without_mongod(stack)
    key = tmp_path / "key"
    key.write_text("a" * 64)
    key.chmod(0o600)
    async with running(Lone(tmp_path, member=True, arguments=[f"--keyFile={key}"])) as server:
        await make_users(server)
        without = await of_database(server.uri)
        uri = server.uri.replace("mongodb://", f"mongodb://worker:{PASSWORD}@").replace("/?", "/usage?")
        checks = await of_database(uri)
    assert notable(without) == {"rights": "wrong"}
    assert "role readWrite" in found(without, "rights").mend
    assert notable(checks) == {}
    assert found(checks, "rights").found == "the user worker may do what is needed"
    assert "not told to this user" in found(checks, "replica set").found


async def make_users(server: Lone) -> None:
    """Initiate the set, and make the first users, which a server lets anybody on its own machine do."""
    direct = f"mongodb://{LOOPBACK}:{server.port}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](direct) as client:
        member = {"_id": 0, "host": f"{LOOPBACK}:{server.port}"}
        await client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
        await eventually(lambda: is_writable(client))
        await client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
    async with AsyncMongoClient[dict[str, Any]](direct, username="root", password=PASSWORD) as client:
        await client.usage.command("createUser", "worker", pwd=PASSWORD, roles=["readWrite"])


async def is_writable(client: AsyncMongoClient[dict[str, Any]]) -> bool:
    return bool((await client.admin.command("hello"))["isWritablePrimary"])


async def test_a_write_concern_that_can_lose_what_was_stored_is_wrong(site: Site) -> None:
    [check] = await of_database(f"{site.mongodb_uri}&w=1")
    assert (check.state, "write concern" in check.found) == ("wrong", True)
    assert "set w=majority" in check.mend


async def test_a_uri_that_the_driver_cannot_use_is_wrong() -> None:
    [check] = await of_database(f"mongodb://me:not/{PASSWORD}@h/")
    assert check.state == "wrong"
    assert PASSWORD not in check.found


async def test_another_replica_set_than_the_named_one_is_wrong(site: Site) -> None:
    [check] = await of_database(site.mongodb_uri.replace("rs0", "rs1"), seconds=3)
    assert (check.state, "of the set rs0" in check.found) == ("wrong", True)


async def test_a_database_that_hangs_is_away(stack: Devstack, database: Documents) -> None:
    del database
    await asyncio.to_thread(stack.database.freeze)
    try:
        [check] = await of_database(stack.database.uri, seconds=0.5)
    finally:
        await asyncio.to_thread(stack.database.thaw)
    assert check.state == "away"


async def test_a_user_without_the_rights_is_told_which(site: Site, database: Documents) -> None:
    await database.command("createUser", "reader", pwd=PASSWORD, roles=["read"])
    uri = site.mongodb_uri.replace("mongodb://", f"mongodb://reader:{PASSWORD}@").replace("/?", f"/{database.name}?")
    try:
        checks = await of_database(uri, database.name)
    finally:
        await database.command("dropUser", "reader")
    assert notable(checks) == {"rights": "wrong"}
    assert "insert on" in found(checks, "rights").found
    assert "find on" not in found(checks, "rights").found
    assert 'grantRolesToUser("reader"' in found(checks, "rights").mend


async def test_an_index_that_refuses_events_is_wrong_and_a_missing_one_is_not(site: Site, database: Documents) -> None:
    await database.events.create_index("email", unique=True)
    await database.totals.create_index("count")
    checks = await of_database(site.mongodb_uri, database.name)
    assert notable(checks) == {"indexes of events": "wrong"}
    assert found(checks, "indexes of totals").found == "_id_, count_1"


@pytest.mark.parametrize(("seconds", "state"), [(10, "warning"), (-1000, "wrong")])
async def test_a_clock_that_is_wrong_is_told(site: Site, seconds: float, state: str) -> None:
    checks = await of_database(site.mongodb_uri, clock=lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    assert notable(checks) == {"clock, by MongoDB's": state}


# The machine.


async def test_a_port_is_free_or_ours_or_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unready() -> dict[str, str]:
        return {"broker": "away"}

    async def state(port: int, *, is_replaceable: bool = False) -> tuple[str, str]:
        check = await check_port("port", LOOPBACK, port, variables=VARIABLES, is_replaceable=is_replaceable)
        return check.state.value, check.found.partition(" ")[2]

    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("preflight.ports.PATIENCE", 0.2)
        assert await state(port) == ("wrong", "is in use by something else")
        assert (await state(port, is_replaceable=True))[0] == "warning"
    assert await state(port) == ("ok", "is free")
    monkeypatch.setattr("preflight.ports.PATIENCE", 30)
    async with serve_admin(LOOPBACK, 0, explicit=True, unready=unready, registry=CollectorRegistry()) as port:
        assert await state(port) == ("ok", "is in use by a process of ours, which answers")
    assert (await check_port("port", "192.0.2.1", 8080, variables=VARIABLES)).state == "wrong"


async def test_looking_at_a_shared_port_takes_no_connection_from_those_who_listen_there() -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((LOOPBACK, 0))
        listening.listen()
        port = listening.getsockname()[1]
        check = await check_port("port", LOOPBACK, port, variables=VARIABLES, reuse=True)
        assert check.found.endswith("is free")
        for _ in range(20):
            socket.create_connection((LOOPBACK, port), timeout=1).close()


@pytest.mark.parametrize(
    ("auth", "content", "state"),
    [
        ("open", None, "ok"),
        ("api-key", None, "wrong"),
        ("api-key", "nonsense", "wrong"),
        ("api-key", '{"keys": []}', "warning"),
        ("open,api-key", '{"keys": []}', "ok"),
    ],
)
async def test_files_of_credentials_are_read(tmp_path: Path, auth: str, content: str | None, state: str) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    settings = ingest.settings.Settings.model_validate({"auth": auth, "api_keys_file": path})
    check = ingest.check_command.check_access(settings)
    assert check.state == state
    assert bool(check.mend) == (state != "ok")
