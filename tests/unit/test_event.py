import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.event import (
    EVENT_NAMESPACE,
    NotJson,
    Reason,
    Source,
    Unacceptable,
    UsageEvent,
    decode,
    encode_json,
    event_id,
    parse_json,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HTTP_ID = "0194b9e2-7c00-7000-8000-000000000001"
ITEM: dict[str, Any] = {
    "projectId": "proj_nCBo0AB7UWpj",
    "email": "amari_koss69@northwind.dev",
    "metric": "program quantify",
    "quantity": "195.84",
    "idempotencyKey": "order-42",
}

exact_quantities = st.builds(
    lambda digits, decimals: Decimal(digits).scaleb(-decimals),
    st.integers(-(10**26) + 1, 10**26 - 1),
    st.integers(0, 9),
).filter(lambda q: abs(q) < 10**17)
texts = st.text(st.characters(exclude_categories=["Cs"]))
property_values = st.one_of(
    texts.filter(lambda text: len(text) <= 500), st.booleans(), st.integers(-(2**63), 2**63 - 1), exact_quantities
)
property_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=".$\x00"), min_size=1, max_size=40)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts | st.sampled_from([*ITEM, "id", "timestamp"]), inner),
    max_leaves=20,
)


def event(changes: Mapping[str, Any] | None = None, **more: Any) -> UsageEvent:
    """The event that ITEM with changes makes; None removes a field."""
    item = {name: value for name, value in {**ITEM, **(changes or {}), **more}.items() if value is not None}
    return UsageEvent.from_wire(parse_json(json.dumps(item).encode()), source=Source.QUEUE, now=NOW)


def refusal(**changes: Any) -> tuple[Reason, str]:
    with pytest.raises(Unacceptable) as error:
        event(changes)
    return error.value.reason, error.value.detail


@given(st.from_regex(r"[A-Za-z0-9_-]{1,23}", fullmatch=True), texts)
def test_an_id_is_what_the_standard_library_makes_of_project_and_key(project: str, key: str) -> None:
    assert event_id(project, key) == uuid5(EVENT_NAMESPACE, f"{project}:{key}")


def test_the_namespace_of_ids_can_be_recomputed_by_anyone() -> None:
    url_namespace = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
    assert uuid5(url_namespace, "urn:usage-ingest:event") == EVENT_NAMESPACE


def test_the_identity_of_a_key_is_the_published_vector() -> None:
    assert str(event_id("proj_nCBo0AB7UWpj", "order-42")) == "d756084a-f7a0-51e2-96e1-80b49e81eaae"
    assert str(event().id) == "d756084a-f7a0-51e2-96e1-80b49e81eaae"


def test_a_key_is_scoped_by_its_project() -> None:
    assert event_id("proj_a", "order-42") != event_id("proj_b", "order-42")


def test_a_project_that_is_an_object_id_gives_one_identity_in_either_case() -> None:
    lower, upper = "65a1b2c3d4e5f6a7b8c9d0e1", "65A1B2C3D4E5F6A7B8C9D0E1"
    assert event_id(lower, "k") == event_id(upper, "k")
    assert event(projectId=lower).id == event(projectId=upper).id
    assert event(projectId=upper).project_id == lower


def test_an_id_alone_is_the_identity() -> None:
    assert event(idempotencyKey=None, id=HTTP_ID).id == UUID(HTTP_ID)


def test_an_id_that_agrees_with_its_key_is_taken() -> None:
    assert event(id="D756084A-F7A0-51E2-96E1-80B49E81EAAE") == event()


def test_an_id_that_disagrees_with_its_key_is_a_mismatch_that_names_the_right_one() -> None:
    reason, detail = refusal(id=HTTP_ID)
    assert reason is Reason.ID_MISMATCH
    assert "d756084a-f7a0-51e2-96e1-80b49e81eaae" in detail


def test_an_event_with_neither_id_nor_key_is_refused_for_that() -> None:
    assert refusal(idempotencyKey=None)[0] is Reason.MISSING_ID


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"quantity": "abc"}, ["quantity"]),
        ({"email": None}, ["email"]),
        ({"projectId": None}, ["projectId"]),
        ({"projectId": "a/b"}, ["projectId"]),
        ({"timestamp": "2200-01-01T00:00:00Z"}, ["timestamp"]),
        ({"receivedAt": "yesterday"}, ["receivedAt"]),
        ({"id": "42"}, ["id"]),
        ({"source": "http"}, ["source"]),
        ({"email": "x", "metric": ""}, ["email", "metric"]),
        ({"idempotency_key": "k"}, ["idempotency_key", "did you mean idempotencyKey?"]),
        ({"project_id": "p"}, ["project_id", "did you mean projectId?"]),
        ({"received_at": "p"}, ["received_at", "did you mean receivedAt?"]),
    ],
)
def test_an_invalid_event_is_refused_with_each_wrong_field_named(changes: dict[str, Any], names: list[str]) -> None:
    reason, detail = refusal(**changes)
    assert reason is Reason.INVALID
    assert all(name in detail for name in names)


def test_what_the_queue_takes_beyond_http_is_taken() -> None:
    taken = event(quantity="-5", timestamp="1970-01-01T00:00:00Z", receivedAt="2199-12-31T00:00:00Z")
    assert taken.quantity == -5
    assert taken.used_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_usage_counts_at_its_timestamp_or_else_at_its_receipt() -> None:
    assert event().used_at == NOW
    assert event(receivedAt="2026-01-30T00:00:00Z").used_at == NOW - timedelta(days=1.5)
    assert event(timestamp="2026-01-01T00:00:00Z").used_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"quantity": "1.0"}, {"quantity": "1.00"}),
        ({"quantity": "1"}, {"quantity": 1}),
        ({"quantity": "1e3"}, {"quantity": "1000.000"}),
        ({"quantity": "-0"}, {"quantity": 0}),
        ({"email": "Amari@Northwind.dev"}, {"email": "amari@northwind.DEV"}),
        ({"metric": " api_calls "}, {"metric": "api_calls"}),
        ({"projectId": "65a1b2c3d4e5f6a7b8c9d0e1"}, {"projectId": "65A1B2C3D4E5F6A7B8C9D0E1"}),
        ({"receivedAt": "2026-01-01T00:00:00Z"}, {"receivedAt": "2026-01-02T00:00:00Z"}),  # a retry, no timestamp
        (
            {"receivedAt": "2026-01-01T00:00:00Z", "timestamp": "2026-01-01T00:00:00Z"},  # equal: not given
            {"receivedAt": "2026-01-02T00:00:00Z"},
        ),
        ({"timestamp": "2026-01-01T00:00:00.1239Z"}, {"timestamp": "2026-01-01T01:00:00.123+01:00"}),
        ({"idempotencyKey": None, "id": "d756084a-f7a0-51e2-96e1-80b49e81eaae"}, {}),
        ({"properties": {"a": 1, "b": "x"}}, {"properties": {"b": "x", "a": 1}}),
        ({"properties": {"a": 1}}, {"properties": {"a": 1.0}}),
        ({"properties": {"a": 1.5}}, {"properties": {"a": 1.50}}),
        ({"properties": {}}, {}),
    ],
)
def test_spellings_of_one_event_have_one_content(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert event(one).content == event(other).content
    assert hash(event(one).content) == hash(event(other).content)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"quantity": "1"}, {"quantity": "1.000000001"}),
        ({"quantity": "99999999999999999.999999998"}, {"quantity": "99999999999999999.999999999"}),
        ({"email": "a@b.co"}, {"email": "b@b.co"}),
        ({"metric": "api_calls"}, {"metric": "API_calls"}),
        ({"projectId": "proj_A"}, {"projectId": "proj_a"}),
        ({"timestamp": "2026-01-01T00:00:00.123Z"}, {"timestamp": "2026-01-01T00:00:00.124Z"}),
        ({"timestamp": "2026-01-01T00:00:00Z"}, {}),
        ({"properties": {"a": 1}}, {}),
        ({"properties": {"a": True}}, {"properties": {"a": 1}}),
        ({"properties": {"a": False}}, {"properties": {"a": 0}}),
        ({"properties": {"a": "1"}}, {"properties": {"a": 1}}),
        ({"properties": {"a": "true"}}, {"properties": {"a": True}}),
        ({"properties": {"a": 9007199254740993}}, {"properties": {"a": 9007199254740992}}),
    ],
)
def test_events_that_differ_have_different_contents(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert event(one).content != event(other).content


def test_source_and_receipt_are_no_content() -> None:
    original = event()
    assert replace(original, source=Source.HTTP, received_at=NOW + timedelta(hours=1)).content == original.content


def written(one: UsageEvent) -> UsageEvent:
    """The same event after a journey through the queue."""
    decoded = decode(one.to_wire(), source=one.source, now=NOW + timedelta(hours=1))
    assert not decoded.rejected
    [read] = decoded.events
    return read


@given(exact_quantities)
def test_every_quantity_survives_the_queue_to_the_last_digit(quantity: Decimal) -> None:
    assert written(replace(event(), received_at=NOW, quantity=quantity)).quantity == quantity


@given(st.dictionaries(property_names, property_values, max_size=50))
def test_properties_survive_the_queue_with_value_and_type(properties: dict[str, str | bool | int | Decimal]) -> None:
    original = replace(event(), properties=properties)
    read = written(original)
    assert read.content == original.content
    assert read.properties is not None
    assert {name for name, value in read.properties.items() if isinstance(value, bool)} == {
        name for name, value in properties.items() if isinstance(value, bool)
    }


@given(
    received_at=moments,
    timestamp=st.none() | moments,
    key=st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=255).filter(str.isprintable),
    metric=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=126).map(lambda text: f"<{text}>"),
)
def test_an_event_survives_the_queue_whole(
    received_at: datetime, timestamp: datetime | None, key: str, metric: str
) -> None:
    original = replace(
        event(),
        id=event_id("proj_nCBo0AB7UWpj", key),
        idempotency_key=key,
        metric=metric,
        received_at=received_at,
        timestamp=None if timestamp == received_at else timestamp,
    )
    assert written(original) == original


def test_the_quantity_travels_as_a_plain_string_that_no_reader_rounds() -> None:
    wire = json.loads(event(quantity="1e-9").to_wire())
    assert wire["quantity"] == "0.000000001"
    assert json.loads(event(quantity="1e16").to_wire())["quantity"] == "10000000000000000"


def test_what_was_not_given_is_not_on_the_wire() -> None:
    wire = json.loads(event().to_wire())
    assert set(wire) == {"id", "projectId", "email", "metric", "quantity", "receivedAt", "idempotencyKey"}


def body_of(*items: object) -> bytes:
    return b"[" + b",".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in items) + b"]"


def test_a_message_holds_one_event_or_an_array_of_them() -> None:
    one = json.dumps(ITEM).encode()
    assert decode(one, source=Source.QUEUE, now=NOW) == decode(body_of(one), source=Source.QUEUE, now=NOW)
    assert len(decode(body_of(one, one, one), source=Source.QUEUE, now=NOW).events) == 3


def test_an_empty_array_is_a_message_without_events() -> None:
    decoded = decode(b"[]", source=Source.QUEUE, now=NOW)
    assert (decoded.events, decoded.rejected) == ([], [])


def test_of_a_packed_message_only_the_bad_events_are_rejected_each_with_its_own_bytes() -> None:
    # given good events between one that lacks an id, one with a quantity that is wrong, one that is none at all
    nameless, wrong = {**ITEM, "idempotencyKey": "order-43"}, {**ITEM, "quantity": "1_000"}
    del nameless["idempotencyKey"]
    # when
    decoded = decode(body_of(ITEM, nameless, ITEM, wrong, None, ITEM), source=Source.HTTP, now=NOW)
    # then
    assert [e.id for e in decoded.events] == [event_id("proj_nCBo0AB7UWpj", "order-42")] * 3
    assert [r.reason for r in decoded.rejected] == [Reason.MISSING_ID, Reason.INVALID, Reason.INVALID]
    assert [json.loads(r.body) for r in decoded.rejected] == [nameless, wrong, None]
    assert all(r.detail and r.source is Source.HTTP for r in decoded.rejected)


def test_a_rejected_event_that_came_alone_keeps_the_very_bytes_that_came() -> None:
    body = b'{ "quantity" : 1.50, "extra":1 }'
    [rejected] = decode(body, source=Source.QUEUE, now=NOW).rejected
    assert rejected.body == body


@pytest.mark.parametrize(
    "number", [b"18446744073709551616", b"9" * 100, b"-1" + b"0" * 30, b"1e400", b"1.50", b"0." + b"1" * 60, b"1e-9"]
)
def test_a_rejected_event_of_a_packed_message_keeps_its_numbers_exactly(number: bytes) -> None:
    bad = b'{"quantity": ' + number + b', "extra": 1}'
    [rejected, _] = decode(body_of(bad, None), source=Source.QUEUE, now=NOW).rejected
    assert Decimal(json.loads(rejected.body, parse_float=Decimal)["quantity"]) == Decimal(number.decode())


NOT_JSON: Mapping[str, bytes] = {
    "nothing": b"",
    "text": b"usage",
    "two values": b"{}{}",
    "a torso": b'{"email": "a@b',
    "bad UTF-8": b'{"email": "\xff"}',
    "UTF-16": json.dumps(ITEM).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a lone surrogate": b'{"email": "\\ud800"}',
    "a key twice": b'{"quantity": 1, "quantity": 2}',
    "a key twice in a property": b'{"properties": {"a": 1, "a": 2}}',
    "NaN": b'{"quantity": NaN}',
    "Infinity": b'{"quantity": Infinity}',
    "-Infinity": b'{"quantity": -Infinity}',
    "a leading zero": b'{"quantity": 01}',
    "a trailing comma": b'{"quantity": 1,}',
    "single quotes": b"{'quantity': 1}",
    "a comment": b'{"quantity": 1 /* one */}',
    "a raw control character": b'{"metric": "a\x01b"}',
    "an exponent beyond any decimal": b'{"quantity": 1e99999999999999999999}',
    "a number of 5000 digits": b'{"quantity": ' + b"9" * 5000 + b"}",
    "nesting of 300 levels": b"[" * 300 + b"]" * 300,
    "nesting of 20,000 levels": b"[" * 20_000 + b"]" * 20_000,
    "objects of 10,000 levels": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_one_json_value_within_the_parsers_bounds_is_undecodable_and_kept_byte_for_byte(
    body: bytes,
) -> None:
    with pytest.raises(NotJson):
        parse_json(body)
    [rejected] = decode(body, source=Source.QUEUE, now=NOW).rejected
    assert (rejected.body, rejected.reason) == (body, Reason.UNDECODABLE)
    assert rejected.detail


def accounted(body: bytes) -> int:
    """How many events and rejections came of a body."""
    decoded = decode(body, source=Source.QUEUE, now=NOW)
    return len(decoded.events) + len(decoded.rejected)


@given(st.binary())
def test_any_bytes_end_as_events_or_as_rejections(body: bytes) -> None:
    assert accounted(body) or parse_json(body) == []


@given(json_values)
def test_any_json_ends_as_events_or_as_rejections(value: object) -> None:
    body = json.dumps(value).encode()
    assert accounted(body) == (len(value) if isinstance(value, list) and not not_finite(value) else 1)


def not_finite(value: object) -> bool:
    """Whether Python wrote a NaN or an Infinity somewhere, which is no JSON."""
    match value:
        case dict():
            return any(map(not_finite, value.values()))
        case list():
            return any(map(not_finite, value))
        case float():
            return value - value != 0
    return False


@given(st.sampled_from([*ITEM, "id", "timestamp", "receivedAt", "properties", "extra"]), json_values)
def test_any_value_in_any_field_leaves_the_neighbours_alone(field: str, value: object) -> None:
    if not_finite(value):
        value = "NaN"
    decoded = decode(body_of(ITEM, {**ITEM, field: value}, ITEM), source=Source.QUEUE, now=NOW)
    assert len(decoded.events) >= 2
    assert len(decoded.events) + len(decoded.rejected) == 3


@given(st.data())
def test_a_valid_message_with_any_byte_changed_ends_as_events_or_as_rejections(data: st.DataObject) -> None:
    body = bytearray(body_of(ITEM, {**ITEM, "properties": {"a": 1.5}}))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert accounted(bytes(body)) >= 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.50"), b"1.50"),
        (Decimal("12345678901234567.89"), b"12345678901234567.89"),
        ({"a": [1]}, b'{"a":[1]}'),
    ],
)
def test_json_is_written_with_every_digit(value: object, text: bytes) -> None:
    assert encode_json(value) == text


@pytest.mark.parametrize("parse", [parse_json, lambda body: parse_json(b"[" + body + b"]")[0]])
def test_numbers_are_parsed_without_float(parse: Callable[[bytes], Any]) -> None:
    assert parse(b"12345678901234567.89") == Decimal("12345678901234567.89")
    assert str(parse(b"1.10")) == "1.10"
    assert parse(b"123456789012345678901234567890") == 123456789012345678901234567890
    assert isinstance(parse(b"1e2"), Decimal)
