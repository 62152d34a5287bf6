"""Nothing that must not be read can be read in what both processes log, expose, or tell their supervisor."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from devstack import Devstack
from devstack.proxy import Proxy
from tests.support.deployment import proxy_of
from tests.support.indiscreet import SAID
from tests.support.pair import EXAMPLE, Pair, Site, running_pair
from tests.support.processes import Process, running
from tests.support.queue import Queue
from tests.support.waiting import eventually

USER = "logs-test"
PASSWORD = "hunter2/ge%heim"  # noqa: S105 - not one
OPTION = "option-7f3a"
EMAIL = "amari_koss69@northwind.dev"
KEY = "order-42-fe11"
API_KEY = "usage_0aZ9bY8c_0123456789abcdefghijklmnopqrstuv_AbC123"
SIGNATURE = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
SECRETS = (PASSWORD, str(URL.build(user=USER, password=PASSWORD, host="h").raw_password), OPTION, EMAIL, KEY, API_KEY,
           SIGNATURE)  # fmt: skip
HEADERS = {
    "X-API-Key": API_KEY,
    "webhook-id": KEY,
    "webhook-timestamp": "1",
    "webhook-signature": f"v1,{SIGNATURE}",
    "Idempotency-Key": KEY,
}


@pytest.fixture
async def broker(stack: Devstack, proxy: Proxy) -> AsyncIterator[URL]:
    """The broker, for a user with a password, by a way that can be broken, with an option."""
    await asyncio.to_thread(stack.broker.ctl, "add_user", USER, PASSWORD)
    await asyncio.to_thread(stack.broker.ctl, "set_permissions", USER, ".*", ".*", ".*")
    url = URL(stack.broker.url).with_user(USER).with_password(PASSWORD).with_port(proxy.port)
    yield url.with_query(name=OPTION)
    await asyncio.to_thread(stack.broker.ctl, "delete_user", USER)


@pytest.fixture
async def database_proxy(stack: Devstack) -> AsyncIterator[Proxy]:
    async with proxy_of(stack.database.uri) as proxy:
        yield proxy


@pytest.fixture
def statuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Where the processes tell how they are."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.setblocking(False)  # noqa: FBT003 - the only way to call it
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listener


def heard(listener: socket.socket) -> str:
    texts = []
    with listener:
        try:
            while True:
                texts.append(listener.recv(4096).decode())
        except BlockingIOError:
            return "\n".join(texts)


async def metrics(process: Process, http: aiohttp.ClientSession) -> str:
    port = (await process.logged(r'"port": (\d+), "event": "admin port"'))[1]
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        return await response.text()


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert text
        assert [secret for secret in SECRETS if secret in text] == [], text


async def misuse(pair: Pair, http: aiohttp.ClientSession, queue: Queue) -> None:
    """Send whatever can be wrong, with something in it that must not be read."""
    record = {**EXAMPLE, "email": EMAIL, "idempotencyKey": KEY}
    bodies = [
        json.dumps(body)
        for body in (
            record,
            {**record, "quantity": 7},
            {**record, "email": f"{EMAIL} <{EMAIL}>"},
            {**record, "metric": ""},
            {**record, KEY: EMAIL},
            [record, EMAIL],
        )
    ]
    for body in [*bodies, bodies[0][:-2]]:
        for headers in ({}, HEADERS, {"Authorization": f"Bearer {API_KEY}"}):
            json_headers = {"Content-Type": "application/json", **headers}
            async with http.post(pair.usage_url(), data=body, headers=json_headers) as response:
                assert response.status in {200, 400, 401}
    await queue.send([json.dumps({**json.loads(body), "projectId": "p"}).encode() for body in bodies[:5]])
    await queue.send([bodies[0][:-2].encode()])
    await pair.worker.logged('"dead letter"')


async def test_no_secret_can_be_read_of_processes_that_meet_everything_that_can_go_wrong(
    site: Site,
    broker: URL,
    proxy: Proxy,
    database_proxy: Proxy,
    statuses: socket.socket,
    queue: Queue,
    http: aiohttp.ClientSession,
) -> None:
    keys = site.directory / "keys.json"
    keys.write_text('{"keys": []}')
    secrets = site.directory / "secrets.json"
    secrets.write_text('{"secrets": []}')
    site.amqp_url = str(broker)
    site.mongodb_uri = f"mongodb://127.0.0.1:{database_proxy.port}/?directConnection=true&serverMonitoringMode=poll"
    site.ingest_settings |= {
        "log_level": "DEBUG",
        "auth": "open,api-key,signature",
        "api_keys_file": str(keys),
        "signing_secrets_file": str(secrets),
    }
    async with running_pair(site) as pair:
        await misuse(pair, http, queue)
        # what a file of credentials holds is a secret even where it is wrong
        keys.write_text(json.dumps({"keys": [API_KEY]}))
        secrets.write_text(json.dumps({"secrets": [{"secret": OPTION, OPTION: KEY}]}))
        await pair.ingest.logged("credentials kept as they were")
        proxy.reset()
        # Not yet the database: a worker that loses both in a batch asks for the broker when the database is back.
        for process in (pair.ingest, pair.worker):
            await process.logged("broker lost, still")
        database_proxy.reset()
        sessions = pair.worker.text.count('"consuming"')
        proxy.pass_()
        database_proxy.pass_()
        await eventually(lambda: pair.worker.text.count('"consuming"') > sessions)
        assert_silent(await metrics(pair.ingest, http), await metrics(pair.worker, http))
    assert_silent(pair.ingest.text, pair.worker.text, heard(statuses))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9", "database.invalid", "127.0.0.1:9,database.invalid:9"], ids=["closed", "unknown", "several"]
)
async def test_the_password_of_a_database_that_cannot_be_reached_is_not_logged(site: Site, host: str) -> None:
    uri = f"mongodb://{USER}:hunter2%2Fge%25heim@{host}/?authSource={OPTION}"
    process = site.worker(mongodb_uri=uri, mongodb_timeout="0.3")
    async with running(process):
        await process.logged("database away, still")
    assert_silent(process.text)
    assert "Traceback" not in process.text


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_the_password_of_a_broker_that_refuses_it_or_is_not_there_is_not_logged(
    site: Site, broker: URL, module: str
) -> None:
    urls = {
        "refused": broker.with_user("nobody").with_port(URL(site.amqp_url).port),
        "closed": broker.with_port(9),
        "unknown": broker.with_host("b.invalid"),
    }
    for name, url in urls.items():
        settings = {"amqp_url": str(url), "log_level": "DEBUG"}
        process = site.ingest(name, **settings) if module == "ingest" else site.worker(name, **settings)
        async with running(process):
            if name == "refused":
                assert await process.wait() == 78
            else:
                await process.logged("broker lost, still")
        assert_silent(process.text)


@pytest.mark.parametrize("module", ["ingest", "worker"])
async def test_what_must_not_be_read_is_taken_out_of_what_libraries_and_bugs_say(site: Site, module: str) -> None:
    url = URL.build(scheme="amqp", user=USER, password=PASSWORD, host="127.0.0.1", port=9, query={"name": OPTION})
    text = (
        f"cannot reach {url}, whose password is {PASSWORD}: the record had email={EMAIL} and idempotencyKey={KEY}, "
        f"the request X-API-Key: {API_KEY} and webhook-signature: v1,{SIGNATURE}"
    )
    assert [secret for secret in SECRETS if secret not in text] == []
    site.launcher = ("tests.support.indiscreet", text)
    process = site.ingest(amqp_url=str(url)) if module == "ingest" else site.worker(amqp_url=str(url))
    async with running(process):
        for said in SAID:
            await process.logged(said)
    assert process.text.count("cannot reach amqp://***@127.0.0.1:9/?***") >= len(SAID)
    assert_silent(process.text)
