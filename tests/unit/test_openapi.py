"""The OpenAPI document, held to the validators and to the table of errors."""

import json
from collections.abc import Iterator
from decimal import Decimal
from inspect import cleandoc
from itertools import product
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter, ValidationError

from contract.event import EventFields, NotJson, parse_json
from contract.fields import (
    Email,
    EventId,
    IdempotencyKey,
    Metric,
    ProjectId,
    Properties,
    Quantity,
    Timestamp,
    json_schema,
)
from ingest.auth import Modes
from ingest.batch import parse_batch
from ingest.body import JSON, NDJSON, BodyLimits
from ingest.errors import ANSWERS, Unready, error_body
from ingest.handlers import RECORDED, Operation
from ingest.idempotency import parse_header
from ingest.limits import RateLimited
from ingest.openapi import BATCH_PATH, USAGE_PATH, document
from ingest.record import InvalidRecord, Record
from ingest.unauthorized import Unauthorized

SINGLE = Operation(BodyLimits(65536, 10), 255)
MANY = Operation(BodyLimits(1048576, 10, (JSON, NDJSON)), 250)
DOCUMENT = document(SINGLE, MANY, 1000, Modes(open=True))
RECORD = DOCUMENT["paths"][USAGE_PATH]["post"]
BATCH = DOCUMENT["paths"][BATCH_PATH]["post"]

RULES: dict[str, TypeAdapter[Any]] = {
    "projectId": TypeAdapter(ProjectId),
    "email": TypeAdapter(Email),
    "metric": TypeAdapter(Metric),
    "quantity": TypeAdapter(Quantity),
    "idempotencyKey": TypeAdapter(IdempotencyKey),
    "timestamp": TypeAdapter(Timestamp),
    "properties": TypeAdapter(Properties),
    "id": TypeAdapter(EventId),
    "receivedAt": TypeAdapter(Timestamp),
}
SCHEMAS = {
    name: jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for name, schema in json_schema(EventFields)["properties"].items()
}

Table = dict[str, list[object]]


def by_rule(name: str, value: object) -> bool:
    try:
        RULES[name].validate_python(value)
    except ValidationError:
        return False
    return True


def by_schema(name: str, value: object) -> bool:
    return SCHEMAS[name].is_valid(value)


def each(table: Table) -> list[tuple[str, object]]:
    return [(name, value) for name, values in table.items() for value in values]


def within(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A validator of a schema that refers to the document's components."""
    return jsonschema_rs.Draft202012Validator(
        {"components": DOCUMENT["components"], "allOf": [schema]}, validate_formats=True
    )


def responses() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every response of every operation, with its status."""
    for item in DOCUMENT["paths"].values():
        for method in ("get", "post"):
            yield from item.get(method, {"responses": {}})["responses"].items()


# The schemas of the fields.

TAKEN: Table = {
    "projectId": ["p", "proj_nCBo0AB7UWpj", "A-Z_09", "x" * 64, "65A1B2C3D4E5F6A7B8C9D0E1"],
    "email": ["amari_koss69@northwind.dev", "A.B@C", "..@x.y", "a" * 241 + "@example.test", f"a@{'b' * 63}.c"],
    "metric": ["api_calls", "program quantify", "x", "  x \t\r\n", "\u3000" + "🙂" * 128 + " " * 9, "a\u2028b"],
    "quantity": [
        *(0, -1, 7, 10**17 - 1, Decimal("195.84"), Decimal("-99999999999999999.999999999"), Decimal("1E-9")),
        *("0", "-0", "195.84", "1e3", "1E-9", "12345678901234567.89"),
    ],
    "idempotencyKey": ["k", "k" * 255, " spaced out ", "日本語", "🙂" * 255, '"quoted"', "a/b?c=d:e"],
    "timestamp": [
        *("2026-01-31T12:00:00Z", "2026-01-31t12:00:00.123456789z", "2026-01-31T12:00:00+05:30"),
        *("2024-02-29T00:00:00-23:59", "1970-01-01T00:00:00Z", "2199-12-31T23:59:59.999Z"),
    ],
    "properties": [
        {},
        {"plan": "pro", "empty": "", "trial": True, "seats": 3, "ratio": Decimal("0.125")},
        {str(n): n for n in range(50)},
        {"n" * 40: "x" * 500, "🙂" * 40: "🙂" * 500, "line\nbreak": -(2**63), "most": 2**63 - 1},
    ],
    "id": ["d756084a-f7a0-51e2-96e1-80b49e81eaae", "D756084A-F7A0-51E2-96E1-80B49E81EAAE"],
    "receivedAt": ["2026-01-31T12:00:00Z"],
}

REFUSED: Table = {
    "projectId": ["", "x" * 65, "a/b", "a b", "a.b", "a\x00b", "prøj", "a\n", "\u0663", 7, None],
    "email": [
        *("", "a", "@b", "a@", "a@b@c", "a@b..c", "a@-b", "a@b_c", f"a@{'b' * 64}", "a" * 242 + "@example.test"),
        *("Name <a@b.co>", " a@b.co", "a@b.co\n", "ä@b.co", "a@ä.co", 7, None, ["a@b.co"]),
    ],
    "metric": ["", "   ", "\t", "\u3000", "x" * 129, "🙂" * 129, "a\x00b", "a\nb", "a\x7fb", "a\x85b", 7, None, True],
    "quantity": [
        *(True, False, None, [], {}, 10**17 + 1, -(10**17) - 1, 10**30, Decimal("1e18")),
        *("", " ", " 1", "1\n", "+1", ".5", "5.", "01", "0x10", "abc", "1_000", "1,000", "\u0663", "\uff11"),
        *("NaN", "Infinity", "inf", "1e", "--1", "1.5.1", "1" * 65, "true"),
    ],
    "idempotencyKey": [
        "",
        "k" * 256,
        "🙂" * 256,
        "a\nb",
        "a\x00",
        "a\x7f",
        "a\u200b",
        "a\u2028",
        "\ufeff",
        7,
        None,
        True,
    ],
    "timestamp": [
        *("", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "2026-01-31T12:00Z"),
        *("2026-01-31T12:00:60Z", "2026-01-31T24:00:00Z", "2026-02-30T12:00:00Z", "2026-13-01T12:00:00Z"),
        *("2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.1234567890Z", "2026-01-31T12:00:00+0000"),
        *("2026-01-31T12:00:00+05:60", " 2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z\n", "٢٠٢٦-01-31T12:00:00Z"),
        *(1769860800, None, True),
    ],
    "properties": [
        *(None, [], "text", {str(n): n for n in range(51)}),
        *({"": 1}, {"n" * 41: 1}, {"🙂" * 41: 1}, {"a.b": 1}, {"$set": 1}, {"a$": 1}, {"a\x00b": 1}),
        *({"a": None}, {"a": []}, {"a": {}}, {"a": "x" * 501}, {"a": 2**63}, {"a": -(2**63) - 1}),
    ],
    "id": [
        *("", "d756084af7a051e296e180b49e81eaae", "{d756084a-f7a0-51e2-96e1-80b49e81eaae}", 7, None),
        *("d756084a-f7a0-51e2-96e1-80b49e81eaag", "d756084a-f7a0-51e2-96e1-80b49e81eaae\n"),
    ],
    "receivedAt": ["2026-01-31T12:00:00"],
}

REFUSED_BY_THE_RULE_ALONE: Table = {
    # JSON Schema counts no decimals: its multipleOf is a division of floats. Read as a float, the largest is the limit.
    "quantity": [10**17, -(10**17), Decimal("0.1234567891"), "0.1234567891", "1e17", "100000000000000000", "1e400"],
    # It knows no categories of characters, so the pattern names the ranges that matter.
    "idempotencyKey": ["a\u061c", "a\u0378"],
    # It knows no order of times.
    "timestamp": ["1969-12-31T23:59:59.999Z", "2200-01-01T00:00:00Z"],
    "properties": [{"a": Decimal("0.1234567891")}, {"a": Decimal("1e17")}],
}


@pytest.mark.parametrize(("name", "value"), each(TAKEN))
def test_what_a_field_takes_its_schema_takes(name: str, value: object) -> None:
    assert by_rule(name, value)
    assert by_schema(name, value)


@pytest.mark.parametrize(("name", "value"), each(REFUSED))
def test_what_a_field_refuses_its_schema_refuses(name: str, value: object) -> None:
    assert not by_rule(name, value)
    assert not by_schema(name, value)


@pytest.mark.parametrize(("name", "value"), each(REFUSED_BY_THE_RULE_ALONE))
def test_what_json_schema_cannot_say_only_the_field_refuses(name: str, value: object) -> None:
    assert not by_rule(name, value)
    assert by_schema(name, value)


def test_every_field_has_examples_and_a_sentence() -> None:
    assert set(SCHEMAS) == set(RULES) == set(TAKEN) == set(REFUSED)
    assert all(schema["description"] for schema in json_schema(EventFields)["properties"].values())


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("a \t\x85\xa0\u200b\u2028@.-:+0123456789TZe")


@given(texts)
@pytest.mark.parametrize("name", ["email", "metric", "idempotencyKey", "timestamp", "quantity", "projectId", "id"])
def test_a_schema_never_refuses_a_text_that_its_field_takes(name: str, text: str) -> None:
    assert by_schema(name, text) or not by_rule(name, text)


@given(texts)
@pytest.mark.parametrize("name", ["projectId", "email", "metric", "id"])
def test_some_schemas_say_the_whole_rule(name: str, text: str) -> None:
    assert by_schema(name, text) == by_rule(name, text)


keys = st.text('ab"\\ ~', max_size=12) | st.text('"\\', max_size=12).map(lambda text: f'"{text}"')


@given(keys)
@example('"' + "k" * 9 + '"')
@example('"' + '\\"' * 9 + '"')
@example("k" * 10)
def test_the_schema_of_the_key_s_header_says_the_whole_rule(text: str) -> None:
    described = document(Operation(BodyLimits(9, 9), 9), MANY, 9, Modes())
    header = described["paths"][USAGE_PATH]["post"]["parameters"][0]
    assert header["name"] == "Idempotency-Key"
    try:
        taken = parse_header([text], longest=9) is not None
    except InvalidRecord:
        taken = False
    # White space around it is no part of a header's value.
    assert within(header["schema"]).is_valid(text.strip(" ")) == taken


# The document.


@pytest.mark.parametrize("modes", [Modes(*flags) for flags in product([False, True], repeat=3)], ids=str)
def test_the_document_is_openapi_whatever_the_modes(modes: Modes) -> None:
    OpenAPIV31SpecValidator(document(SINGLE, MANY, 1000, modes)).validate()


@pytest.mark.parametrize(
    ("modes", "ways"),
    [
        (Modes(open=True), [[]]),
        (Modes(api_key=True), [["apiKey"], ["bearer"]]),
        (Modes(signature=True), [["webhook-id", "webhook-signature", "webhook-timestamp"]]),
        (Modes(open=True, api_key=True), [[], ["apiKey"], ["bearer"]]),
    ],
    ids=str,
)
def test_the_credentials_asked_for_are_those_of_the_modes(modes: Modes, ways: list[list[str]]) -> None:
    described = document(SINGLE, MANY, 1000, modes)
    for path in (USAGE_PATH, BATCH_PATH):
        assert [sorted(way) for way in described["paths"][path]["post"]["security"]] == ways
    assert set().union(*ways) <= set(described["components"]["securitySchemes"])
    assert described["paths"]["/healthz"]["get"]["security"] == []


def test_every_answer_of_the_table_is_at_some_operation() -> None:
    described = {
        (int(status), code)
        for status, response in responses()
        for code in response["content"][JSON]["schema"].get("properties", {}).get("code", {}).get("enum", [])
    }
    assert described == {(answer.status, answer.code) for answer in ANSWERS.values()}


@pytest.mark.parametrize("kind", [kind for kind in ANSWERS if not issubclass(kind, web.HTTPException)])
def test_every_exception_of_the_table_is_explained_at_some_operation(kind: type[Exception]) -> None:
    sentence = cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    assert sentence
    assert any(
        sentence in response["description"] for status, response in responses() if status == str(ANSWERS[kind].status)
    )


def test_every_response_has_a_request_id_and_what_its_status_asks_for() -> None:
    beside = {
        "401": {"WWW-Authenticate"},
        "405": {"Allow"},
        "429": {"Retry-After", "RateLimit", "RateLimit-Policy"},
        "503": {"Retry-After"},
    }
    for status, response in responses():
        expected = {"X-Request-Id"} | beside.get(status, set())
        assert set(response["headers"]) - {"Usage-Id"} == expected, status
    assert "Usage-Id" in RECORD["responses"]["200"]["headers"]


@pytest.mark.parametrize(
    "exc",
    [
        NotJson("not JSON"),
        InvalidRecord({"email": "is wrong"}),
        Unready({"broker": "is down"}),
        RateLimited("too many", {}),
        web.HTTPNotFound(),
        Unauthorized("no key", why="missing", challenge="Bearer"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_an_error_is_what_the_document_says_with_exactly_six_keys(exc: Exception) -> None:
    schema = DOCUMENT["components"]["schemas"]["Error"]
    body = json.loads(error_body(exc, path="/p", request_id="r-1"))
    assert within({"$ref": "#/components/schemas/Error"}).is_valid(body)
    assert set(schema["required"]) == set(schema["properties"]) == set(body)
    assert not within(schema).is_valid({**body, "hint": "more"})
    assert not within(schema).is_valid({**body, "details": ["a list"]})


def test_the_frozen_body_is_the_only_200_of_a_record() -> None:
    schema = within(RECORD["responses"]["200"]["content"][JSON]["schema"])
    assert schema.is_valid(json.loads(RECORDED))
    assert not schema.is_valid({"message": "ok"})
    assert not schema.is_valid({**json.loads(RECORDED), "id": "1"})


def test_the_examples_are_taken_by_schema_and_code() -> None:
    content = RECORD["requestBody"]["content"][JSON]
    assert content["examples"]
    for shown in content["examples"].values():
        assert within(content["schema"]).is_valid(shown["value"])
        Record.parse(json.dumps(shown["value"]).encode())


@pytest.mark.parametrize("kind", [JSON, NDJSON])
def test_the_examples_of_a_batch_are_taken_by_schema_and_code(kind: str) -> None:
    content = BATCH["requestBody"]["content"][kind]
    assert content["examples"]
    for shown in content["examples"].values():
        assert within(content["schema"]).is_valid(shown["value"])
        body = shown["value"] if kind == NDJSON else json.dumps(shown["value"])
        entries = parse_batch(body.encode(), ndjson=kind == NDJSON, most=9)
        assert all(isinstance(entry, Record) for entry in entries)


def test_every_refusal_has_an_example_of_each_of_its_codes() -> None:
    for status, response in responses():
        content = response["content"][JSON]
        if int(status) >= 400:
            assert list(content["examples"]) == content["schema"]["properties"]["code"]["enum"], status
        for code, shown in content.get("examples", {}).items():
            assert within(content["schema"]).is_valid(shown["value"]), (status, code)
            assert shown["value"].get("code", code) == code


def test_an_unknown_field_is_refused_by_the_schema_too() -> None:
    schema = within({"$ref": "#/components/schemas/Record"})
    record = parse_json(b'{"email": "a@b.co", "metric": "m", "quantity": 0.1}')
    assert schema.is_valid(record)
    assert not schema.is_valid({**record, "idempotency_key": "order-42"})


def test_the_limits_are_those_of_the_settings() -> None:
    single, many = Operation(BodyLimits(7000, 2.5), 9), Operation(BodyLimits(8000, 2.5, (JSON,)), 8)
    described = document(single, many, 33, Modes())
    record, batch = (described["paths"][path]["post"]["requestBody"] for path in (USAGE_PATH, BATCH_PATH))
    assert "7000 bytes" in record["description"]
    assert "2.5 seconds" in record["description"]
    assert set(batch["content"]) == {JSON}
    assert batch["content"][JSON]["schema"]["properties"]["events"]["maxItems"] == 33
