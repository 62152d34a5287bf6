"""The HTTP contract, as an OpenAPI document."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from inspect import cleandoc
from typing import Final

from aiohttp import web
from pydantic import TypeAdapter

from contract.connection import BrokerUnavailable
from contract.event import NotJson
from contract.fields import RULES, ProjectId
from contract.publisher import NotConfirmed, Refused
from ingest import idempotency, openapi_examples
from ingest.admission import Overloaded
from ingest.auth import Forbidden, Modes
from ingest.batch import BatchTooLarge
from ingest.body import JSON, NDJSON, BadEncoding, BodyLimits, BodyTimeout, BodyTooLarge, UnsupportedMediaType
from ingest.errors import ANSWERS, HeadTimeout, MalformedRequest, Unready
from ingest.handlers import RECORDED, Operation
from ingest.limits import RateLimited
from ingest.openapi_components import COMPONENTS, REQUEST_ID_PATTERN, Object, closed, exactly, ref
from ingest.openapi_examples import RECORD, RECORD_ONCE, named
from ingest.record import InvalidRecord
from ingest.signatures import SIGNATURE_HEADERS
from ingest.unauthorized import Unauthorized

USAGE_PATH: Final = "/api/billing/public/projects/{projectId}/usage"
BATCH_PATH: Final = f"{USAGE_PATH}/batch"

# Which exceptions an operation can end with; status, code and headers follow from them.
_AT_THE_DOOR: Final = (
    MalformedRequest,
    HeadTimeout,
    web.HTTPNotFound,
    web.HTTPMethodNotAllowed,
    web.HTTPExpectationFailed,
)
_READING: Final = (UnsupportedMediaType, BodyTooLarge, BodyTimeout, BadEncoding, NotJson, InvalidRecord)
_ACCESS: Final = (Unauthorized, Forbidden, RateLimited)
_PUBLISHING: Final = (Overloaded, BrokerUnavailable, NotConfirmed, Refused)
_RECORDING: Final = (*_AT_THE_DOOR, *_ACCESS, *_READING, *_PUBLISHING)

_HEADERS_BESIDE: Final[Mapping[type[Exception], tuple[str, ...]]] = {
    Unauthorized: ("WWW-Authenticate",),
    RateLimited: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    web.HTTPMethodNotAllowed: ("Allow",),
}

_RECORDED: Final[Object] = json.loads(RECORDED)


def document(single: Operation, batch: Operation, batch_records: int, modes: Modes) -> Object:
    """Describe the public port as it is set up: how large bodies may be, which credentials are asked for."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usage-ingest",
            "version": "1",
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            "description": "Metered usage for billing. A 200 means that the record is on disk; with an idempotency "
            "key it counts once however often it is sent.",
        },
        "paths": {
            USAGE_PATH: {"parameters": _PROJECT, "post": _record_usage(single, modes)},
            BATCH_PATH: {"parameters": _PROJECT, "post": _record_batch(batch, batch_records, modes)},
            **_status("/healthz", "Whether this process answers.", "ok"),
            **_status("/readyz", "Whether the broker confirms.", "ready", Unready),
            **_described("/openapi.json", "This document."),
            **_described("/asyncapi.json", "The queue contract, as an AsyncAPI document."),
        },
        "components": COMPONENTS,
    }


def _record_usage(single: Operation, modes: Modes) -> Object:
    contents = {JSON: {"schema": ref("schemas", "Record"), "examples": named(RECORD, RECORD_ONCE)}}
    return {
        "operationId": "recordUsage",
        "summary": "Record the usage of one customer.",
        "description": "Sent again after a 503 or a lost answer, a record without an idempotency key counts again.",
        "security": _security(modes),
        "parameters": _request_headers(single.longest_key),
        "requestBody": _request_body(single.limits, contents),
        "responses": {
            "200": _success("On disk, and counted once.", exactly(_RECORDED), "Usage-Id", examples=named(_RECORDED)),
            **_refusals(_RECORDING, USAGE_PATH),
        },
    }


def _record_batch(batch: Operation, records: int, modes: Modes) -> Object:
    array = {"type": "array", "minItems": 1, "maxItems": records, "items": ref("schemas", "Record")}
    lines = "".join(json.dumps(record) + "\n" for record in (RECORD, RECORD_ONCE))
    contents = {
        JSON: {"schema": closed({"events": array}), "examples": named({"events": [RECORD, RECORD_ONCE]})},
        NDJSON: {
            "schema": {"type": "string", "description": f"1 to {records} records, one on each line."},
            "examples": named(lines),
        },
    }
    return {
        "operationId": "recordUsageBatch",
        "summary": "Record usage in bulk.",
        "description": "One wrong record does not sink the others: the answer says which were rejected, and why. To "
        "retry, send the whole batch unchanged with the same key.",
        "security": _security(modes),
        "parameters": [_ATOMIC, *_request_headers(batch.longest_key)],
        "requestBody": _request_body(batch.limits, contents),
        "responses": {
            "200": _success(
                "The accepted records are on disk.",
                ref("schemas", "BatchReport"),
                examples=named(openapi_examples.BATCH_REPORT),
            ),
            **_refusals((*_RECORDING, BatchTooLarge), BATCH_PATH),
        },
    }


def _status(path: str, summary: str, word: str, *raised: type[Exception]) -> Object:
    return _get(path, summary, exactly({"status": word}), raised)


def _described(path: str, summary: str) -> Object:
    return _get(path, summary, {"type": "object"}, ())


def _get(path: str, summary: str, schema: Object, raised: Iterable[type[Exception]]) -> Object:
    operation = {
        "operationId": path[1:].removesuffix(".json"),
        "summary": summary,
        "security": [],
        "responses": {"200": _success(summary, schema), **_refusals((*_AT_THE_DOOR, *raised), path)},
    }
    return {path: {"get": operation}}


def _success(description: str, schema: Object, *headers: str, **beside: Object) -> Object:
    return _response(description, schema, ("X-Request-Id", *headers), **beside)


def _refusals(kinds: Iterable[type[Exception]], path: str) -> Object:
    """One response for each status that these exceptions are answered with."""
    by_status: dict[int, list[type[Exception]]] = {}
    for kind in kinds:
        by_status.setdefault(ANSWERS[kind].status, []).append(kind)
    return {str(status): _refusal(by_status[status], path) for status in sorted(by_status)}


def _refusal(kinds: list[type[Exception]], path: str) -> Object:
    examples = {ANSWERS[kind].code: {"value": openapi_examples.error(kind, _meaning(kind), path)} for kind in kinds}
    schema = {**ref("schemas", "Error"), "properties": {"code": {"enum": list(examples)}}}
    beside = dict.fromkeys(name for kind in kinds for name in _headers_beside(kind))
    meaning = " ".join(dict.fromkeys(map(_meaning, kinds)))
    return _response(meaning, schema, ("X-Request-Id", *beside), examples=examples)


def _headers_beside(kind: type[Exception]) -> tuple[str, ...]:
    return _HEADERS_BESIDE.get(kind, ("Retry-After",) if ANSWERS[kind].retry else ())


def _meaning(kind: type[Exception]) -> str:
    """Our exceptions say what happened, in the first paragraph; for aiohttp's, the status does."""
    if kind.__doc__ and not issubclass(kind, web.HTTPException):
        return cleandoc(kind.__doc__).partition("\n\n")[0]
    return f"{HTTPStatus(ANSWERS[kind].status).phrase}."


def _response(description: str, schema: Object, headers: Iterable[str], **beside: Object) -> Object:
    return {
        "description": description,
        "headers": {name: ref("headers", name) for name in headers},
        "content": {JSON: {"schema": schema, **beside}},
    }


def _request_body(limits: BodyLimits, contents: Object) -> Object:
    return {
        "required": True,
        "description": f"At most {limits.bytes} bytes, also once inflated, within {limits.seconds:g} seconds.",
        "content": {kind: contents[kind] for kind in limits.types},
    }


def _request_headers(longest_key: int) -> list[Object]:
    """All but Content-Type and Authorization, which OpenAPI says elsewhere."""
    return [
        {
            "name": idempotency.HEADER,
            "in": "header",
            "description": f"A key of 1 to {longest_key} printable ASCII characters, bare or as a quoted string. A "
            "record's own idempotencyKey stands for it; within a project, one key is one event.",
            "schema": {"type": "string", "pattern": _key_pattern(longest_key)},
            "example": "order-42",
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "description": f"Comes back with the answer when it matches {REQUEST_ID_PATTERN}; else one is made.",
            "schema": {"type": "string"},
        },
        {"name": "Content-Encoding", "in": "header", "schema": {"type": "string", "enum": ["identity", "gzip"]}},
    ]


def _key_pattern(longest: int) -> str:
    bare = rf"[!#-~]([ -~]{{0,{longest - 2}}}[!-~])?"
    quoted = rf'"([ !#-\[\]-~]|\\["\\]){{1,{longest}}}"'
    return f"^({bare}|{quoted})$"


def _security(modes: Modes) -> list[Object]:
    """The ways in, any of which will do; the empty one is to send no credential."""
    ways: list[Object] = [{}] if modes.open else []
    if modes.api_key:
        ways += [{"apiKey": []}, {"bearer": []}]
    if modes.signature:
        ways.append({name: [] for name in SIGNATURE_HEADERS})
    return ways


_PROJECT: Final = [
    {
        "name": "projectId",
        "in": "path",
        "required": True,
        "description": f"{RULES['projectId']}; 24 hexadecimal digits are an ObjectId, in either case.",
        "schema": TypeAdapter(ProjectId).json_schema(),
        "example": openapi_examples.PROJECT,
    }
]

_ATOMIC: Final = {
    "name": "atomic",
    "in": "query",
    "description": "With true, one wrong record is a 400, and nothing is recorded.",
    "schema": {"type": "boolean", "default": False},
}
