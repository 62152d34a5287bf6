import json
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import CodecOptions, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.event import Source, UsageEvent, parse_json
from contract.fields import QUANTITY_DECIMALS, QUANTITY_LIMIT, PropertyValue, parse_quantity
from worker.documents import from_document, to_decimal128, to_document

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD, tz_aware=True)
WIDEST = int(QUANTITY_LIMIT) * 10**QUANTITY_DECIMALS - 1

quantities = st.builds(
    lambda coefficient, decimals: Decimal(coefficient).scaleb(-decimals, context=Context(prec=34)),
    st.integers(-WIDEST, WIDEST),
    st.just(QUANTITY_DECIMALS),
) | st.decimals(
    min_value=-(QUANTITY_LIMIT - 1),
    max_value=QUANTITY_LIMIT - 1,
    places=QUANTITY_DECIMALS,
    allow_nan=False,
    allow_infinity=False,
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=".$\0"), min_size=1, max_size=40)
texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=50)
numbers = quantities.filter(lambda value: value != value.to_integral_value())
values: st.SearchStrategy[PropertyValue] = (
    texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers  # an integral Decimal becomes an int at the door
)
events = st.builds(
    UsageEvent,
    id=st.uuids(),
    project_id=st.from_regex(r"[A-Za-z0-9_-]{1,23}|[0-9a-f]{24}", fullmatch=True),
    email=st.emails().map(str.lower),
    metric=texts.filter(bool),
    quantity=quantities,
    received_at=moments,
    source=st.sampled_from(Source),
    timestamp=st.none() | moments,
    idempotency_key=st.none() | texts.filter(bool),
    properties=st.none() | st.dictionaries(names, values, max_size=5),
)


def event(**changes: Any) -> UsageEvent:
    fields: dict[str, Any] = {
        "id": UUID("d756084a-f7a0-51e2-96e1-80b49e81eaae"),
        "project_id": "proj_nCBo0AB7UWpj",
        "email": "amari_koss69@northwind.dev",
        "metric": "program quantify",
        "quantity": Decimal("195.84"),
        "received_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "source": Source.HTTP,
    }
    return UsageEvent(**{**fields, **changes})


def through_bson(document: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document, codec_options=CODEC), codec_options=CODEC)


@given(quantities)
def test_every_quantity_is_encoded_as_the_driver_would(quantity: Decimal) -> None:
    assert to_decimal128(quantity) == Decimal128(quantity)
    assert to_decimal128(quantity).to_decimal() == quantity


@given(st.integers(-(10**34) + 1, 10**34 - 1), st.integers(-40, 40))
def test_every_decimal_of_up_to_34_digits_is_encoded_as_the_driver_would(coefficient: int, exponent: int) -> None:
    with localcontext(Context(prec=34)):
        value = Decimal(coefficient).scaleb(exponent)
    assert to_decimal128(value) == Decimal128(value)


@pytest.mark.parametrize(
    "text", ["0", "-0", "1", "-1", "1.0", "1.000000000", "0.000000001", "99999999999999999.999999999", "1E+3"]
)
def test_the_digits_are_kept_as_they_were_sent(text: str) -> None:
    assert str(to_decimal128(Decimal(text))) == str(Decimal128(text))


@given(quantities)
def test_the_door_lets_in_what_the_encoder_can_take(quantity: Decimal) -> None:
    parsed = parse_quantity(quantity)
    assert parsed == quantity
    assert to_decimal128(parsed) == Decimal128(parsed)


@given(events)
def test_an_event_comes_back_from_the_database_with_its_content(event: UsageEvent) -> None:
    back = from_document(through_bson(to_document(event)))
    expected_timestamp = None if event.timestamp == event.received_at else event.timestamp
    assert back.timestamp == expected_timestamp
    assert back.content[:4] == event.content[:4]
    assert back.content[5] == event.content[5]
    assert (back.id, back.source, back.idempotency_key) == (event.id, event.source, event.idempotency_key)
    assert (back.received_at, back.used_at) == (event.received_at, event.used_at)
    assert (back.properties is None) == (event.properties is None)


@given(events)
def test_an_event_that_came_over_the_queue_is_equal_to_its_stored_self(event: UsageEvent) -> None:
    simple = replace(event, email="a@example.com", metric="calls", idempotency_key=None)
    sent = UsageEvent.from_wire(parse_json(simple.to_wire()), source=event.source, now=event.received_at)
    assert sent.content[:4] == simple.content[:4]
    assert from_document(through_bson(to_document(sent))).content == sent.content


def test_the_names_on_the_wire_are_the_names_in_the_database() -> None:
    at = datetime(2026, 1, 30, tzinfo=UTC)
    sent = event(timestamp=at, idempotency_key="order-42", properties={"region": "eu", "n": 1})
    wire = json.loads(sent.to_wire())
    document = to_document(sent)
    assert {"_id" if name == "id" else name for name in wire} == document.keys() - {"source"}


def test_optional_fields_that_were_not_given_are_not_stored() -> None:
    assert to_document(event()).keys() == {
        "_id",
        "projectId",
        "email",
        "metric",
        "quantity",
        "timestamp",
        "receivedAt",
        "source",
    }


def test_a_usage_without_a_time_counts_when_it_was_received() -> None:
    document = to_document(event())
    assert document["timestamp"] == document["receivedAt"]
    assert from_document(document).timestamp is None


def test_a_project_id_of_24_hex_digits_is_stored_as_an_object_id() -> None:
    assert to_document(event(project_id="0123456789abcdef01234567"))["projectId"] == ObjectId(
        "0123456789abcdef01234567"
    )
    assert to_document(event(project_id="0123456789abcdef0123456"))["projectId"] == "0123456789abcdef0123456"
    assert to_document(event(project_id="z" * 24))["projectId"] == "z" * 24


def test_numbers_among_the_properties_keep_their_kind() -> None:
    sent = event(properties={"yes": True, "one": 1, "large": 2**63 - 1, "part": Decimal("0.1"), "text": "1"})
    stored = through_bson(to_document(sent))["properties"]
    assert stored["yes"] is True
    assert type(stored["one"]) is Int64
    assert stored["part"] == Decimal128("0.1")
    back = from_document(through_bson(to_document(sent))).properties
    assert back == sent.properties
    assert back is not None
    assert [type(value) for value in back.values()] == [bool, int, int, Decimal, str]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"quantity": Decimal(1)}, {"quantity": Decimal(2)}),
        ({"email": "a@example.com"}, {"email": "b@example.com"}),
        ({"metric": "a"}, {"metric": "b"}),
        ({"project_id": "a"}, {"project_id": "b"}),
        ({"properties": {"a": 1}}, {"properties": {"a": True}}),
        ({"properties": {"a": 1}}, {"properties": {"a": "1"}}),
        ({"properties": {"a": 1}}, {}),
        ({"timestamp": datetime(2026, 1, 1, tzinfo=UTC)}, {}),
    ],
)
def test_what_differs_in_content_still_differs_when_read_back(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert from_document(through_bson(to_document(event(**one)))).content != event(**other).content


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": Decimal("195.840")},
        {"received_at": datetime(2026, 1, 31, 13, tzinfo=UTC)},
        {"source": Source.QUEUE},
        {"idempotency_key": "order-42"},
        {"properties": {}},
    ],
)
def test_what_is_no_content_makes_no_difference_when_read_back(change: dict[str, Any]) -> None:
    assert from_document(through_bson(to_document(event()))).content == event(**change).content


def test_a_moment_in_the_last_allowed_century_survives() -> None:
    late = datetime(2200, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1)
    assert from_document(through_bson(to_document(event(timestamp=late)))).timestamp == late
