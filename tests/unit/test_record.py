import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.event import NotJson, Source, UsageEvent, decode
from contract.fields import RULES, truncate
from ingest.record import InvalidRecord, Receipt, Record, Window, parse_project_id

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
WINDOW = Window(ahead=timedelta(minutes=5), back=timedelta(days=35))
EXAMPLE: dict[str, Any] = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}


def accept(changes: dict[str, Any] | None = None, project_id: str = "proj_nCBo0AB7UWpj", **more: Any) -> UsageEvent:
    return received(json.dumps({**EXAMPLE, **(changes or {}), **more}).encode(), project_id)


def received(body: bytes, project_id: str = "p", *, at: datetime = NOW) -> UsageEvent:
    record = Record.parse(body)
    return record.accept(Receipt(project_id, truncate(at), WINDOW), key=record.key)


def details(**changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidRecord) as error:
        accept(changes)
    return error.value.details


def test_a_record_becomes_an_event_with_all_its_fields() -> None:
    event = accept(
        quantity="0.1",
        idempotencyKey="order-42",
        timestamp="2026-01-31T11:00:00.5+00:00",
        properties={"plan": "pro", "seats": 3},
    )
    assert event == UsageEvent(
        id=UUID("d756084a-f7a0-51e2-96e1-80b49e81eaae"),
        project_id="proj_nCBo0AB7UWpj",
        email="amari_koss69@northwind.dev",
        metric="program quantify",
        quantity=Decimal("0.1"),
        received_at=datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC),
        source=Source.HTTP,
        timestamp=datetime(2026, 1, 31, 11, 0, 0, 500000, tzinfo=UTC),
        idempotency_key="order-42",
        properties={"plan": "pro", "seats": 3},
    )


def test_a_record_without_a_key_gets_a_time_ordered_id_of_its_own() -> None:
    before = time.time_ns() // 1_000_000
    ids = [accept().id for _ in range(100)]
    assert len(set(ids)) == 100
    assert {type(event_id) for event_id in ids} == {UUID}
    assert {(event_id.version, event_id.variant) for event_id in ids} == {(7, RFC_4122)}
    assert all(before <= event_id.int >> 80 <= before + 60_000 for event_id in ids)


def test_a_record_with_a_key_gets_the_same_id_each_time() -> None:
    assert accept(idempotencyKey="k", quantity=1).id == accept(idempotencyKey="k", quantity=2).id


def test_a_retry_without_a_timestamp_has_the_same_content() -> None:
    body = json.dumps({**EXAMPLE, "idempotencyKey": "k"}).encode()
    first, second = (received(body, at=NOW + timedelta(seconds=delay)) for delay in (0, 3600))
    assert first.received_at != second.received_at
    assert first.content == second.content


def test_a_retry_is_the_same_event_for_the_worker_whenever_the_first_one_arrived() -> None:
    # given a record with a timestamp that is received in that very millisecond, and once more a second later
    body = json.dumps({**EXAMPLE, "idempotencyKey": "k", "timestamp": "2026-01-31T12:00:00.123Z"}).encode()
    # when both have travelled through the queue
    first, second = (
        decode(
            received(body, at=NOW + timedelta(seconds=delay)).to_wire(),
            source=Source.HTTP,
            now=NOW,
        ).events[0]
        for delay in (0, 1)
    )
    # then the second is a duplicate of the first, not in conflict with it
    assert first.id == second.id
    assert second.repeats(first)
    assert first.repeats(second)


@pytest.mark.parametrize("quantity", ["0", "-0", "-0.0", "0.000000000", "0.000000001", "99999999999999999.999999999"])
def test_zero_and_positive_quantities_are_accepted(quantity: str) -> None:
    for spelling in (f'"{quantity}"', quantity):
        body = json.dumps(EXAMPLE).replace("195.84", spelling).encode()
        event = received(body)
        assert event.quantity == abs(Decimal(quantity))
        assert not event.quantity.is_signed()


@pytest.mark.parametrize("quantity", [-1, "-0.000000001", -1e16])
def test_a_negative_quantity_from_nobody_in_particular_is_refused(quantity: object) -> None:
    assert set(details(quantity=quantity)) == {"quantity"}


@given(st.decimals(0, 10**17, places=9).filter(lambda q: q < 10**17))
def test_a_json_number_is_never_rounded(quantity: Decimal) -> None:
    body = json.dumps(EXAMPLE).replace("195.84", format(quantity, "f")).encode()
    assert Record.parse(body).fields["quantity"] == quantity


@pytest.mark.parametrize(
    ("offset", "accepted"),
    [
        (timedelta(), True),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, milliseconds=1), False),
        (timedelta(hours=1), False),
        (-timedelta(days=35), True),
        (-timedelta(days=35, milliseconds=1), False),
        (-timedelta(days=365), False),
    ],
)
def test_a_timestamp_is_accepted_within_the_window_only(offset: timedelta, accepted: bool) -> None:  # noqa: FBT001
    timestamp = (NOW.replace(microsecond=123000) + offset).isoformat()
    if accepted:
        assert accept(timestamp=timestamp).timestamp == datetime.fromisoformat(timestamp)
    else:
        assert set(details(timestamp=timestamp)) == {"timestamp"}


def test_the_bound_that_a_timestamp_broke_is_in_the_sentence() -> None:
    assert "in the future" in details(timestamp="2026-02-01T12:00:00Z")["timestamp"]
    assert "in the past" in details(timestamp="2025-01-01T12:00:00Z")["timestamp"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"email": None}, {"email": RULES["email"]}),
        ({"metric": "  "}, {"metric": RULES["metric"]}),
        ({"quantity": True}, {"quantity": RULES["quantity"]}),
        ({"quantity": "abc"}, {"quantity": RULES["quantity"]}),
        ({"properties": {"a": {}}}, {"properties": RULES["properties"]}),
        ({"idempotency_key": "k"}, {"idempotency_key": "is not a known field; did you mean idempotencyKey?"}),
        ({"Quantity": 1}, {"Quantity": "is not a known field; did you mean quantity?"}),
    ],
)
def test_a_wrong_record_is_refused_with_a_sentence_for_each_wrong_field(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert details(**changes) == expected


@pytest.mark.parametrize("name", ["id", "projectId", "receivedAt", "source"])
def test_what_only_ingest_or_the_queue_may_say_is_not_taken_from_a_client(name: str) -> None:
    assert set(details(**{name: "2026-01-31T12:00:00Z"})) == {name}


@pytest.mark.parametrize("name", ["id", "projectId", "receivedAt"])
def test_no_field_is_suggested_that_would_be_refused_as_well(name: str) -> None:
    assert "did you mean" not in details(**{name: "x"})[name]


def test_the_error_says_all_details_in_one_sentence() -> None:
    with pytest.raises(InvalidRecord, match=r"^email must .*; metric must .*$"):
        accept(email="x", metric="")


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"text"', b"true", b"[{}]"])
def test_a_body_that_is_json_but_no_object_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidRecord) as error:
        Record.parse(body)
    assert error.value.details == {"body": "must be a JSON object"}


@given(st.binary())
def test_any_bytes_are_a_record_or_refused_by_name(body: bytes) -> None:
    with pytest.raises((NotJson, InvalidRecord)):
        Record.parse(body)


def test_a_body_full_of_unknown_fields_holds_nobody_up_for_long() -> None:
    # given the most unknown fields that fit into the largest body, and one whose name takes all of it
    many = json.dumps({f"{n:x}": 1 for n in range(5500)}).encode()
    long = json.dumps({"quantity" * 8000: 1}).encode()
    assert max(len(many), len(long)) <= 65536
    for body in (many, long):
        # when
        started = time.process_time()
        with pytest.raises(InvalidRecord):
            Record.parse(body)
        # then
        assert time.process_time() - started < 1


def test_the_project_id_of_a_path_is_checked_and_folded() -> None:
    assert parse_project_id("proj_nCBo0AB7UWpj") == "proj_nCBo0AB7UWpj"
    assert parse_project_id("65A1B2C3D4E5F6A7B8C9D0E1") == "65a1b2c3d4e5f6a7b8c9d0e1"


@pytest.mark.parametrize("text", ["", "a/b", "a\x00b", "a\udcff", "x" * 65, "a b"])
def test_a_project_id_that_breaks_the_rule_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidRecord) as error:
        parse_project_id(text)
    assert error.value.details == {"projectId": RULES["projectId"]}
