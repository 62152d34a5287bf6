import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.event import NotJson, event_id
from ingest.batch import BatchTooLarge, Judged, judge, parse_atomic, parse_batch
from ingest.record import InvalidRecord, Receipt, Record, Window

GOOD: dict[str, Any] = {"email": "a@example.com", "metric": "api_calls", "quantity": 1}
BAD: dict[str, Any] = {**GOOD, "quantity": True}
RECEIPT = Receipt("p", datetime(2026, 1, 31, tzinfo=UTC), Window(timedelta(minutes=5), timedelta(days=35)))


def array(*records: object) -> bytes:
    return json.dumps({"events": records}).encode()


def lines(*records: object) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records)


def judged(body: bytes, *, ndjson: bool = False, key: str | None = None) -> Judged:
    return judge(parse_batch(body, ndjson=ndjson, most=1000), RECEIPT, key=key)


@pytest.mark.parametrize("ndjson", [False, True])
def test_a_bad_record_does_not_sink_the_others(ndjson: bool) -> None:  # noqa: FBT001
    body = (lines if ndjson else array)(GOOD, BAD, 7, GOOD)
    result = judged(body, ndjson=ndjson)
    assert len(result.events) == 2
    assert set(result.errors) == {1, 2}
    assert set(result.as_refusal().details) == {"events[1].quantity", "events[2]"}


def test_a_line_that_is_not_json_is_one_bad_record() -> None:
    result = judged(lines(GOOD) + b"\r\n{\n\n\xff\n" + lines(GOOD) + b"\n", ndjson=True)
    assert len(result.events) == 2
    assert {index: type(error) for index, error in result.errors.items()} == {1: NotJson, 2: NotJson}
    assert set(result.as_refusal().details) == {"events[1]", "events[2]"}


def test_a_record_without_a_key_gets_the_batchs_with_its_index() -> None:
    # given a batch with a bad record between, and one with a key of its own
    result = judged(array(GOOD, BAD, {**GOOD, "idempotencyKey": "own"}, GOOD), key="batch")
    # then the index is the place in the batch, whatever became of the others
    assert [event.idempotency_key for event in result.events] == ["batch:0", "own", "batch:3"]
    assert result.events[2].id == event_id("p", "batch:3")


def test_without_a_key_each_record_is_an_event_of_its_own() -> None:
    one, other = judged(array(GOOD, GOOD)).events
    assert one.id != other.id
    assert one.idempotency_key is None


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        array(),
        b"{}",
        b'{"events": {}}',
        b'{"events": null}',
        b'{"event": []}',
        b'{"events": [], "atomic": true}',
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRecord):
        parse_batch(body, ndjson=False, most=1000)


@pytest.mark.parametrize("body", [b"", b"\n\n", b" \r\n"])
def test_no_lines_are_no_batch(body: bytes) -> None:
    with pytest.raises(InvalidRecord, match="at least one"):
        parse_batch(body, ndjson=True, most=1000)


def test_a_body_that_is_not_json_is_refused_as_such() -> None:
    with pytest.raises(NotJson):
        parse_batch(b"{", ndjson=False, most=1000)


@pytest.mark.parametrize("ndjson", [False, True])
def test_a_batch_has_a_limit(ndjson: bool) -> None:  # noqa: FBT001
    make = lines if ndjson else array
    assert len(parse_batch(make(*[GOOD] * 3), ndjson=ndjson, most=3)) == 3
    with pytest.raises(BatchTooLarge, match="more than 3 records"):
        parse_batch(make(*[GOOD] * 4), ndjson=ndjson, most=3)


@pytest.mark.parametrize(("query", "atomic"), [({}, False), ({"atomic": "true"}, True), ({"atomic": "false"}, False)])
def test_atomic_is_asked_for_by_name(query: dict[str, str], atomic: bool) -> None:  # noqa: FBT001
    assert parse_atomic(query) is atomic


@pytest.mark.parametrize("query", [{"atomic": "1"}, {"atomic": ""}, {"atomc": "true"}])
def test_any_other_question_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRecord):
        parse_atomic(query)


def test_an_entry_is_a_record_like_any_other() -> None:
    [entry] = parse_batch(array({**GOOD, "email": "A@Example.com"}), ndjson=False, most=1)
    assert isinstance(entry, Record)
    assert entry.fields["email"] == "a@example.com"


@pytest.mark.parametrize("ndjson", [False, True])
def test_a_batch_that_is_too_large_is_refused_before_its_records_are_read(
    ndjson: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[object] = []
    monkeypatch.setattr(Record, "of", read.append)
    with pytest.raises(BatchTooLarge):
        parse_batch((lines if ndjson else array)(*[{}] * 1001), ndjson=ndjson, most=1000)
    assert read == []
