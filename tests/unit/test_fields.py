from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.explanation import explain
from contract.fields import (
    RULES,
    Email,
    EventId,
    Fields,
    IdempotencyKey,
    Metric,
    ProjectId,
    Properties,
    current_time,
    fold_object_id,
    format_timestamp,
    is_object_id,
    parse_properties,
    parse_quantity,
    parse_timestamp,
    strict_adapter,
)

PROJECT_ID: TypeAdapter[str] = TypeAdapter(ProjectId)
EMAIL: TypeAdapter[str] = TypeAdapter(Email)
METRIC: TypeAdapter[str] = TypeAdapter(Metric)
KEY: TypeAdapter[str] = TypeAdapter(IdempotencyKey)
ID: TypeAdapter[Any] = TypeAdapter(EventId)
PROPERTIES: TypeAdapter[Any] = TypeAdapter(Properties)
FIELDS = strict_adapter(Fields)

GOOD = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": Decimal("195.84")}

exact_quantities = st.builds(
    lambda digits, decimals: Decimal(digits).scaleb(-decimals),
    st.integers(-(10**26) + 1, 10**26 - 1),
    st.integers(0, 9),
).filter(lambda q: abs(q) < 10**17)


def refused(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("text", ["p", "proj_nCBo0AB7UWpj", "A-Z_09", "x" * 64])
def test_a_project_id_of_letters_digits_underscores_and_hyphens_is_kept(text: str) -> None:
    assert PROJECT_ID.validate_python(text) == text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a/b", "a b", "a.b", "a\x00b", "a\udcffb", "prøj", "a\n", "\na", "٣", 7, None, b"proj"]
)
def test_any_other_project_id_is_refused(text: object) -> None:
    assert refused(PROJECT_ID, text)


def test_a_project_id_of_24_hexadecimal_digits_is_an_object_id_with_one_spelling() -> None:
    assert PROJECT_ID.validate_python("65A1B2C3D4E5F6A7B8C9D0E1") == "65a1b2c3d4e5f6a7b8c9d0e1"
    assert is_object_id("65A1B2C3D4E5F6A7B8C9D0E1")


@pytest.mark.parametrize("text", ["65A1B2C3D4E5F6A7B8C9D0E", "65A1B2C3D4E5F6A7B8C9D0E1F", "65A1B2C3D4E5F6A7B8C9D0EG"])
def test_a_project_id_that_only_resembles_an_object_id_keeps_its_case(text: str) -> None:
    assert fold_object_id(text) == text
    assert not is_object_id(text)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("amari_koss69@northwind.dev", "amari_koss69@northwind.dev"),
        ("Amari.Koss@Northwind.DEV", "amari.koss@northwind.dev"),
        ("a@b", "a@b"),
        ("o'brien+tag@sub.example.test", "o'brien+tag@sub.example.test"),
        ("!#$%&'*+/=?^_`{|}~-.@x.y", "!#$%&'*+/=?^_`{|}~-.@x.y"),
        ("..@x.y", "..@x.y"),  # the HTML standard's pattern, not RFC 5321's
        ("a" * 241 + "@example.test", "a" * 241 + "@example.test"),
        (f"a@{'b' * 63}.{'c' * 63}", f"a@{'b' * 63}.{'c' * 63}"),
    ],
)
def test_an_email_by_the_html_pattern_is_kept_in_lower_case(given_: str, kept: str) -> None:
    assert EMAIL.validate_python(given_) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a@b..c",
        "a@-b",
        "a@b-",
        "a@b_c",
        f"a@{'b' * 64}",
        "a" * 242 + "@example.test",
        "Name <a@b.co>",
        " a@b.co",
        "a@b.co ",
        "a@b.co\n",
        "a b@c.co",
        "ä@b.co",
        "a@ä.co",
        "a\x00@b.co",
        "a@b.co,c@d.co",
        "a@[127.0.0.1]",
        "\u212a@b.co",  # KELVIN SIGN, whose lower case is an ASCII k
        7,
        None,
        ["a@b.co"],
    ],
)
def test_any_other_email_is_refused(text: object) -> None:
    assert refused(EMAIL, text)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("api_calls", "api_calls"),
        ("program quantify", "program quantify"),
        ("  trimmed \t\r\n", "trimmed"),
        ("x" * 128, "x" * 128),
        (" " + "x" * 128 + " ", "x" * 128),
        ("呼び出し", "呼び出し"),
        ("🙂" * 128, "🙂" * 128),
        ("a.b$c", "a.b$c"),
        ("zero\u200bwidth", "zero\u200bwidth"),  # category Cf
    ],
)
def test_a_metric_is_trimmed_and_may_hold_spaces(given_: str, kept: str) -> None:
    assert METRIC.validate_python(given_) == kept


@pytest.mark.parametrize(
    "text", ["", "   ", "\t", "x" * 129, "a\x00b", "a\nb", "a\x7fb", "a\x85b", "a\x1fb", 7, None, True]
)
def test_a_metric_that_is_empty_long_or_holds_control_characters_is_refused(text: object) -> None:
    assert refused(METRIC, text)


@pytest.mark.parametrize(
    ("given_", "exactly"),
    [
        (Decimal("195.84"), "195.84"),
        (7, "7"),
        (0, "0"),
        (Decimal("-0.0"), "0"),
        ("-0", "0"),
        (Decimal("0E+30"), "0"),
        (Decimal("0E-30"), "0"),
        ("195.84", "195.84"),
        ("1.50", "1.50"),
        ("1e3", "1000"),
        ("1E-9", "0.000000001"),
        ("12.5e1", "125"),
        ("-12.5", "-12.5"),
        (Decimal("99999999999999999.999999999"), "99999999999999999.999999999"),
        (Decimal("-99999999999999999.999999999"), "-99999999999999999.999999999"),
        (99999999999999999, "99999999999999999"),
        (Decimal("1E16"), "10000000000000000"),
        (Decimal("1.5" + "0" * 40), "1.500000000"),
        ("12345678901234567.89", "12345678901234567.89"),
    ],
)
def test_a_quantity_is_taken_exactly(given_: object, exactly: str) -> None:
    assert format(parse_quantity(given_), "f") == exactly


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        [],
        {},
        1.5,  # a float has been rounded before we see it
        10**17,
        -(10**17),
        10**30,
        10**4000,
        Decimal(10) ** 17,
        Decimal("1e400"),
        Decimal("1e999999"),
        Decimal("1e-10"),
        Decimal("0.1234567891"),
        Decimal("1e-400"),
        Decimal("1" * 60),
        Decimal("0." + "1" * 60),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        "",
        " ",
        " 1",
        "1 ",
        "1\n",
        "+1",
        ".5",
        "5.",
        "00",
        "01",
        "0x10",
        "abc",
        "1_000",
        "1,000",
        "\u0663",  # ARABIC-INDIC DIGIT THREE
        "\uff11",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "1e400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "1e",
        "--1",
        "1.5.1",
        "1" * 60,
        "0." + "0" * 63,
        "1" * 10_000,
        "true",
        "null",
        "100000000000000000",
        "0.0000000001",
    ],
)
def test_what_is_no_exact_number_within_bounds_is_no_quantity(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the sentence is made elsewhere, from the field's name
        parse_quantity(value)


@given(exact_quantities)
def test_every_quantity_within_bounds_keeps_its_value_as_a_number_and_as_a_string(quantity: Decimal) -> None:
    assert parse_quantity(quantity) == quantity
    assert parse_quantity(format(quantity, "f")) == quantity


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_decimal_is_taken_exactly_or_refused(value: Decimal) -> None:
    try:
        taken = parse_quantity(value)
    except ValueError:
        _, _, exponent = value.normalize().as_tuple()
        assert abs(value) >= 10**17 or int(exponent) < -9
    else:
        assert taken == value
        assert -9 <= int(taken.as_tuple().exponent) <= 0


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        parse_quantity(text)
    except ValueError:
        return
    assert text.isascii()
    assert text[-1].isdigit()


@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_total_of_the_largest_quantities_stays_exact_in_34_digits(count: int) -> None:
    largest = parse_quantity("99999999999999999.999999999")
    assert len((largest * count).as_tuple().digits) <= 34


@pytest.mark.parametrize("length", [1, 255])
def test_a_key_of_1_to_255_printable_characters_is_kept_as_it_is(length: int) -> None:
    assert KEY.validate_python("k" * length) == "k" * length


@pytest.mark.parametrize("key", [" spaced out ", "日本語", "a/b?c=d:e", '"quoted"'])
def test_a_key_is_not_trimmed_and_not_limited_to_ascii(key: str) -> None:
    assert KEY.validate_python(key) == key


@pytest.mark.parametrize("key", ["", "k" * 256, "a\nb", "a\x00", "a\u200b", "a\u2028", "\ud800", 7, None, True])
def test_a_key_that_is_empty_long_or_unprintable_is_refused(key: object) -> None:
    assert refused(KEY, key)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31T12:00:00+05:30", "2026-01-31T06:30:00.000Z"),
        ("2026-01-31T23:30:00-01:00", "2026-02-01T00:30:00.000Z"),
        ("2026-01-31T12:00:00.1Z", "2026-01-31T12:00:00.100Z"),
        ("2026-01-31T12:00:00.123999Z", "2026-01-31T12:00:00.123Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00.000Z"),
        ("2199-12-31T23:59:59.999999999Z", "2199-12-31T23:59:59.999Z"),
    ],
)
def test_a_timestamp_is_rfc_3339_in_utc_truncated_to_milliseconds(text: str, moment: str) -> None:
    assert format_timestamp(parse_timestamp(text)) == moment


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",  # no offset
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:60Z",  # a leap second
        "2026-01-31T12:60:00Z",
        "2026-01-31T24:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "20260131T120000Z",
        "2026-W05-6T12:00:00Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.1234567890Z",
        "2026-01-31T12:00:00+0000",
        "2026-01-31T12:00:00+00",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+05:60",  # an offset's minutes end at 59, too
        "2026-01-31T12:00:00+05:99",
        "2026-01-31T12:00:00+00:00:30",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "٢٠٢٦-01-31T12:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "2200-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        1769860800,
        Decimal("1769860800.5"),
        None,
        True,
    ],
)
def test_any_other_timestamp_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_timestamp(value)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)),  # noqa: DTZ001 - the offset is drawn apart
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_a_timestamp_with_any_offset_is_the_same_moment_in_utc(local: datetime, offset: int) -> None:
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    moment = parse_timestamp(f"{local.isoformat(timespec='microseconds')}{sign}{hours:02}:{minutes:02}")
    exact = local.replace(tzinfo=UTC) - timedelta(minutes=offset)
    assert timedelta(0) <= exact - moment < timedelta(milliseconds=1)
    assert parse_timestamp(format_timestamp(moment)) == moment


@given(st.text())
def test_any_text_is_a_timestamp_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_timestamp(text)


def test_properties_keep_their_values_with_their_types() -> None:
    given_ = {
        "plan": "pro",
        "empty": "",
        "trial": True,
        "seats": 3,
        "least": -(2**63),
        "most": 2**63 - 1,
        "ratio": Decimal("0.125"),
        "spaced name": "x" * 500,
        "n" * 40: "longest name",
    }
    taken = parse_properties(given_)
    assert taken == given_
    assert {name: type(value) for name, value in taken.items()} == {name: type(value) for name, value in given_.items()}


@pytest.mark.parametrize("spelling", [Decimal("3.0"), Decimal(3), Decimal("0.3E1"), Decimal("3.000000000000")])
def test_a_whole_number_among_the_properties_is_an_integer_however_it_is_spelt(spelling: Decimal) -> None:
    taken = parse_properties({"seats": spelling})
    assert (taken, type(taken["seats"])) == ({"seats": 3}, int)


def test_fifty_properties_are_the_most() -> None:
    assert len(parse_properties({str(n): n for n in range(50)})) == 50
    assert refused(PROPERTIES, {str(n): n for n in range(51)})


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {"": 1},
        {"n" * 41: 1},
        {"a.b": 1},
        {"$set": 1},
        {"a$": 1},
        {"a\x00b": 1},
        {"a": None},
        {"a": []},
        {"a": {}},
        {"a": {"b": 1}},
        {"a": "x" * 501},
        {"a": 2**63},
        {"a": -(2**63) - 1},
        {"a": 1.5},
        {"a": Decimal("1e17")},
        {"a": Decimal("0.0000000001")},
        {"a": Decimal("1e400")},
    ],
)
def test_properties_that_are_not_flat_or_break_a_bound_are_refused(value: object) -> None:
    assert refused(PROPERTIES, value)


@pytest.mark.parametrize("text", ["d756084a-f7a0-51e2-96e1-80b49e81eaae", "D756084A-F7A0-51E2-96E1-80B49E81EAAE"])
def test_an_id_is_a_uuid_in_canonical_form(text: str) -> None:
    assert str(ID.validate_python(text)) == "d756084a-f7a0-51e2-96e1-80b49e81eaae"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "d756084af7a051e296e180b49e81eaae",
        "{d756084a-f7a0-51e2-96e1-80b49e81eaae}",
        "urn:uuid:d756084a-f7a0-51e2-96e1-80b49e81eaae",
        "d756084a-f7a0-51e2-96e1-80b49e81eaag",
        "d756084a-f7a0-51e2-96e1-80b49e81eaae\n",
        7,
        None,
    ],
)
def test_any_other_id_is_refused(value: object) -> None:
    assert refused(ID, value)


def explained(item: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as error:
        FIELDS.validate_python(item)
    return explain(error.value, Fields)


@pytest.mark.parametrize("item", [None, 7, "text", [], [GOOD], True])
def test_what_is_no_object_is_explained_as_such(item: object) -> None:
    assert explained(item) == {"body": "must be a JSON object"}


def test_every_missing_field_is_explained_with_its_rule() -> None:
    assert explained({}) == {name: f"is required: it {RULES[name]}" for name in ("email", "metric", "quantity")}


@pytest.mark.parametrize("name", ["email", "metric", "quantity", "idempotencyKey", "timestamp", "properties"])
def test_a_wrong_field_and_one_that_is_null_are_explained_with_its_rule(name: str) -> None:
    values: tuple[object, ...] = (None, [], Decimal("1e400"))
    for value in values:
        assert explained({**GOOD, name: value}) == {name: RULES[name]}


@pytest.mark.parametrize(
    ("unknown", "sentence"),
    [
        ("idempotency_key", "is not a known field; did you mean idempotencyKey?"),
        ("idempotencykey", "is not a known field; did you mean idempotencyKey?"),
        ("Email", "is not a known field; did you mean email?"),
        ("quantitiy", "is not a known field; did you mean quantity?"),
        ("time_stamp", "is not a known field; did you mean timestamp?"),
        ("property", "is not a known field; did you mean properties?"),
        ("xyzzy", "is not a known field"),
        ("", "is not a known field"),
    ],
)
def test_an_unknown_field_is_explained_with_the_nearest_known_one(unknown: str, sentence: str) -> None:
    assert explained({**GOOD, unknown: "order-42"}) == {unknown: sentence}


def test_several_wrong_fields_are_explained_together() -> None:
    assert set(explained({"email": "x", "metric": "", "quantity": True, "no": 1})) == {
        "email",
        "metric",
        "quantity",
        "no",
    }


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.decimals(allow_nan=False)))
def test_any_object_is_valid_or_explained_field_by_field(item: dict[str, object]) -> None:
    sentences = explained(item)
    assert {"email", "metric", "quantity"} & set(sentences)
    assert all(sentences.values())


@given(st.integers(0, 7_258_118_399_999))
def test_the_current_time_is_that_of_the_clock_to_the_millisecond(milliseconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contract.fields.time.time_ns", lambda: milliseconds * 1_000_000 + 999_999)
        assert current_time() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
