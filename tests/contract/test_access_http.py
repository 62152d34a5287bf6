"""Who may record, as the real ingest decides it with the real files of credentials."""

import asyncio
import gzip
import json
import signal
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import gt
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from mudbase import ApiClient, BillingApi, Configuration, RecordUsageRequest
from mudbase.exceptions import ForbiddenException, UnauthorizedException
from pymongo.asynchronous.database import AsyncDatabase
from standardwebhooks.webhooks import Webhook, hmac_data

from contract.event import event_id
from tests.contract.live import Ingest, running_ingest, without_errors
from tests.contract.raw import Answer, head, post, raw
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Site
from tests.support.processes import ROOT, Process
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
KEYS = ["error", "code", "details", "timestamp", "path", "requestId"]
BEARER = 'Bearer realm="usage-ingest"'
BAD_TOKEN = f'{BEARER}, error="invalid_token"'
WEBHOOK = 'StandardWebhooks realm="usage-ingest"'
OTHER_PROJECT = "proj_other"
OBJECT_ID_PROJECT = "64d2f1e0c0ffee0123456789"
WRONG = "opensesame-4f9c1e"
RECORD = json.dumps(EXAMPLE).encode()
NEGATIVE = json.dumps({**EXAMPLE, "quantity": "-7.5"}).encode()
SECRET = "whsec_" + b64encode(b"one secret of the example project").decode()
NEXT_SECRET = "whsec_" + b64encode(b"the next one, that replaces the first").decode()
OTHER_SECRET = "whsec_" + b64encode(b"one secret of the other project..").decode()
OLD_SECRET = "whsec_" + b64encode(b"one that the project used before.").decode()


async def keys_command(*arguments: str) -> tuple[int, str, str]:
    """Run `python -m ingest keys`; return its exit code and what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "ingest", "keys", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@dataclass
class Keys:
    """A file of API keys, with the keys that are in it."""

    file: Path
    mine: str = ""
    other: str = ""
    expired: str = ""
    made: list[str] = field(default_factory=list)

    async def create(self, *arguments: str) -> str:
        code, out, err = await keys_command("create", "--file", str(self.file), *arguments)
        assert code == 0, err
        self.made.append(out.strip())
        return self.made[-1]

    async def revoke(self, key: str) -> None:
        code, _, err = await keys_command("revoke", id_of(key), "--file", str(self.file))
        assert code == 0, err

    def expire(self, key: str) -> None:
        """Let a key have expired a second ago, by hand: the command makes only keys that last a day."""
        content = json.loads(self.file.read_text())
        [entry] = [entry for entry in content["keys"] if entry["id"] == id_of(key)]
        entry["expiresAt"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        self.file.write_text(json.dumps(content))


def id_of(key: str) -> str:
    return key.split("_")[1]


@dataclass
class Door:
    """An ingest process that asks for credentials, and shows none of them to anybody."""

    ingest: Ingest
    confidential: list[str]
    """What has been sent, or is known to us, and must stand in no answer and no log."""

    async def send(self, *parts: bytes) -> Answer:
        answer = await self.ingest.send(*parts)
        shown = f"{answer.headers}{answer.body.decode()}"
        assert [text for text in self.confidential if text in shown] == []
        return answer

    async def record(self, *lines: str, body: bytes = RECORD, project: str = EXAMPLE_PROJECT) -> Answer:
        """Post a record, or whatever the body is, with these headers."""
        for line in lines:
            name, _, value = line.partition(": ")
            if name.lower() in {"x-api-key", "authorization"} and len(value) > 10:
                self.confidential.append(value.strip().rpartition(" ")[2])
        return await self.send(post(body, *lines, path=path_of(project)))

    async def batch(self, body: bytes, *lines: str, content_type: str = "application/json") -> Answer:
        lines = (f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *lines)
        return await self.send(head(*lines, path=f"{path_of(EXAMPLE_PROJECT)}/batch") + body)


def path_of(project: str) -> str:
    return f"/api/billing/public/projects/{project}/usage"


@pytest.fixture(scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    keys = Keys(tmp_path_factory.mktemp("keys") / "keys.json")
    keys.mine, keys.other, keys.expired = await asyncio.gather(
        keys.create("--project", EXAMPLE_PROJECT, "--project", OBJECT_ID_PROJECT.upper(), "--label", "mine"),
        keys.create("--project", OTHER_PROJECT),
        keys.create("--project", EXAMPLE_PROJECT, "--expires-in-days", "1"),
    )
    keys.expire(keys.expired)
    return keys


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of signing secrets: two of the example's project for a rotation, one that has expired."""
    path = tmp_path_factory.mktemp("secrets") / "secrets.json"
    entries = [
        {"name": "first", "project": EXAMPLE_PROJECT, "secret": SECRET},
        {"name": "next", "project": EXAMPLE_PROJECT, "secret": NEXT_SECRET},
        {"name": "old", "project": EXAMPLE_PROJECT, "secret": OLD_SECRET, "expiresAt": "2025-01-01T00:00:00Z"},
        {"name": "other", "project": OTHER_PROJECT, "secret": OTHER_SECRET},
    ]
    path.write_text(json.dumps({"secrets": entries}))
    return path


@pytest.fixture(scope="module")
async def doors(
    fresh_broker: str, keys: Keys, secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Door]]:
    """One door for each way to set INGEST_AUTH."""
    files = {"api_keys_file": str(keys.file), "signing_secrets_file": str(secrets)}
    hashes = [entry["sha256"] for entry in json.loads(keys.file.read_text())["keys"]]
    wholes = [SECRET, NEXT_SECRET, OTHER_SECRET, OLD_SECRET]
    confidential = [WRONG, *keys.made, *hashes, *wholes, *(text.removeprefix("whsec_") for text in wholes)]
    async with AsyncExitStack() as stack:

        async def open_door(name: str, modes: str) -> Door:
            settings = {"auth": modes, "log_level": "DEBUG", **files}
            running = running_ingest(fresh_broker, tmp_path_factory, name, settings)
            return Door(await stack.enter_async_context(running), confidential)

        modes = {"keys": "api-key", "signatures": "signature", "any": "open,api-key,signature"}
        doors = await asyncio.gather(*(open_door(name, text) for name, text in modes.items()))
        yield dict(zip(modes, doors, strict=True))


@asynccontextmanager
async def silent(door: Door) -> AsyncIterator[Door]:
    """No test may make the process log an error, or anything that is confidential."""
    async with without_errors(door.ingest.process):
        yield door
    log = door.ingest.process.text
    assert [text for text in door.confidential if text in log] == []


@pytest.fixture
async def keyed(doors: dict[str, Door]) -> AsyncIterator[Door]:
    """Where nobody comes in without an API key."""
    async with silent(doors["keys"]) as door:
        yield door


@pytest.fixture
async def signed(doors: dict[str, Door]) -> AsyncIterator[Door]:
    """Where nobody comes in without a signature."""
    async with silent(doors["signatures"]) as door:
        yield door


@pytest.fixture
async def ajar(doors: dict[str, Door]) -> AsyncIterator[Door]:
    """Where anybody comes in, and whoever shows something must show the right thing."""
    async with silent(doors["any"]) as door:
        yield door


@pytest.fixture(params=["keys", "any"])
async def any_keyed(doors: dict[str, Door], request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    async with silent(doors[request.param]) as door:
        yield door


@pytest.fixture(params=["signatures", "any"])
async def any_signed(doors: dict[str, Door], request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    async with silent(doors[request.param]) as door:
        yield door


@pytest.fixture(scope="module")
def database(worked_database: Database) -> Database:
    return worked_database


def assert_recorded(answer: Answer) -> UUID:
    assert (answer.status, answer.body) == (200, b'{"message": "Usage recorded successfully"}'), answer
    return UUID(answer.headers["usage-id"])


def assert_refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check all that errors have in common; return the body."""
    assert answer.status == status, answer
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json
    assert list(body) == KEYS
    assert body["code"] == code
    assert body["error"]
    assert answer.headers["x-request-id"] == body["requestId"]
    assert "usage-id" not in answer.headers
    assert ("www-authenticate" in answer.headers) == (status == 401)
    return body


def assert_unauthorized(answer: Answer, challenge: str) -> str:
    body = assert_refused(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == challenge
    assert answer.headers["connection"] == "close"
    assert body["details"] == {}
    return str(body["error"])


async def document_of(database: Database, recorded: UUID) -> dict[str, Any]:
    """Wait until a record is stored."""
    return await eventually(lambda: database.events.find_one({"_id": recorded}), what=f"{recorded} to be stored")


async def stored(door: Door, database: Database, key: str, *lines: str) -> list[dict[str, Any]]:
    """Every document whose key begins like this, once what was published before is settled."""
    barrier = assert_recorded(await door.record(*lines))
    await document_of(database, barrier)
    return await database.events.find({"idempotencyKey": {"$regex": f"^{key}(:|$)"}}).sort("_id").to_list()


# API keys.


async def test_a_key_lets_its_caller_in_by_either_header(any_keyed: Door, keys: Keys) -> None:
    key = keys.mine
    for name in ("X-API-Key: ", "x-api-key:  ", "Authorization: Bearer ", "authorization: bearer  "):
        assert_recorded(await any_keyed.record(f"{name}{key}"))


async def test_the_same_key_in_both_headers_is_one_key(any_keyed: Door, keys: Keys) -> None:
    assert_recorded(await any_keyed.record(f"X-API-Key: {keys.mine}", f"Authorization: Bearer {keys.mine}"))


async def test_a_key_for_a_project_of_hexadecimal_digits_covers_either_case(any_keyed: Door, keys: Keys) -> None:
    for project in (OBJECT_ID_PROJECT, OBJECT_ID_PROJECT.upper()):
        assert_recorded(await any_keyed.record(f"X-API-Key: {keys.mine}", project=project))


@pytest.mark.parametrize("line", [None, "Authorization: Basic dXNlcjpwYXNz", "Authorization: Digest x", "Cookie: k=v"])
async def test_who_shows_no_key_is_told_what_to_send(keyed: Door, line: str | None) -> None:
    sentence = assert_unauthorized(await keyed.record(*([] if line is None else [line])), BEARER)
    assert "X-API-Key" in sentence


async def test_where_the_door_is_open_too_nobody_needs_a_key(ajar: Door) -> None:
    assert_recorded(await ajar.record())
    assert_recorded(await ajar.record("Authorization: Basic dXNlcjpwYXNz"))


async def test_a_wrong_key_is_refused_by_one_and_the_same_answer_also_where_none_is_needed(
    any_keyed: Door, keys: Keys
) -> None:
    mine = keys.mine
    wrong = {
        "": "malformed",
        WRONG: "malformed",
        mine[:-1]: "malformed",
        mine + "x": "malformed",
        mine.swapcase(): "malformed",
        mine[:20] + ("a" if mine[20] != "a" else "b") + mine[21:]: "a typing error",
        "usage_00000000_" + "0" * 43 + "_000000": "a wrong checksum",
        "usage_AAAAAAAA_" + "B" * 43 + "_4kLLg6": "made up",
        f"{mine}, {mine}": "two",
        "\xfc" * 40: "not ASCII",
        "usage_" + "x" * 4000: "long",
    }
    sentences = set()
    for key in wrong:
        for line in (f"X-API-Key: {key}", f"Authorization: Bearer {key}"):
            sentences.add(assert_unauthorized(await any_keyed.record(line), BAD_TOKEN))
    assert len(sentences) == 1


async def test_a_key_that_has_expired_is_refused_for_that(any_keyed: Door, keys: Keys) -> None:
    sentence = assert_unauthorized(await any_keyed.record(f"X-API-Key: {keys.expired}"), BAD_TOKEN)
    assert "expired" in sentence


async def test_a_wrong_key_beside_a_right_one_is_refused(any_keyed: Door, keys: Keys) -> None:
    for lines in (
        (f"X-API-Key: {keys.mine}", f"Authorization: Bearer {WRONG}"),
        (f"X-API-Key: {WRONG}", f"Authorization: Bearer {keys.mine}"),
        (f"X-API-Key: {keys.mine}", f"X-API-Key: {keys.expired}"),
    ):
        assert_unauthorized(await any_keyed.record(*lines), BAD_TOKEN)


async def test_a_key_for_another_project_is_forbidden(any_keyed: Door, keys: Keys) -> None:
    body = assert_refused(await any_keyed.record(f"X-API-Key: {keys.other}"), 403, "FORBIDDEN")
    assert body["details"] == {}
    assert_recorded(await any_keyed.record(f"X-API-Key: {keys.other}", project=OTHER_PROJECT))
    both = (f"X-API-Key: {keys.mine}", f"Authorization: Bearer {keys.other}")
    assert_refused(await any_keyed.record(*both), 403, "FORBIDDEN")


async def test_a_batch_needs_a_key_like_a_record(keyed: Door, keys: Keys) -> None:
    body = json.dumps({"events": [json.loads(NEGATIVE), EXAMPLE]}).encode()
    assert_unauthorized(await keyed.batch(body), BEARER)
    assert_unauthorized(await keyed.batch(body, f"X-API-Key: {WRONG}"), BAD_TOKEN)
    assert_refused(await keyed.batch(body, f"X-API-Key: {keys.other}"), 403, "FORBIDDEN")
    answer = await keyed.batch(body, f"X-API-Key: {keys.mine}")
    assert answer.json == {"accepted": 2, "rejected": 0, "errors": []}
    answer = await keyed.batch(NEGATIVE + b"\n", f"X-API-Key: {keys.mine}", content_type="application/x-ndjson")
    assert answer.json == {"accepted": 1, "rejected": 0, "errors": []}


async def test_a_correction_is_for_who_shows_a_key(ajar: Door, keys: Keys, database: Database) -> None:
    body = assert_refused(await ajar.record(body=NEGATIVE), 400, "VALIDATION_ERROR")
    assert set(body["details"]) == {"quantity"}
    recorded = assert_recorded(await ajar.record(f"X-API-Key: {keys.mine}", body=NEGATIVE))
    assert str((await document_of(database, recorded))["quantity"]) == "-7.5"


async def test_what_is_wrong_with_the_record_is_told_only_to_who_may_record(keyed: Door, keys: Keys) -> None:
    for body in (b"{}", b"no", b""):
        assert_unauthorized(await keyed.record(body=body), BEARER)
        assert_refused(await keyed.record(f"X-API-Key: {keys.other}", body=body), 403, "FORBIDDEN")
    assert_refused(await keyed.record(f"X-API-Key: {keys.mine}", body=b"{}"), 400, "VALIDATION_ERROR")


async def test_health_needs_no_credential(keyed: Door) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await keyed.send(head(method="GET", path=path))).status == 200


@pytest.mark.parametrize("suffix", ["", "/batch"])
async def test_a_body_is_invited_only_from_who_may_send_it(keyed: Door, keys: Keys, suffix: str) -> None:
    body = RECORD if not suffix else json.dumps({"events": [EXAMPLE]}).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
    path = path_of(EXAMPLE_PROJECT) + suffix
    for credential, status, code in [
        ("X-Nothing: at-all", 401, "UNAUTHORIZED"),
        (f"X-API-Key: {WRONG}", 401, "UNAUTHORIZED"),
        (f"X-API-Key: {keys.expired}", 401, "UNAUTHORIZED"),
        (f"X-API-Key: {keys.other}", 403, "FORBIDDEN"),
    ]:
        async with raw(keyed.ingest.port) as connection:
            await connection.write(head(*lines, credential, path=path))
            answer = await connection.answer()
            assert answer.interim == ()
            assert_refused(answer, status, code)
            assert answer.headers["connection"] == "close"
    async with raw(keyed.ingest.port) as connection:
        await connection.write(head(*lines, f"X-API-Key: {keys.mine}", path=path))
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.write(body)
        assert (await connection.answer()).status == 200


# The published SDK, unmodified.


def record_by_sdk(url: str, record: dict[str, Any], headers: dict[str, str]) -> Any:
    with ApiClient(Configuration(host=url)) as client:
        api = BillingApi(client)
        return api.record_usage_with_http_info(EXAMPLE_PROJECT, RecordUsageRequest(**record), _headers=headers)


async def test_the_published_client_sends_a_key_as_a_header(keyed: Door, keys: Keys, database: Database) -> None:
    correction = {**EXAMPLE, "quantity": -195.84}
    for headers in ({"X-API-Key": keys.mine}, {"Authorization": f"Bearer {keys.mine}"}):
        response = await asyncio.to_thread(record_by_sdk, keyed.ingest.url, correction, headers)
        assert response.data.message == "Usage recorded successfully"
        recorded = UUID(response.headers["Usage-Id"])
        assert str((await document_of(database, recorded))["quantity"]) == "-195.84"


async def test_the_published_client_understands_a_refusal(keyed: Door, keys: Keys) -> None:
    url = keyed.ingest.url
    for headers in ({}, {"X-API-Key": WRONG}):
        with pytest.raises(UnauthorizedException) as refused:
            await asyncio.to_thread(record_by_sdk, url, EXAMPLE, headers)
        assert refused.value.status == 401
        assert '"code":"UNAUTHORIZED"' in (refused.value.body or "")
    with pytest.raises(ForbiddenException) as forbidden:
        await asyncio.to_thread(record_by_sdk, url, EXAMPLE, {"X-API-Key": keys.other})
    assert forbidden.value.status == 403
    assert '"code":"FORBIDDEN"' in (forbidden.value.body or "")


# Signatures.


def sign(
    body: bytes, *, webhook_id: str | None = None, secret: str = SECRET, age: timedelta = timedelta(0)
) -> tuple[str, str, str]:
    """Sign as the published package does; the bytes of a body that is no text with its HMAC alone."""
    webhook_id, at = webhook_id or f"msg_{uuid4().hex}", datetime.now(UTC) - age
    try:
        signature = Webhook(secret).sign(webhook_id, at, body.decode())
    except UnicodeDecodeError:
        prefix = f"{webhook_id}.{int(at.timestamp())}.".encode()
        mac = hmac_data(b64decode(secret.removeprefix("whsec_")), prefix + body)
        signature = f"v1,{b64encode(mac).decode()}"
    return (
        f"webhook-id: {webhook_id}",
        f"webhook-timestamp: {int(at.timestamp())}",
        f"webhook-signature: {signature}",
    )


async def test_a_signed_record_is_recorded_with_the_id_of_its_webhook_id(any_signed: Door) -> None:
    webhook_id = f"msg_{uuid4().hex}"
    recorded = assert_recorded(await any_signed.record(*sign(RECORD, webhook_id=webhook_id)))
    assert recorded == event_id(EXAMPLE_PROJECT, webhook_id)


async def test_a_key_in_a_signed_record_goes_before_its_webhook_id(any_signed: Door) -> None:
    body = json.dumps({**EXAMPLE, "idempotencyKey": "order-42"}).encode()
    recorded = assert_recorded(await any_signed.record(*sign(body), body=body))
    assert str(recorded) == "d756084a-f7a0-51e2-96e1-80b49e81eaae"


async def test_a_replay_of_a_signed_request_counts_once(any_signed: Door, database: Database) -> None:
    webhook_id = f"msg_{uuid4().hex}"
    lines = sign(NEGATIVE, webhook_id=webhook_id)
    ids = {assert_recorded(await any_signed.record(*lines, body=NEGATIVE)) for _ in range(3)}
    # a retry is signed anew, at another time and by another secret, with the same webhook-id
    later = sign(NEGATIVE, webhook_id=webhook_id, secret=NEXT_SECRET, age=timedelta(minutes=1))
    ids.add(assert_recorded(await any_signed.record(*later, body=NEGATIVE)))
    assert len(ids) == 1
    [document] = await stored(any_signed, database, webhook_id, *sign(RECORD))
    assert {document["_id"]} == ids
    assert str(document["quantity"]) == "-7.5"


@pytest.mark.parametrize("form", ["json", "gzip"])
async def test_a_signed_batch_counts_once_however_often_it_comes(
    any_signed: Door, database: Database, form: str
) -> None:
    webhook_id = f"msg_{uuid4().hex}"
    body = json.dumps({"events": [EXAMPLE, json.loads(NEGATIVE), {"email": "nobody"}]}).encode()
    encoding = []
    if form == "gzip":
        body, encoding = gzip.compress(body), ["Content-Encoding: gzip"]
    lines = sign(body, webhook_id=webhook_id)
    for _ in range(2):
        answer = await any_signed.batch(body, *lines, *encoding)
        assert answer.status == 200, answer
        assert (answer.json["accepted"], answer.json["rejected"]) == (2, 1)
    documents = await stored(any_signed, database, webhook_id, *sign(RECORD))
    assert {document["_id"] for document in documents} == {
        event_id(EXAMPLE_PROJECT, f"{webhook_id}:{index}") for index in (0, 1)
    }


async def test_signed_lines_are_refused_for_their_type(any_signed: Door) -> None:
    body = RECORD + b"\n"
    answer = await any_signed.batch(body, *sign(body), content_type="application/x-ndjson")
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_signed_record_cannot_be_replayed_as_a_batch_nor_a_batch_as_a_record(any_signed: Door) -> None:
    batch = json.dumps({"events": [EXAMPLE]}).encode()
    assert_refused(await any_signed.batch(RECORD, *sign(RECORD)), 400, "VALIDATION_ERROR")
    assert_refused(await any_signed.record(*sign(batch), body=batch), 400, "VALIDATION_ERROR")


async def test_what_is_signed_is_the_body_as_it_is_sent(any_signed: Door) -> None:
    deflated = gzip.compress(RECORD)
    gzipped = "Content-Encoding: gzip"
    assert_recorded(await any_signed.record(*sign(deflated), gzipped, body=deflated))
    assert_unauthorized(await any_signed.record(*sign(RECORD), gzipped, body=deflated), WEBHOOK)
    # nothing is inflated that nobody has signed
    assert_unauthorized(await any_signed.record(*sign(RECORD), gzipped, body=b"no gzip"), WEBHOOK)


async def test_what_was_changed_on_its_way_is_refused(any_signed: Door) -> None:
    webhook_id, timestamp, signature = sign(RECORD)
    tampered = RECORD.replace(b"195.84", b"195.85")
    assert tampered != RECORD
    flipped = signature[:-2] + ("A=" if signature[-2] != "A" else "E=")
    later = f"webhook-timestamp: {int(timestamp.rpartition(' ')[2]) + 1}"
    for lines, body in [
        ((webhook_id, timestamp, signature), tampered),
        ((webhook_id, timestamp, signature), RECORD + b" "),
        ((webhook_id, timestamp, signature), b""),
        ((webhook_id + "x", timestamp, signature), RECORD),
        ((webhook_id, later, signature), RECORD),
        ((webhook_id, timestamp, signature.replace("v1,", "v1a,")), RECORD),
        ((webhook_id, timestamp, flipped), RECORD),
        (sign(RECORD, secret=OTHER_SECRET), RECORD),
        (sign(RECORD, secret=OLD_SECRET), RECORD),
    ]:
        assert_unauthorized(await any_signed.record(*lines, body=body), WEBHOOK)


async def test_what_was_signed_for_one_project_is_not_taken_for_another(any_signed: Door) -> None:
    assert_unauthorized(await any_signed.record(*sign(RECORD), project=OTHER_PROJECT), WEBHOOK)
    assert_unauthorized(await any_signed.record(*sign(RECORD), project="proj_unknown"), WEBHOOK)
    assert_recorded(await any_signed.record(*sign(RECORD, secret=OTHER_SECRET), project=OTHER_PROJECT))


async def test_one_signature_of_several_is_enough(any_signed: Door) -> None:
    webhook_id, timestamp, signature = sign(RECORD, secret=NEXT_SECRET)
    value = signature.removeprefix("webhook-signature: ")
    lines = (webhook_id, timestamp, f"webhook-signature: v1,{'A' * 43}= v1a,xyz {value}")
    assert_recorded(await any_signed.record(*lines))


@pytest.mark.parametrize("age", [timedelta(minutes=4, seconds=50), timedelta(minutes=-4, seconds=-50)])
async def test_a_signature_holds_for_five_minutes_either_way(any_signed: Door, age: timedelta) -> None:
    assert_recorded(await any_signed.record(*sign(RECORD, age=age)))


@pytest.mark.parametrize(
    "age", [timedelta(minutes=5, seconds=5), timedelta(minutes=-5, seconds=-15), timedelta(days=1)]
)
async def test_a_stale_signature_is_refused(any_signed: Door, age: timedelta) -> None:
    sentence = assert_unauthorized(await any_signed.record(*sign(RECORD, age=age)), WEBHOOK)
    assert "timestamp" in sentence


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_a_signature_that_has_lost_a_header_is_none(any_signed: Door, missing: int) -> None:
    lines = list(sign(RECORD))
    repeated = [*lines, lines[missing]]
    del lines[missing]
    assert_unauthorized(await any_signed.record(*lines), WEBHOOK)
    assert_unauthorized(await any_signed.record(*repeated), WEBHOOK)


async def test_who_signs_nothing_is_told_to(signed: Door, keys: Keys) -> None:
    for lines in ((), (f"X-API-Key: {keys.mine}",), (f"Authorization: Bearer {keys.mine}",)):
        assert "Standard Webhooks" in assert_unauthorized(await signed.record(*lines), WEBHOOK)


async def test_an_unsigned_key_must_not_change_what_was_signed(any_signed: Door) -> None:
    webhook_id = f"msg_{uuid4().hex}"
    lines = sign(RECORD, webhook_id=webhook_id)
    batch = json.dumps({"events": [EXAMPLE]}).encode()
    for answer in [
        await any_signed.record(*lines, "Idempotency-Key: another"),
        await any_signed.batch(batch, *sign(batch), "Idempotency-Key: another"),
    ]:
        body = assert_refused(answer, 400, "VALIDATION_ERROR")
        assert set(body["details"]) == {"Idempotency-Key"}
    for key in (webhook_id, f'"{webhook_id}"'):
        recorded = assert_recorded(await any_signed.record(*lines, f"Idempotency-Key: {key}"))
        assert recorded == event_id(EXAMPLE_PROJECT, webhook_id)


async def test_who_shows_a_key_as_well_as_a_signature_needs_both_to_be_valid(ajar: Door, keys: Keys) -> None:
    assert_recorded(await ajar.record(*sign(RECORD), f"X-API-Key: {keys.mine}"))
    assert_unauthorized(await ajar.record(*sign(RECORD), f"X-API-Key: {WRONG}"), BAD_TOKEN)
    assert_unauthorized(await ajar.record(*sign(RECORD)[1:], f"X-API-Key: {keys.mine}"), WEBHOOK)
    assert_unauthorized(await ajar.record(*sign(RECORD, secret=OTHER_SECRET), f"X-API-Key: {keys.mine}"), WEBHOOK)
    assert_refused(await ajar.record(*sign(RECORD), f"X-API-Key: {keys.other}"), 403, "FORBIDDEN")


# Files that change.

SOON = 15.0
"""Seconds; the files are looked at every second, by a process that may have to wait for its turn."""


def count_logged(process: Process, event: str, setting: str) -> int:
    lines = [json.loads(line) for line in process.text.splitlines() if line.startswith("{")]
    return sum(line.get("event") == event and line.get("setting") == setting for line in lines)


def touch(file: Path) -> None:
    """Change a file, but nothing that matters."""
    put(file, file.read_bytes() + b"\n")


def put(file: Path, content: bytes) -> None:
    """Replace a file whole: half of one would be told of, too."""
    draft = file.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(file)


async def becomes(door: Door, key: str, status: int) -> Answer:
    """Wait until a key is answered like this."""

    async def answered() -> Answer | None:
        answer = await door.record(f"X-API-Key: {key}")
        return answer if answer.status == status else None

    return await eventually(answered, seconds=SOON, what=f"a key to be answered with {status}", every=0.1)


async def test_a_key_is_valid_once_made_and_refused_once_revoked_without_a_restart(keyed: Door, keys: Keys) -> None:
    pid = keyed.ingest.process.pid
    key = await keys.create("--all-projects")
    assert_recorded(await becomes(keyed, key, 200))
    assert_recorded(await keyed.record(f"X-API-Key: {key}", project=OTHER_PROJECT))
    await keys.revoke(key)
    assert_unauthorized(await becomes(keyed, key, 401), BAD_TOKEN)
    assert_recorded(await keyed.record(f"X-API-Key: {keys.mine}"))
    assert keyed.ingest.process.pid == pid


async def test_a_hangup_has_the_files_read_though_they_look_the_same(ajar: Door) -> None:
    def looks() -> list[int]:
        settings = ("INGEST_API_KEYS_FILE", "INGEST_SIGNING_SECRETS_FILE")
        return [count_logged(ajar.ingest.process, "credentials read again", setting) for setting in settings]

    before = looks()
    ajar.ingest.process.signal(signal.SIGHUP)
    await eventually(lambda: all(map(gt, looks(), before)), seconds=SOON, what="both files to be read")


async def test_a_removed_key_is_refused_after_a_hangup(keyed: Door, keys: Keys) -> None:
    good = keys.file.read_bytes()
    content = json.loads(good)
    kept = [entry for entry in content["keys"] if entry["id"] != id_of(keys.mine)]
    try:
        put(keys.file, json.dumps({"keys": kept}).encode())
        keyed.ingest.process.signal(signal.SIGHUP)
        assert_unauthorized(await becomes(keyed, keys.mine, 401), BAD_TOKEN)
    finally:
        put(keys.file, good)
    keyed.ingest.process.signal(signal.SIGHUP)
    assert_recorded(await becomes(keyed, keys.mine, 200))


async def test_a_broken_file_keeps_the_old_keys_is_told_of_once_and_stops_no_other(
    ajar: Door, keys: Keys, secrets: Path
) -> None:
    process, good = ajar.ingest.process, keys.file.read_bytes()

    def warnings() -> int:
        return count_logged(process, "credentials kept as they were", "INGEST_API_KEYS_FILE")

    def reads(setting: str) -> int:
        return count_logged(process, "credentials read again", setting)

    # given a process that has seen the file in order, not only as a test before this one had changed it
    assert_recorded(await becomes(ajar, keys.mine, 200))
    before = warnings()
    try:
        # when the file of keys breaks
        put(keys.file, json.dumps({"keys": [{"id": WRONG, "sha256": keys.mine}]}).encode())
        await eventually(lambda: warnings() > before, seconds=SOON, what="a warning")
        # and after that the other file changes, so that both have been looked at again
        secrets_read = reads("INGEST_SIGNING_SECRETS_FILE")
        touch(secrets)
        await eventually(lambda: reads("INGEST_SIGNING_SECRETS_FILE") > secrets_read, seconds=SOON, what="a look")
        # then nothing has changed for those who have a key, nor for those who have none
        assert warnings() == before + 1
        assert_recorded(await ajar.record(f"X-API-Key: {keys.mine}"))
        assert_unauthorized(await ajar.record(f"X-API-Key: {keys.expired}"), BAD_TOKEN)
        assert_unauthorized(await ajar.record(f"X-API-Key: {WRONG}"), BAD_TOKEN)
    finally:
        keys_read = reads("INGEST_API_KEYS_FILE")
        put(keys.file, good)
    await eventually(lambda: reads("INGEST_API_KEYS_FILE") > keys_read, seconds=SOON, what="the mended file to be read")
    assert_recorded(await ajar.record(f"X-API-Key: {keys.mine}"))


# A start that can never work.


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"auth": "api-key"}, "INGEST_API_KEYS_FILE"),
        ({"auth": "open,signature"}, "INGEST_SIGNING_SECRETS_FILE"),
    ],
    ids=["no keys", "no secrets"],
)
async def test_a_missing_setting_is_named_and_ends_the_process(
    fresh_broker: str, tmp_path: Path, settings: dict[str, str], variable: str
) -> None:
    process = await Site(fresh_broker, "", "", tmp_path).ingest(**settings).start()
    try:
        assert await process.wait() == 78
    finally:
        await process.close()
    assert variable in process.text
    assert "Traceback" not in process.text
