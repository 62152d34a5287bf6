"""The Idempotency-Key, from the header of a request to what is stored once."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import event_id
from tests.contract.live import Ingest
from tests.contract.raw import Answer, post
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT
from tests.support.queue import DeadLetter, Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
KEYS = ["error", "code", "details", "timestamp", "path", "requestId"]
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=123_000)


@pytest.fixture(scope="module")
def database(worked_database: Database) -> Database:
    return worked_database


@pytest.fixture
async def queue(fresh_broker: str) -> Queue:
    """The broker as it is: it is not emptied between tests."""
    return Queue(fresh_broker)


@pytest.fixture
def project() -> str:
    """A project of the test's own, in which every key is new."""
    return f"proj_{uuid4().hex[:12]}"


def record(**changes: str) -> bytes:
    """The example with changes, each given as the JSON text that stands for its value."""
    texts = {**{name: json.dumps(value) for name, value in EXAMPLE.items()}, **changes}
    return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}").encode()


async def send(ingest: Ingest, body: bytes, *lines: str, project: str = EXAMPLE_PROJECT) -> Answer:
    return await ingest.send(post(body, *lines, path=f"/api/billing/public/projects/{project}/usage"))


def usage_id(answer: Answer) -> UUID:
    assert (answer.status, answer.body) == (200, b'{"message": "Usage recorded successfully"}'), answer
    return UUID(answer.headers["usage-id"])


def assert_refused(answer: Answer, *fields: str) -> dict[str, str]:
    assert answer.status == 400, answer
    body = answer.json
    assert list(body) == KEYS
    assert body["code"] == "VALIDATION_ERROR"
    details = body["details"]
    assert isinstance(details, dict)
    assert set(details) == set(fields)
    return details


async def settled(
    ingest: Ingest, database: Database, queue: Queue, project: str
) -> tuple[list[dict[str, Any]], list[DeadLetter]]:
    """What is stored and what is parked of a project, once everything published before is settled."""
    barrier = usage_id(await send(ingest, record()))
    await eventually(lambda: database.events.find_one({"_id": barrier}), what="the last record to be stored")
    stored_as = ObjectId(project) if ObjectId.is_valid(project) else project
    documents = await database.events.find({"projectId": stored_as}).to_list()
    return documents, [letter for letter in await queue.dead_letters() if project.encode() in letter.body]


# The header.


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("order-42", "order-42"),
        ('"order-42"', "order-42"),
        ("  order-42 \t", "order-42"),
        ('"  order 42 "', "  order 42 "),
        ("order 42", "order 42"),
        (r'"a \"b\" \\c"', 'a "b" \\c'),
        ("a,b;c=d", "a,b;c=d"),
        ('a"b', 'a"b'),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
    ],
)
async def test_the_key_of_the_header_makes_the_id_that_anyone_can_compute(
    ingest: Ingest, header: str, key: str
) -> None:
    answer = await send(ingest, record(), f"Idempotency-Key: {header}")
    assert usage_id(answer) == event_id(EXAMPLE_PROJECT, key)
    # and it is the one of the same key in the body, also where both name it
    in_body = record(idempotencyKey=json.dumps(key))
    assert usage_id(await send(ingest, in_body)) == event_id(EXAMPLE_PROJECT, key)
    assert usage_id(await send(ingest, in_body, f"Idempotency-Key: {header}")) == event_id(EXAMPLE_PROJECT, key)


async def test_the_name_of_the_header_may_be_in_any_case(ingest: Ingest) -> None:
    answer = await send(ingest, record(), "idempotency-KEY: order-42")
    assert str(usage_id(answer)) == "d756084a-f7a0-51e2-96e1-80b49e81eaae"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "   ",
        '""',
        '"',
        '"a',
        '"a"b',
        '"a";b=1',
        '"a", "b"',
        r'"\a"',
        "k" * 256,
        '"' + "k" * 256 + '"',
        "\xfc",
        '"\xfc"',
        "a\tb",
    ],
)
async def test_a_header_that_is_no_key_is_refused_by_its_name(ingest: Ingest, header: str) -> None:
    assert_refused(await send(ingest, record(), f"Idempotency-Key: {header}"), "Idempotency-Key")


@pytest.mark.parametrize("second", ["other", "order-42", ""])
async def test_two_headers_are_refused_whatever_they_say(ingest: Ingest, second: str) -> None:
    answer = await send(ingest, record(), "Idempotency-Key: order-42", f"Idempotency-Key: {second}")
    assert_refused(answer, "Idempotency-Key")


@pytest.mark.parametrize("header", ["order-43", "Order-42", '"order-42 "', '" order-42"'])
async def test_a_header_that_contradicts_the_body_is_refused(ingest: Ingest, header: str) -> None:
    answer = await send(ingest, record(idempotencyKey='"order-42"'), f"Idempotency-Key: {header}")
    details = assert_refused(answer, "idempotencyKey")
    assert "order-4" not in answer.body.decode()
    assert "Idempotency-Key" in details["idempotencyKey"]


async def test_a_refused_record_does_not_use_its_key_up(ingest: Ingest, database: Database, project: str) -> None:
    header = "Idempotency-Key: first-wrong"
    assert_refused(await send(ingest, record(quantity="-1"), header, project=project), "quantity")
    recorded = usage_id(await send(ingest, record(quantity="1"), header, project=project))
    document = await eventually(lambda: database.events.find_one({"_id": recorded}))
    assert str(document["quantity"]) == "1"


# Once.


async def test_identical_retries_count_once(ingest: Ingest, database: Database, queue: Queue, project: str) -> None:
    header = "Idempotency-Key: retried"
    answers = await asyncio.gather(*(send(ingest, record(), header, project=project) for _ in range(20)))
    assert {usage_id(answer) for answer in answers} == {event_id(project, "retried")}
    [document], letters = await settled(ingest, database, queue, project)
    assert document["_id"] == event_id(project, "retried")
    assert document["idempotencyKey"] == "retried"
    assert document["quantity"].to_decimal() == Decimal("195.84")
    assert letters == []


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"quantity": "1.0"}, {"quantity": "1.00"}),
        ({"quantity": "1"}, {"quantity": '"1.000000000"'}),
        ({"quantity": "1000"}, {"quantity": "1e3"}),
        ({"quantity": "0"}, {"quantity": "-0.0"}),
        ({"email": '"amari@northwind.dev"'}, {"email": '"Amari@NorthWind.DEV"'}),
        ({"metric": '"api_calls"'}, {"metric": '"  api_calls\\n"'}),
        ({"metric": '"\\u00fc"'}, {"metric": '"ü"'}),
        (
            {"timestamp": f'"{YESTERDAY:%Y-%m-%dT%H:%M:%S}.123Z"'},
            {"timestamp": f'"{YESTERDAY + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}.123999+02:00"'},
        ),
        ({}, {"properties": "{}"}),
        ({"properties": '{"a": 1, "b": "x"}'}, {"properties": '{"b": "x", "a": 1.0}'}),
        ({"properties": '{"a": 0.5}'}, {"properties": '{"a": 5e-1}'}),
        ({"properties": '{"a": 0}'}, {"properties": '{"a": -0.0}'}),
    ],
)
async def test_another_spelling_of_the_same_record_is_a_duplicate(
    ingest: Ingest, database: Database, queue: Queue, *, project: str, first: dict[str, str], again: dict[str, str]
) -> None:
    for changes in (first, again, first):
        usage_id(await send(ingest, record(**changes), "Idempotency-Key: k", project=project))
    documents, letters = await settled(ingest, database, queue, project)
    assert len(documents) == 1
    assert letters == []


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.swapcase])
async def test_a_project_of_24_hexadecimal_digits_is_one_in_either_case(
    ingest: Ingest, database: Database, queue: Queue, spelling: Any
) -> None:
    project = f"aBcDeF{uuid4().hex[:18]}"
    for spelled in (project, spelling(project)):
        usage_id(await send(ingest, record(), "Idempotency-Key: k", project=spelled))
    [document], letters = await settled(ingest, database, queue, project.lower())
    assert document["projectId"] == ObjectId(project)
    assert document["_id"] == event_id(project.lower(), "k")
    assert letters == []


async def test_a_key_is_for_one_project_only(ingest: Ingest, database: Database, queue: Queue) -> None:
    projects = [f"proj_{uuid4().hex[:12]}" for _ in range(2)]
    for n, project in enumerate(projects):
        usage_id(await send(ingest, record(quantity=str(n)), "Idempotency-Key: k", project=project))
    for project in projects:
        documents, letters = await settled(ingest, database, queue, project)
        assert (len(documents), letters) == (1, [])


async def test_without_a_key_each_record_counts(ingest: Ingest, database: Database, queue: Queue, project: str) -> None:
    for _ in range(3):
        usage_id(await send(ingest, record(), project=project))
    documents, letters = await settled(ingest, database, queue, project)
    assert (len(documents), letters) == (3, [])


# The first stands.


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"quantity": "1"}, {"quantity": "2"}),
        ({"quantity": "1"}, {"quantity": "1.000000001"}),
        ({"email": '"a@example.com"'}, {"email": '"b@example.com"'}),
        ({"metric": '"api_calls"'}, {"metric": '"API_calls"'}),
        ({}, {"timestamp": f'"{YESTERDAY:%Y-%m-%dT%H:%M:%SZ}"'}),
        ({"timestamp": f'"{YESTERDAY:%Y-%m-%dT%H:%M:%S}.001Z"'}, {"timestamp": f'"{YESTERDAY:%Y-%m-%dT%H:%M:%SZ}"'}),
        ({"properties": '{"a": true}'}, {"properties": '{"a": 1}'}),
        ({"properties": '{"a": false}'}, {"properties": '{"a": 0}'}),
        ({"properties": '{"a": "1"}'}, {"properties": '{"a": 1}'}),
        ({"properties": '{"a": 1}'}, {}),
        ({}, {"properties": '{"a": 1}'}),
        ({"properties": '{"a": 1, "b": 2}'}, {"properties": '{"a": 2, "b": 1}'}),
    ],
)
async def test_another_record_with_the_same_key_is_answered_and_parked_with_both(
    ingest: Ingest, database: Database, queue: Queue, *, project: str, first: dict[str, str], other: dict[str, str]
) -> None:
    for changes in (first, other, first):
        usage_id(await send(ingest, record(**changes), "Idempotency-Key: k", project=project))
    [document], [letter] = await settled(ingest, database, queue, project)
    assert document["_id"] == event_id(project, "k")
    assert letter.reason == "CONFLICT"
    assert letter.headers["usage-source"] == "http"
    stood, sent = map(json.loads, letter.detail.removeprefix("stored: ").split("; sent: "))
    assert sent == json.loads(letter.body)
    assert stood["quantity"] == str(document["quantity"].to_decimal())
    # As text, for which true is not 1.
    assert len({json.dumps([event.get(name) for name in sorted({*first, *other})]) for event in (stood, sent)}) == 2


async def test_a_conflict_that_is_sent_again_is_parked_again_and_nothing_is_stored(
    ingest: Ingest, database: Database, queue: Queue, project: str
) -> None:
    for quantity in ("1", "2", "2", "3", "1"):
        usage_id(await send(ingest, record(quantity=quantity), "Idempotency-Key: k", project=project))
    [document], letters = await settled(ingest, database, queue, project)
    assert str(document["quantity"]) == "1"
    assert [json.loads(letter.body)["quantity"] for letter in letters] == ["2", "2", "3"]


# The window of timestamps.


@pytest.mark.parametrize(
    "offset",
    [timedelta(minutes=4, seconds=50), timedelta(0), timedelta(days=-1), timedelta(days=-35, minutes=1)],
)
async def test_a_timestamp_within_the_window_is_kept_to_the_millisecond(
    ingest: Ingest, database: Database, offset: timedelta
) -> None:
    timestamp = datetime.now(UTC) + offset
    recorded = usage_id(await send(ingest, record(timestamp=json.dumps(timestamp.isoformat()))))
    document = await eventually(lambda: database.events.find_one({"_id": recorded}))
    assert document["timestamp"] == timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)
    assert abs(document["receivedAt"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("offset", "sentence"),
    [
        (timedelta(minutes=5, seconds=10), "future"),
        (timedelta(days=300), "future"),
        (timedelta(days=-35, minutes=-1), "past"),
        (timedelta(days=-3000), "past"),
    ],
)
async def test_a_timestamp_outside_the_window_is_refused(ingest: Ingest, offset: timedelta, sentence: str) -> None:
    timestamp = datetime.now(UTC) + offset
    details = assert_refused(await send(ingest, record(timestamp=json.dumps(timestamp.isoformat()))), "timestamp")
    assert sentence in details["timestamp"]
