"""Batches of records, as the real ingest answers, publishes and has them stored."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.event import event_id
from tests.contract.live import Ingest, Tap
from tests.contract.raw import Answer, chunked, head, post
from tests.support.pair import EXAMPLE
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
KEYS = ["error", "code", "details", "timestamp", "path", "requestId"]
LIMIT = 1024 * 1024
BAD = {**EXAMPLE, "quantity": "many"}


@dataclass(frozen=True)
class Form:
    """One of the two ways to write a batch."""

    content_type: str
    encode: Callable[[Sequence[object]], bytes]

    def post(self, records: Sequence[object], *lines: str, path: str) -> bytes:
        return self.send(self.encode(records), *lines, path=path)

    def send(self, body: bytes, *lines: str, path: str) -> bytes:
        content_type, length = f"Content-Type: {self.content_type}", f"Content-Length: {len(body)}"
        return head(content_type, length, *lines, path=path) + body


JSON = Form("application/json", lambda records: json.dumps({"events": records}).encode())
NDJSON = Form("application/x-ndjson", lambda records: "".join(json.dumps(one) + "\n" for one in records).encode())
FORMS = pytest.mark.parametrize("form", [JSON, NDJSON], ids=["json", "ndjson"])


@pytest.fixture(scope="module")
async def tap(fresh_broker: str) -> AsyncIterator[Tap]:
    """A copy of what ingest publishes: the queue itself is the worker's."""
    tap = Tap()
    connection = await aio_pika.connect(fresh_broker)
    async with connection, connection.channel() as channel:
        copies = await channel.declare_queue(exclusive=True)
        await copies.bind(topology.EXCHANGE, topology.ROUTING_KEY)

        async def note(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            tap.bodies.append(message.body)

        await copies.consume(note, no_ack=True)
        yield tap


@pytest.fixture(scope="module")
def database(worked_database: Database) -> Database:
    return worked_database


@pytest.fixture
def project() -> str:
    """A project of the test's own, by which its events are found."""
    return f"proj_{uuid4().hex[:12]}"


@pytest.fixture
def path(project: str) -> str:
    return batch_path(project)


def batch_path(project: str) -> str:
    return f"/api/billing/public/projects/{project}/usage/batch"


def numbered(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Good records that are told apart by their quantity."""
    return [{**EXAMPLE, "quantity": n, **changes} for n in range(count)]


def assert_counted(answer: Answer, accepted: int, rejected: int = 0) -> list[dict[str, Any]]:
    """Check all that answers to a batch have in common; return its errors."""
    assert answer.status == 200, answer
    assert answer.headers["content-type"].startswith("application/json")
    assert "usage-id" not in answer.headers
    body = answer.json
    assert list(body) == ["accepted", "rejected", "errors"]
    assert (body["accepted"], body["rejected"]) == (accepted, rejected)
    errors = body["errors"]
    assert len(errors) == rejected
    assert all(list(error) == ["index", "code", "details"] for error in errors)
    assert isinstance(errors, list)
    return errors


def assert_refused(answer: Answer, status: int, code: str, path: str) -> Any:
    """Check all that errors have in common; return the details."""
    assert answer.status == status, answer
    body = answer.json
    assert list(body) == KEYS
    assert (body["code"], body["path"]) == (code, path)
    assert isinstance(body["details"], dict | str)
    assert answer.headers["x-request-id"] == body["requestId"]
    assert "usage-id" not in answer.headers
    return body["details"]


async def messages(ingest: Ingest, tap: Tap, project: str) -> list[list[dict[str, Any]]]:
    """Every message with events of a project; what was published later than they has arrived."""
    barrier = f"barrier-{uuid4()}"
    answer = await ingest.send(post(json.dumps({**EXAMPLE, "idempotencyKey": barrier}).encode()))
    assert answer.status == 200
    await tap.shows(barrier)
    return [json.loads(body) for body in tap.bodies if f'"{project}"'.encode() in body]


async def stored(ingest: Ingest, database: Database, project: str) -> list[dict[str, Any]]:
    """Every document of a project, once what was published before is settled."""
    answer = await ingest.send(post(json.dumps(EXAMPLE).encode()))
    barrier = UUID(answer.headers["usage-id"])
    await eventually(lambda: database.events.find_one({"_id": barrier}), what="the last record to be stored")
    return await database.events.find({"projectId": project}).sort("quantity").to_list()


# What is accepted.


@FORMS
async def test_a_batch_is_answered_with_its_counts_and_travels_as_one_message(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    answer = await ingest.send(form.post(numbered(3), path=path))
    assert answer.body == b'{"accepted":3,"rejected":0,"errors":[]}'
    assert_counted(answer, 3)
    [events] = await messages(ingest, tap, project)
    assert [event["quantity"] for event in events] == ["0", "1", "2"]
    assert {event["projectId"] for event in events} == {project}
    assert len({event["id"] for event in events}) == 3


@FORMS
async def test_a_batch_of_a_thousand_is_one_message_too(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    assert_counted(await ingest.send(form.post(numbered(1000), path=path)), 1000)
    [events] = await messages(ingest, tap, project)
    assert [event["quantity"] for event in events] == [str(n) for n in range(1000)]


async def test_the_largest_batch_is_one_message_too(ingest: Ingest, tap: Tap, project: str, path: str) -> None:
    body = JSON.encode(numbered(1000, properties={"a": "x" * 500, "b": "x" * 380}))
    assert LIMIT * 0.95 < len(body) < LIMIT
    assert_counted(await ingest.send(post(body + b" " * (LIMIT - len(body)), path=path)), 1000)
    [events] = await messages(ingest, tap, project)
    assert len(events) == 1000


@FORMS
async def test_a_batch_of_one_is_a_batch(ingest: Ingest, form: Form, path: str) -> None:
    assert_counted(await ingest.send(form.post([EXAMPLE], path=path)), 1)


async def test_batches_at_the_same_time_are_each_stored_whole(
    ingest: Ingest, database: Database, project: str, path: str
) -> None:
    requests = [
        ingest.send(JSON.post(numbered(100), f"Idempotency-Key: batch-{n}", path=path)) for n in range(20) for _ in "12"
    ]
    for answer in await asyncio.gather(*requests):
        assert_counted(answer, 100)
    ids = {document["_id"] for document in await stored(ingest, database, project)}
    assert ids == {event_id(project, f"batch-{n}:{index}") for n in range(20) for index in range(100)}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "Application/JSON",
    ],
)
async def test_json_may_name_its_charset(ingest: Ingest, path: str, content_type: str) -> None:
    assert_counted(await ingest.send(Form(content_type, JSON.encode).post([EXAMPLE], path=path)), 1)


@pytest.mark.parametrize("content_type", ["application/x-ndjson; charset=utf-8", "APPLICATION/X-NDJSON"])
async def test_ndjson_may_name_its_charset(ingest: Ingest, path: str, content_type: str) -> None:
    assert_counted(await ingest.send(Form(content_type, NDJSON.encode).post([EXAMPLE], path=path)), 1)


@FORMS
async def test_a_batch_may_be_deflated_or_come_in_chunks(ingest: Ingest, form: Form, path: str) -> None:
    body = form.encode(numbered(100))
    deflated = gzip.compress(body)
    answer = await ingest.send(form.send(deflated, "Content-Encoding: gzip", path=path))
    assert_counted(answer, 100)
    lines = (f"Content-Type: {form.content_type}", "Transfer-Encoding: chunked")
    answer = await ingest.send(head(*lines, path=path), chunked(body, 1000))
    assert_counted(answer, 100)
    answer = await ingest.send(head(*lines, "Content-Encoding: gzip", path=path), chunked(deflated, 100))
    assert_counted(answer, 100)


# One bad record does not sink the rest.


@FORMS
async def test_of_a_batch_with_bad_records_the_good_ones_are_stored(
    ingest: Ingest, tap: Tap, database: Database, *, form: Form, project: str, path: str
) -> None:
    records = numbered(6)
    records[1] = {**EXAMPLE, "quantity": "1_000"}
    records[4] = {"email": "nobody", "metric": "m", "quantity": 1, "idempotency_key": "k"}
    first, second = assert_counted(await ingest.send(form.post(records, path=path)), 4, 2)
    assert (first["index"], first["code"], set(first["details"])) == (1, "VALIDATION_ERROR", {"quantity"})
    assert (second["index"], second["code"]) == (4, "VALIDATION_ERROR")
    assert set(second["details"]) == {"email", "idempotency_key"}
    assert "idempotencyKey" in second["details"]["idempotency_key"]
    [events] = await messages(ingest, tap, project)
    assert [event["quantity"] for event in events] == ["0", "2", "3", "5"]
    documents = await stored(ingest, database, project)
    assert [str(document["quantity"]) for document in documents] == ["0", "2", "3", "5"]


@FORMS
@pytest.mark.parametrize("item", [None, 1, "x", True, [], [EXAMPLE], {}, {"events": [EXAMPLE]}])
async def test_what_is_no_record_is_one_bad_record(ingest: Ingest, form: Form, path: str, item: object) -> None:
    [error] = assert_counted(await ingest.send(form.post([EXAMPLE, item], path=path)), 1, 1)
    assert (error["index"], error["code"]) == (1, "VALIDATION_ERROR")
    assert error["details"]


async def test_a_line_that_is_not_json_is_one_bad_record(ingest: Ingest, tap: Tap, project: str, path: str) -> None:
    good = json.dumps(EXAMPLE).encode()
    twice = good[:-1] + b', "quantity": 2}'
    bad = [
        b"{",
        b"no",
        b'{"quantity": NaN}',
        twice,
        b'"\\ud800"',
        b"\xff",
        b"\xef\xbb\xbf" + good,
        b"[" * 300,
        good * 2,
    ]
    answer = await ingest.send(NDJSON.send(b"\n".join([good, *bad, good]), path=path))
    errors = assert_counted(answer, 2, len(bad))
    assert [error["index"] for error in errors] == list(range(1, len(bad) + 1))
    assert {error["code"] for error in errors} == {"INVALID_JSON"}
    assert all(error["details"] and isinstance(error["details"], str) for error in errors)
    [events] = await messages(ingest, tap, project)
    assert len(events) == 2


async def test_lines_may_end_in_crlf_and_empty_ones_do_not_count(
    ingest: Ingest, tap: Tap, project: str, path: str
) -> None:
    lines = [json.dumps(record).encode() for record in numbered(3)]
    body = b"\r\n" + lines[0] + b"\r\n\r\n" + lines[1] + b"\r\nbad\r\n \t\r\n" + lines[2]
    [error] = assert_counted(await ingest.send(NDJSON.send(body, "Idempotency-Key: k", path=path)), 3, 1)
    assert (error["index"], error["code"]) == (2, "INVALID_JSON")
    [events] = await messages(ingest, tap, project)
    assert [event["idempotencyKey"] for event in events] == ["k:0", "k:1", "k:3"]


async def test_a_field_twice_in_a_record_sinks_a_json_batch_and_nothing_is_published(
    ingest: Ingest, tap: Tap, project: str, path: str
) -> None:
    good = json.dumps(EXAMPLE)
    for twice in (good[:-1] + ', "quantity": 2}', good[:-1] + ', "properties": {"a": 1, "a": 1}}'):
        body = f'{{"events": [{good}, {twice}]}}'.encode()
        assert_refused(await ingest.send(post(body, path=path)), 400, "INVALID_JSON", path)
    assert await messages(ingest, tap, project) == []


# All or nothing.


@FORMS
async def test_an_atomic_batch_with_one_bad_record_is_refused_whole(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    records = numbered(5)
    records[3] = BAD
    path = f"{path}?atomic=true"
    details = assert_refused(await ingest.send(form.post(records, path=path)), 400, "VALIDATION_ERROR", path)
    assert list(details) == ["events[3].quantity"]
    assert details["events[3].quantity"].startswith("must be a number")
    assert await messages(ingest, tap, project) == []


async def test_an_atomic_batch_with_a_bad_line_is_refused_whole(
    ingest: Ingest, tap: Tap, project: str, path: str
) -> None:
    path = f"{path}?atomic=true"
    body = NDJSON.encode([EXAMPLE]) + b"{\n"
    details = assert_refused(await ingest.send(NDJSON.send(body, path=path)), 400, "VALIDATION_ERROR", path)
    assert list(details) == ["events[1]"]
    assert await messages(ingest, tap, project) == []


@FORMS
async def test_an_atomic_batch_of_good_records_is_accepted(ingest: Ingest, form: Form, path: str) -> None:
    assert_counted(await ingest.send(form.post(numbered(3), path=f"{path}?atomic=true")), 3)


async def test_a_batch_that_is_said_not_to_be_atomic_is_not(ingest: Ingest, path: str) -> None:
    assert_counted(await ingest.send(JSON.post([EXAMPLE, BAD], path=f"{path}?atomic=false")), 1, 1)


@FORMS
async def test_a_batch_of_bad_records_only_is_refused(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    records = [BAD, {**EXAMPLE, "email": "", "metric": ""}]
    details = assert_refused(await ingest.send(form.post(records, path=path)), 400, "VALIDATION_ERROR", path)
    assert list(details) == ["events[0].quantity", "events[1].email", "events[1].metric"]
    assert await messages(ingest, tap, project) == []


async def test_a_thousand_bad_records_are_each_told_of(ingest: Ingest, path: str) -> None:
    answer = await ingest.send(JSON.post([BAD] * 1000, path=path))
    assert len(assert_refused(answer, 400, "VALIDATION_ERROR", path)) == 1000


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("atomic=1", "atomic"),
        ("atomic=TRUE", "atomic"),
        ("atomic", "atomic"),
        ("atomic=", "atomic"),
        ("Atomic=true", "Atomic"),
        ("atomic=true&dry_run=true", "dry_run"),
        ("atomic=false&atomic=true", "atomic"),
        ("projectId=other", "projectId"),
        ("%ff=1", None),
    ],
)
async def test_any_other_query_is_refused(ingest: Ingest, path: str, query: str, named: str | None) -> None:
    path = f"{path}?{query}"
    details = assert_refused(await ingest.send(JSON.post([EXAMPLE], path=path)), 400, "VALIDATION_ERROR", path)
    assert len(details) == 1
    assert named is None or set(details) == {named}


# What is no batch.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "INVALID_JSON"),
        (b"{", "INVALID_JSON"),
        (b'{"events": [}', "INVALID_JSON"),
        (b'{"events": [], "events": [{}]}', "INVALID_JSON"),
        (b'\xef\xbb\xbf{"events": [{}]}', "INVALID_JSON"),
        (b"[" * 1000, "INVALID_JSON"),
        (b"null", "VALIDATION_ERROR"),
        (json.dumps([EXAMPLE]).encode(), "VALIDATION_ERROR"),
        (json.dumps(EXAMPLE).encode(), "VALIDATION_ERROR"),
        (b"{}", "VALIDATION_ERROR"),
        (b'{"events": []}', "VALIDATION_ERROR"),
        (b'{"events": null}', "VALIDATION_ERROR"),
        (b'{"events": {"0": {}}}', "VALIDATION_ERROR"),
        (json.dumps({"Events": [EXAMPLE]}).encode(), "VALIDATION_ERROR"),
        (json.dumps({"events": [EXAMPLE], "atomic": True}).encode(), "VALIDATION_ERROR"),
    ],
)
async def test_what_is_no_batch_is_refused(ingest: Ingest, path: str, body: bytes, code: str) -> None:
    details = assert_refused(await ingest.send(post(body, path=path)), 400, code, path)
    assert bool(details) == (code == "VALIDATION_ERROR")


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n \r\n\n"])
async def test_no_lines_are_no_batch(ingest: Ingest, path: str, body: bytes) -> None:
    details = assert_refused(await ingest.send(NDJSON.send(body, path=path)), 400, "VALIDATION_ERROR", path)
    assert set(details) == {"events"}


@FORMS
async def test_a_batch_of_more_than_a_thousand_is_too_large_and_nothing_is_published(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    assert_refused(await ingest.send(form.post(numbered(1001), path=path)), 413, "PAYLOAD_TOO_LARGE", path)
    assert await messages(ingest, tap, project) == []


@FORMS
async def test_more_than_a_mebibyte_is_too_large_however_it_comes(ingest: Ingest, form: Form, path: str) -> None:
    body = form.encode([EXAMPLE])
    body += b" " * (LIMIT + 1 - len(body))
    deflated = gzip.compress(body)
    assert len(deflated) < 10_000
    content_type = f"Content-Type: {form.content_type}"
    for request in [
        (head(content_type, f"Content-Length: {len(body)}", path=path),),
        (head(content_type, "Transfer-Encoding: chunked", path=path), chunked(body, 65536)),
        (form.send(deflated, "Content-Encoding: gzip", path=path),),
    ]:
        assert_refused(await ingest.send(*request), 413, "PAYLOAD_TOO_LARGE", path)


@FORMS
async def test_a_mebibyte_is_not_too_large_however_it_comes(ingest: Ingest, form: Form, path: str) -> None:
    body = form.encode([EXAMPLE])
    body += b" " * (LIMIT - len(body))
    for request in [
        (form.send(body, path=path),),
        (head(f"Content-Type: {form.content_type}", "Transfer-Encoding: chunked", path=path), chunked(body, 65536)),
        (form.send(gzip.compress(body), "Content-Encoding: gzip", path=path),),
    ]:
        assert_counted(await ingest.send(*request), 1)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Content-Type: text/plain",),
        ("Content-Type: application/xml",),
        ("Content-Type: application/ndjson",),
        ("Content-Type: application/jsonl",),
        ("Content-Type: text/json",),
        ("Content-Type: application/json; charset=latin-1",),
        ("Content-Type: application/x-ndjson; charset=utf-16",),
        ("Content-Type: application/json", "Content-Encoding: br"),
        ("Content-Type: application/json", "Content-Encoding: deflate"),
        ("Content-Type: application/x-ndjson", "Content-Encoding: gzip, gzip"),
    ],
)
async def test_any_other_type_or_encoding_is_refused(ingest: Ingest, path: str, lines: tuple[str, ...]) -> None:
    body = JSON.encode([EXAMPLE])
    answer = await ingest.send(head(*lines, f"Content-Length: {len(body)}", path=path) + body)
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE", path)


async def test_lines_are_for_batches_only(ingest: Ingest, path: str) -> None:
    single = path.removesuffix("/batch")
    answer = await ingest.send(NDJSON.post([EXAMPLE], path=single))
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE", single)


async def test_broken_gzip_is_a_bad_request(ingest: Ingest, path: str) -> None:
    deflated = gzip.compress(JSON.encode([EXAMPLE]))
    for body in (deflated[:-4], deflated[:-8] + bytes(8), b"no gzip"):
        answer = await ingest.send(post(body, "Content-Encoding: gzip", path=path))
        assert_refused(answer, 400, "INVALID_JSON", path)


async def test_any_other_method_is_not_allowed(ingest: Ingest, path: str) -> None:
    answer = await ingest.send(head(method="GET", path=path))
    assert_refused(answer, 405, "METHOD_NOT_ALLOWED", path)
    assert answer.headers["allow"] == "POST"


async def test_a_wrong_project_sinks_the_batch(ingest: Ingest) -> None:
    path = batch_path("a.b")
    details = assert_refused(await ingest.send(JSON.post([EXAMPLE], path=path)), 400, "VALIDATION_ERROR", path)
    assert set(details) == {"projectId"}


async def test_without_a_broker_a_batch_is_refused_at_once_and_may_come_again(lonely: Ingest, path: str) -> None:
    answer = await lonely.send(JSON.post([EXAMPLE, BAD], path=path))
    assert_refused(answer, 503, "UNAVAILABLE", path)
    assert int(answer.headers["retry-after"]) >= 1


# Once.


@FORMS
async def test_the_key_of_a_batch_names_each_record_by_its_index(
    ingest: Ingest, tap: Tap, form: Form, project: str, path: str
) -> None:
    records: list[dict[str, Any]] = [*numbered(2), BAD, *numbered(2, idempotencyKey="own")]
    answer = await ingest.send(form.post(records, 'Idempotency-Key: "order 42"', path=path))
    assert_counted(answer, 4, 1)
    [events] = await messages(ingest, tap, project)
    keys = ["order 42:0", "order 42:1", "own", "own"]
    assert [event["idempotencyKey"] for event in events] == keys
    assert [UUID(event["id"]) for event in events] == [event_id(project, key) for key in keys]


async def test_without_a_key_only_records_with_their_own_have_one(
    ingest: Ingest, tap: Tap, project: str, path: str
) -> None:
    records = [EXAMPLE, {**EXAMPLE, "idempotencyKey": "own"}]
    assert_counted(await ingest.send(JSON.post(records, path=path)), 2)
    [[bare, keyed]] = await messages(ingest, tap, project)
    assert "idempotencyKey" not in bare
    assert UUID(bare["id"]).version == 7
    assert UUID(keyed["id"]) == event_id(project, "own")


@FORMS
async def test_a_batch_that_is_sent_again_whole_is_stored_once(
    ingest: Ingest, database: Database, form: Form, project: str, path: str
) -> None:
    records: list[dict[str, Any]] = [*numbered(20), BAD, {**EXAMPLE, "quantity": 100, "idempotencyKey": "own"}]
    request = form.post(records, "Idempotency-Key: again", path=path)
    answers = [await ingest.send(request) for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert_counted(answers[0], 21, 1)
    # and in the other form, deflated
    other = NDJSON if form is JSON else JSON
    deflated = gzip.compress(other.encode(records))
    answer = await ingest.send(
        other.send(deflated, 'Idempotency-Key: "again"', "Content-Encoding: gzip", path=path),
    )
    assert_counted(answer, 21, 1)
    documents = await stored(ingest, database, project)
    assert [str(document["quantity"]) for document in documents] == [*map(str, range(20)), "100"]
    ids = {event_id(project, key) for key in (*(f"again:{n}" for n in range(20)), "own")}
    assert {document["_id"] for document in documents} == ids


async def test_a_batch_without_a_key_counts_as_often_as_it_is_sent(
    ingest: Ingest, database: Database, project: str, path: str
) -> None:
    for _ in range(2):
        assert_counted(await ingest.send(JSON.post([EXAMPLE], path=path)), 1)
    assert len(await stored(ingest, database, project)) == 2


@pytest.mark.parametrize(
    ("key", "accepted"),
    [("k" * 250, True), ("k" * 251, False), ('"' + "k" * 250 + '"', True), ('"' + "k" * 251 + '"', False)],
)
async def test_the_key_of_a_batch_leaves_room_for_the_index(
    ingest: Ingest,
    path: str,
    key: str,
    accepted: bool,  # noqa: FBT001
) -> None:
    answer = await ingest.send(JSON.post(numbered(1000), f"Idempotency-Key: {key}", path=path))
    if accepted:
        assert_counted(answer, 1000)
    else:
        assert set(assert_refused(answer, 400, "VALIDATION_ERROR", path)) == {"Idempotency-Key"}


@pytest.mark.parametrize(
    "lines",
    [
        ("Idempotency-Key: a", "Idempotency-Key: b"),
        ("Idempotency-Key: a", "Idempotency-Key: a"),
        ("Idempotency-Key:",),
        ('Idempotency-Key: ""',),
        ('Idempotency-Key: "a',),
        ("Idempotency-Key: \xfc",),
    ],
)
async def test_a_wrong_key_sinks_the_batch(ingest: Ingest, path: str, lines: tuple[str, ...]) -> None:
    answer = await ingest.send(JSON.post([EXAMPLE], *lines, path=path))
    assert set(assert_refused(answer, 400, "VALIDATION_ERROR", path)) == {"Idempotency-Key"}


async def test_a_record_with_a_wrong_key_of_its_own_is_one_bad_record(ingest: Ingest, path: str) -> None:
    records = [EXAMPLE, {**EXAMPLE, "idempotencyKey": ""}, {**EXAMPLE, "idempotencyKey": None}]
    errors = assert_counted(await ingest.send(JSON.post(records, "Idempotency-Key: k", path=path)), 1, 2)
    assert [set(error["details"]) for error in errors] == [{"idempotencyKey"}] * 2


async def test_a_negative_quantity_of_anybody_is_one_bad_record(ingest: Ingest, path: str) -> None:
    records = [EXAMPLE, {**EXAMPLE, "quantity": -1}, {**EXAMPLE, "timestamp": "2000-01-01T00:00:00Z"}]
    errors = assert_counted(await ingest.send(JSON.post(records, path=path)), 1, 2)
    assert [set(error["details"]) for error in errors] == [{"quantity"}, {"timestamp"}]
