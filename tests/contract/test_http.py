import asyncio
import gzip
import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import psutil
import pytest
from aiohttp import ClientSession

from tests.contract.live import Ingest, Tap
from tests.contract.raw import JSON, USAGE_PATH, Answer, chunked, head, post, raw
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT

RECORD = json.dumps(EXAMPLE).encode()
CREDENTIAL = "Bearer opensesame-4f9c1e"
KEYS = ["error", "code", "details", "timestamp", "path", "requestId"]
LIMIT = 65536
EXPECT = "Expect: 100-continue"


def record(**changes: Any) -> bytes:
    """The example with changes; a field that is None is left out."""
    return json.dumps({k: v for k, v in {**EXAMPLE, **changes}.items() if v is not None}).encode()


def assert_recorded(answer: Answer) -> None:
    assert (answer.status, answer.body) == (200, b'{"message": "Usage recorded successfully"}')
    assert answer.headers["content-type"].startswith("application/json")
    UUID(answer.headers["usage-id"])


def assert_refused(answer: Answer, status: int, code: str, path: str | None = USAGE_PATH) -> dict[str, Any]:
    """Check all that errors have in common; return the body. A path of None is one that never was read."""
    assert answer.status == status, answer
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json
    assert list(body) == KEYS
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"] == code
    assert isinstance(body["details"], dict | str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body["timestamp"])
    sent = datetime.fromisoformat(body["timestamp"])
    assert abs(datetime.now(UTC) - sent) < timedelta(minutes=1)
    assert body["path"] == (path if path is not None else "/")
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", body["requestId"])
    assert answer.headers["x-request-id"] == body["requestId"]
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "usage-id" not in answer.headers
    return body


# What is recorded.


async def test_a_record_is_answered_with_the_frozen_body_byte_for_byte(ingest: Ingest, tap: Tap) -> None:
    answer = await ingest.send(post(RECORD))
    assert_recorded(answer)
    assert answer.headers["content-length"] == "42"
    [published] = json.loads(await tap.shows(answer.headers["usage-id"]))
    assert published["id"] == answer.headers["usage-id"]
    assert published["projectId"] == EXAMPLE_PROJECT
    assert {name: published[name] for name in ("email", "metric", "quantity")} == {**EXAMPLE, "quantity": "195.84"}


async def test_the_usage_id_of_a_record_with_a_key_is_the_one_that_anyone_can_compute(ingest: Ingest) -> None:
    for _ in range(2):
        answer = await ingest.send(post(record(idempotencyKey="order-42")))
        assert_recorded(answer)
        assert answer.headers["usage-id"] == "d756084a-f7a0-51e2-96e1-80b49e81eaae"


async def test_records_without_a_key_get_a_usage_id_each(ingest: Ingest) -> None:
    answers = [await ingest.send(post(RECORD)) for _ in range(3)]
    assert len({answer.headers["usage-id"] for answer in answers}) == 3
    assert {UUID(answer.headers["usage-id"]).version for answer in answers} == {7}


async def test_one_connection_carries_many_records_also_after_a_refused_one(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        for body, status in [(RECORD, 200), (b"{}", 400), (b"no json", 400), (RECORD, 200)]:
            await connection.write(post(body))
            assert (await connection.answer()).status == status


async def test_pipelined_records_are_answered_in_order(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(
            b"".join(post(record(idempotencyKey=f"p-{n}"), f"X-Request-Id: r-{n}") for n in range(50))
        )
        answers = [await connection.answer() for _ in range(50)]
    assert [answer.headers["x-request-id"] for answer in answers] == [f"r-{n}" for n in range(50)]
    assert {answer.status for answer in answers} == {200}


async def test_every_optional_field_reaches_the_queue(ingest: Ingest, tap: Tap) -> None:
    timestamp = datetime.now(UTC).replace(microsecond=250_999)
    given = record(
        idempotencyKey="every-optional-field",
        timestamp=timestamp.isoformat(),
        properties={"plan": "pro", "trial": True, "seats": 3, "ratio": 0.125},
    )
    assert_recorded(await ingest.send(post(given)))
    [published] = json.loads(await tap.shows("every-optional-field"))
    assert published["timestamp"] == timestamp.strftime("%Y-%m-%dT%H:%M:%S.250Z")
    assert published["properties"] == {"plan": "pro", "trial": True, "seats": 3, "ratio": 0.125}
    assert set(published) == {
        *("id", "projectId", "email", "metric", "quantity", "receivedAt", "idempotencyKey", "timestamp", "properties")
    }


async def test_a_project_id_of_24_hexadecimal_digits_is_one_project_in_either_case(ingest: Ingest, tap: Tap) -> None:
    project = uuid4().hex[:24]
    answers = []
    for spelling in (project.upper(), project.lower()):
        path = f"/api/billing/public/projects/{spelling}/usage"
        answers.append(await ingest.send(post(record(idempotencyKey="k"), path=path)))
    assert answers[0].headers["usage-id"] == answers[1].headers["usage-id"]
    [published] = json.loads(await tap.shows(project))
    assert published["projectId"] == project


# The head of a request.


@pytest.mark.parametrize(
    "segment",
    [
        "a%2Fb",
        "%2F",
        "a%00b",
        "%ff",
        "a%20b",
        "a.b",
        "..%2f",
        "x" * 65,
        "%E2%80%AE",
        "a;b",
        "%25",
        "$where",
        "a+b",
        "*",
    ],
)
async def test_a_project_id_that_breaks_the_rule_is_a_validation_error(ingest: Ingest, segment: str) -> None:
    path = f"/api/billing/public/projects/{segment}/usage"
    body = assert_refused(await ingest.send(post(RECORD, path=path)), 400, "VALIDATION_ERROR", path)
    assert set(body["details"]) == {"projectId"}


async def test_a_project_id_of_64_characters_is_taken(ingest: Ingest) -> None:
    assert_recorded(await ingest.send(post(RECORD, path=f"/api/billing/public/projects/{'x' * 64}/usage")))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/billing/public/projects/usage",
        "/api/billing/public/projects//usage",
        "/api/billing/public/projects/p/usage/",
        "/api/billing/public/projects/p/usage/more",
        "/api/billing/public/projects/a/b/usage",
        "/API/billing/public/projects/p/usage",
        "//api/billing/public/projects/p/usage",
        "/healthz/",
        "/metrics",
        "/%00",
        "/%ff",
        "/..%2f..%2fetc/passwd",
        "/" + "x" * 4000,
    ],
)
async def test_any_other_path_is_not_found(ingest: Ingest, path: str) -> None:
    assert_refused(await ingest.send(post(RECORD, path=path)), 404, "NOT_FOUND", path)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_any_other_method_is_not_allowed_and_told_which_is(ingest: Ingest, method: str) -> None:
    answer = await ingest.send(head(JSON, method=method))
    assert_refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


async def test_a_head_request_is_answered_without_a_body(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(head(method="HEAD"), post(RECORD))
        answer = await connection.answer(bodiless=True)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert_recorded(await connection.answer())


@pytest.mark.parametrize("query", ["?", "?a=b", "?projectId=other", "?%ff"])
async def test_a_query_changes_nothing(ingest: Ingest, query: str) -> None:
    assert_recorded(await ingest.send(post(RECORD, path=USAGE_PATH + query)))


MALFORMED: dict[str, bytes] = {
    "no HTTP": b"hello\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": f"POST {USAGE_PATH} HTTP/9.9\r\nHost: x\r\n\r\n".encode(),
    "a space in the path": f"POST {USAGE_PATH} x HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a bad method": f"PO(ST {USAGE_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a byte beyond ASCII in the path": head(path="/a\xffb"),
    "a control character in the path": b"POST /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a colon": head("Authorization " + CREDENTIAL),
    "a header with a space in its name": head(f"Author ization: {CREDENTIAL}"),
    "a header without a name": head(f": {CREDENTIAL}"),
    "a NUL in a header": head(f"Authorization: {CREDENTIAL}\x00"),
    "a carriage return in a header": head(f"Authorization: {CREDENTIAL}\rX: y"),
    "a folded header": head("X-Folded: a\r\n b" + CREDENTIAL),
    "an over-long header": head(f"Authorization: {CREDENTIAL}{'x' * 9000}"),
    "an over-long name": head(f"{'x' * 9000}: {CREDENTIAL}"),
    "an over-long path": head(path="/" + "x" * 9000),
    "too many headers": head(*(f"X-{n}: {CREDENTIAL}" for n in range(200))),
    "Content-Length with Transfer-Encoding": head(JSON, "Content-Length: 5", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n",
    "Transfer-Encoding with Content-Length": head(JSON, "Transfer-Encoding: chunked", "Content-Length: 5")
    + b"0\r\n\r\n",
    "two Content-Lengths": head(JSON, "Content-Length: 5", "Content-Length: 6") + b"{}   ",
    "two equal Content-Lengths": head(JSON, "Content-Length: 2", "Content-Length: 2") + b"{}",
    "a list as Content-Length": head(JSON, "Content-Length: 2, 2") + b"{}",
    "a negative Content-Length": head(JSON, "Content-Length: -1"),
    "a signed Content-Length": head(JSON, "Content-Length: +2") + b"{}",
    "a hexadecimal Content-Length": head(JSON, "Content-Length: 0x2") + b"{}",
    "an empty Content-Length": head(JSON, "Content-Length:"),
    "a Content-Length beyond 64 bits": head(JSON, f"Content-Length: {'9' * 40}"),
    "an unknown Transfer-Encoding": head(JSON, "Transfer-Encoding: gzip") + b"{}",
    "chunked twice": head(JSON, "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "two Hosts": head("Host: other"),
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_http_request_is_refused_as_json_without_an_echo(ingest: Ingest, request_: bytes) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(request_)
        answer = await connection.answer()
        assert_refused(answer, 400, "VALIDATION_ERROR", None)
        assert await connection.ended()
    assert b"opensesame" not in answer.body
    assert not any("opensesame" in value for value in answer.headers.values())
    assert "opensesame" not in ingest.process.text


async def test_no_answer_quotes_a_credential(ingest: Ingest) -> None:
    lines = (f"Authorization: {CREDENTIAL}", f"X-API-Key: {CREDENTIAL}", f"Cookie: {CREDENTIAL}")
    requests = [
        post(b"{}", *lines),
        post(b"no", *lines),
        post(RECORD, *lines, path="/"),
        head(*lines, method="GET"),
        head(*lines, "Content-Length: 2") + b"{}",
        post(RECORD, *lines, f"Content-Encoding: {CREDENTIAL}"),
        head(*lines, JSON, "Content-Length: 99999999"),
        post(RECORD, *lines, f"X-Request-Id: {CREDENTIAL}"),
    ]
    for request in requests:
        answer = await ingest.send(request)
        assert "opensesame" not in f"{answer.headers}{answer.body!r}"
    assert "opensesame" not in ingest.process.text


async def test_a_host_is_not_needed_by_an_old_client(ingest: Ingest) -> None:
    request = f"POST {USAGE_PATH} HTTP/1.0\r\n{JSON}\r\nContent-Length: {len(RECORD)}\r\n\r\n".encode() + RECORD
    assert_recorded(await ingest.send(request))


@pytest.mark.parametrize("path", [USAGE_PATH, USAGE_PATH + "?", USAGE_PATH.replace("_", "%5F")])
@pytest.mark.parametrize(
    ("version", "asked", "told", "stays"),
    [
        ("1.1", "", None, True),
        ("1.1", "Connection: close\r\n", "close", False),
        ("1.0", "", "close", False),
        ("1.0", "Connection: keep-alive\r\n", "keep-alive", True),
    ],
)
async def test_the_usual_path_and_other_spellings_are_answered_alike(
    ingest: Ingest, path: str, version: str, asked: str, told: str | None, *, stays: bool
) -> None:
    request = f"POST {path} HTTP/{version}\r\nHost: x\r\n{JSON}\r\n{asked}Content-Length: {len(RECORD)}\r\n\r\n"
    async with asyncio.timeout(15), raw(ingest.port) as connection:
        await connection.write(request.encode() + RECORD)
        answer = await connection.answer()
        assert_recorded(answer)
        connected = {"connection"} if told else set()
        assert set(answer.headers) == {"content-type", "content-length", "date", "usage-id", "x-request-id"} | connected
        assert answer.headers.get("connection") == told
        assert parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC) < timedelta(seconds=10)
        if stays:
            await connection.write(request.encode() + RECORD)
            assert_recorded(await connection.answer())
        else:
            assert await connection.ended()


@pytest.mark.parametrize(
    "request_",
    [
        f"POST http://ingest{USAGE_PATH} HTTP/1.1\r\nHost: ingest\r\n{JSON}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
        f"POST {USAGE_PATH}\r\nHost: x\r\n{JSON}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
        b"POST http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http://x:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http:/// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT [::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST ? HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST # HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: [\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a b\xff\r\n\r\n",
        post(RECORD, "Connection: upgrade", "Upgrade: websocket"),
        post(RECORD, "Connection: upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        head("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", method="GET", path="/healthz"),
        post(RECORD, "Content-Type: text/plain"),
        post(RECORD, "Content-Encoding: gzip", "Content-Encoding: identity"),
        post(RECORD, "Trailer: X", "TE: trailers"),
        post(RECORD, "Range: bytes=0-1", "If-Match: *", "If-Modified-Since: never"),
        post(RECORD, "Cookie: \xff=\xff; ;;=", "Forwarded: for=", "X-Forwarded-For: \xff"),
        head("Content-Type: application/json; charset=\xff", "Content-Length: 2") + b"{}",
        head("Content-Type: application/json; charset*=utf-8''%ff; charset", "Content-Length: 2") + b"{}",
        head("Content-Type: multipart/form-data", "Content-Length: 2") + b"{}",
        head(JSON, "Transfer-Encoding: identity", "Content-Length: 2") + b"{}",
        head(JSON, "Content-Length: 0"),
        head(JSON),
        head(EXPECT, method="GET", path="/healthz"),
        head("Expect: a-miracle", method="GET", path="/healthz"),
        head("Expect: a-miracle", JSON, "Content-Length: 2") + b"{}",
        head("Expect: a-miracle", JSON, path="/nowhere"),
        head(EXPECT, "Content-Length: 0", path="/nowhere"),
        head(EXPECT, method="PUT"),
    ],
)
async def test_no_request_is_answered_with_a_server_error_or_as_anything_but_json(
    ingest: Ingest, request_: bytes
) -> None:
    answer = await ingest.send(request_)
    assert answer.status < 500, answer
    if answer.status != 200:
        assert_refused(answer, answer.status, answer.json["code"], answer.json["path"])


async def test_a_request_id_is_taken_or_made_and_stands_in_header_and_body(ingest: Ingest) -> None:
    for body, status in [(RECORD, 200), (b"{}", 400)]:
        for given in ["a", "A-Za-z0-9._-", "x" * 64]:
            answer = await ingest.send(post(body, f"X-Request-Id: {given}"))
            assert (answer.status, answer.headers["x-request-id"]) == (status, given)
        for refused in ["", "x" * 65, "a b", "a/b", "<script>", "\xe4", "a,b"]:
            answer = await ingest.send(post(body, f"X-Request-Id: {refused}"))
            assert answer.status == status
            assert answer.headers["x-request-id"] != refused
            UUID(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"{}", "X-Request-Id: mine"), 400),
        (post(b"{}", "X-Request-Id: mine", path="/nowhere"), 404),
        (head("X-Request-Id: mine", method="GET"), 405),
        (head("X-Request-Id: mine", JSON, "Content-Length: 70000"), 413),
        (head("X-Request-Id: mine", "Content-Type: text/plain", "Content-Length: 2") + b"{}", 415),
        (head("X-Request-Id: mine", JSON, EXPECT, "Content-Length: 70000"), 413),
        (head("X-Request-Id: mine", EXPECT, "Content-Type: text/plain", "Content-Length: 2"), 415),
    ],
)
async def test_a_request_id_is_taken_on_every_error(ingest: Ingest, request_: bytes, status: int) -> None:
    answer = await ingest.send(request_)
    assert (answer.status, answer.headers["x-request-id"], answer.json["requestId"]) == (status, "mine", "mine")


# The body of a request.


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "APPLICATION/JSON", "application/json;charset=utf-8", 'application/json; charset="UTF-8"'],
)
async def test_json_in_utf_8_is_taken(ingest: Ingest, content_type: str) -> None:
    assert_recorded(await ingest.send(head(f"Content-Type: {content_type}", f"Content-Length: {len(RECORD)}") + RECORD))


@pytest.mark.parametrize(
    "line",
    [
        "X-No-Type: at all",
        "Content-Type:",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: application/x-ndjson",
        "Content-Type: application/problem+json",
        "Content-Type: application/json; charset=utf-16",
        "Content-Type: application/json; charset=latin-1",
        f"{JSON}\r\nContent-Encoding: br",
        f"{JSON}\r\nContent-Encoding: zstd",
        f"{JSON}\r\nContent-Encoding: deflate",
        f"{JSON}\r\nContent-Encoding: xyz",
        f"{JSON}\r\nContent-Encoding: gzip, gzip",
    ],
)
async def test_other_types_and_encodings_are_unsupported(ingest: Ingest, line: str) -> None:
    answer = await ingest.send(head(line, f"Content-Length: {len(RECORD)}") + RECORD)
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_body_may_be_packed_with_gzip(ingest: Ingest, tap: Tap) -> None:
    packed = gzip.compress(record(idempotencyKey="packed-with-gzip"))
    assert_recorded(await ingest.send(post(packed, "Content-Encoding: gzip")))
    assert_recorded(
        await ingest.send(head(JSON, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunked(packed, 7))
    )
    await tap.shows("packed-with-gzip")


@pytest.mark.parametrize(
    "body",
    [
        RECORD,
        gzip.compress(RECORD, mtime=0)[:-1],
        gzip.compress(RECORD, mtime=0)[:20],
        gzip.compress(RECORD, mtime=0)[:-8] + bytes(8),
        gzip.compress(RECORD, mtime=0) + b"x",
        b"\x1f\x8b",
        b"",
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says_is_refused(ingest: Ingest, body: bytes) -> None:
    assert_refused(await ingest.send(post(body, "Content-Encoding: gzip")), 400, "INVALID_JSON")


async def test_the_largest_body_is_taken_and_one_byte_more_is_too_large(ingest: Ingest) -> None:
    largest = RECORD + b" " * (LIMIT - len(RECORD))
    too_large = largest + b" "
    forms: tuple[Callable[[bytes], bytes], ...] = (
        post,
        lambda body: head(JSON, "Transfer-Encoding: chunked") + chunked(body, 10_000),
        lambda body: post(gzip.compress(body), "Content-Encoding: gzip"),
    )
    for form in forms:
        assert_recorded(await ingest.send(form(largest)))
        assert_refused(await ingest.send(form(too_large)), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", [LIMIT + 1, 10**9, 2**63 - 1])
async def test_a_promise_of_too_much_is_refused_before_a_byte_of_it(ingest: Ingest, length: int) -> None:
    assert_refused(await ingest.send(head(JSON, f"Content-Length: {length}")), 413, "PAYLOAD_TOO_LARGE")


async def test_an_endless_body_is_cut_off_at_the_limit(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(head(JSON, "Transfer-Encoding: chunked"))
        writing = asyncio.create_task(connection.write(*[b"1000\r\n" + b" " * 4096 + b"\r\n"] * 10_000))
        assert_refused(await connection.answer(), 413, "PAYLOAD_TOO_LARGE")
        writing.cancel()


async def test_a_gzip_bomb_is_too_large_and_takes_no_memory(ingest: Ingest) -> None:
    # given 60 KiB that inflate to 60 MiB
    bomb = post(gzip.compress(bytes(60 * 2**20)), "Content-Encoding: gzip")
    process = psutil.Process(ingest.process.pid)
    before = process.memory_info().rss
    # when 40 of them come at once
    answers = await asyncio.gather(*(ingest.send(bomb) for _ in range(40)))
    # then
    for answer in answers:
        assert_refused(answer, 413, "PAYLOAD_TOO_LARGE")
    assert process.memory_info().rss - before < 20 * 2**20


async def test_a_client_that_asks_first_is_refused_before_it_is_invited(ingest: Ingest) -> None:
    for line in ("Content-Length: 1000000000", f"Content-Length: {LIMIT + 1}"):
        answer = await ingest.send(head(JSON, EXPECT, line))
        assert_refused(answer, 413, "PAYLOAD_TOO_LARGE")
        assert answer.interim == ()


async def test_a_client_that_asks_first_with_a_wrong_type_is_refused_before_it_is_invited(ingest: Ingest) -> None:
    answer = await ingest.send(head("Content-Type: text/plain", EXPECT, "Content-Length: 2"))
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.interim == ()


async def test_a_client_that_asks_first_is_invited_and_recorded(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(head(JSON, EXPECT, f"Content-Length: {len(RECORD)}"))
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.write(RECORD)
        assert_recorded(await connection.answer())


async def test_what_follows_a_body_of_the_promised_length_is_no_request(ingest: Ingest) -> None:
    async with raw(ingest.port) as connection:
        await connection.write(head(JSON, f"Content-Length: {len(RECORD)}") + RECORD)
        assert_recorded(await connection.answer())
        await connection.write(b"and more\r\n\r\n")
        assert_refused(await connection.answer(), 400, "VALIDATION_ERROR", None)


@pytest.mark.parametrize("sent", [RECORD, RECORD + b"\r\n\r\n", RECORD + b" and more"])
async def test_a_body_longer_than_promised_is_refused(ingest: Ingest, sent: bytes) -> None:
    # Whether the rest is seen before or after the torso is judged depends on how it arrives.
    answer = await ingest.send(head(JSON, f"Content-Length: {len(RECORD) - 1}") + sent)
    assert answer.json["code"] in {"INVALID_JSON", "VALIDATION_ERROR"}
    assert_refused(answer, 400, answer.json["code"], answer.json["path"])


@pytest.mark.parametrize(
    "broken",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"5\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"1\r\n{\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_broken_chunks_are_refused_at_the_latest_when_time_is_up(impatient: Ingest, broken: bytes) -> None:
    # Those that arrive after the head look to aiohttp like a body that has not come.
    beginning = head(JSON, "Transfer-Encoding: chunked")
    at_once = await impatient.send(beginning + broken)
    assert_refused(at_once, 400, "VALIDATION_ERROR", None)
    async with raw(impatient.port) as connection:
        await connection.write(beginning)
        answering = asyncio.create_task(connection.answer())
        await wait_until_shed(impatient, unless=answering)
        await connection.write(broken)
        later = await answering
        assert later.status in {400, 408}
        assert_refused(later, later.status, later.json["code"])


async def test_a_record_in_chunks_of_one_byte_is_recorded(ingest: Ingest) -> None:
    spaced = RECORD + b" " * (60_000 - len(RECORD))
    assert_recorded(await ingest.send(head(JSON, "Transfer-Encoding: chunked") + chunked(spaced, 1)))


async def test_300_000_chunks_of_one_byte_cost_little_and_are_too_large(ingest: Ingest) -> None:
    process = psutil.Process(ingest.process.pid)
    before = process.cpu_times().user
    answer = await ingest.send(head(JSON, "Transfer-Encoding: chunked") + chunked(b" " * 300_000, 1))
    assert_refused(answer, 413, "PAYLOAD_TOO_LARGE")
    assert process.cpu_times().user - before < 3


async def test_a_client_that_hangs_up_in_the_middle_publishes_nothing(ingest: Ingest, tap: Tap) -> None:
    # given clients that leave while their body, all but its last byte, is on its way
    key = f"hung-up-{uuid4()}"
    body = record(idempotencyKey=key)
    for lines, part in [
        ([f"Content-Length: {len(body)}"], body[:-1]),
        ([f"Content-Length: {len(body) + 1}"], body),
        (["Transfer-Encoding: chunked"], chunked(body, 10)[:-5]),
        (["Content-Encoding: gzip", "Content-Length: 9999"], gzip.compress(body)),
    ]:
        for leave in ("politely", "abruptly"):
            async with raw(ingest.port) as connection:
                await connection.write(head(JSON, *lines), part)
                if leave == "politely":
                    connection.writer.close()
                    await connection.writer.wait_closed()
    # when one more is recorded
    later = await ingest.send(post(RECORD))
    # then only that one is published
    await tap.shows(later.headers["usage-id"])
    assert not tap.shown(key)


async def test_a_client_that_hangs_up_after_its_last_byte_has_its_record_published(ingest: Ingest, tap: Tap) -> None:
    key = f"impatient-{uuid4()}"
    async with raw(ingest.port) as connection:
        await connection.write(post(record(idempotencyKey=key)))
        connection.writer.close()
        await connection.writer.wait_closed()
    await tap.shows(key)


# What a record says.


def spelt(quantity: str) -> bytes:
    """The example with its quantity spelt like this."""
    return RECORD.replace(b"195.84", quantity.encode())


@pytest.mark.parametrize(
    ("quantity", "published"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e400", "0"),
        ("1", "1"),
        ("1.50", "1.5"),
        ('"1.50"', "1.5"),
        ("1e3", "1000"),
        ("1E-9", "0.000000001"),
        ("0.1", "0.1"),
        ("12345678901234567.89", "12345678901234567.89"),
        ("99999999999999999.999999999", "99999999999999999.999999999"),
        ('"99999999999999999.999999999"', "99999999999999999.999999999"),
        ("1.000000000000000000000000000000000000000000000000000000000000", "1"),
    ],
)
async def test_a_quantity_is_recorded_exactly(ingest: Ingest, tap: Tap, quantity: str, published: str) -> None:
    answer = await ingest.send(post(spelt(quantity)))
    assert_recorded(answer)
    [item] = json.loads(await tap.shows(answer.headers["usage-id"]))
    assert Decimal(item["quantity"]) == Decimal(published)
    assert not item["quantity"].startswith("-")


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        ("true", "VALIDATION_ERROR"),
        ("false", "VALIDATION_ERROR"),
        ("null", "VALIDATION_ERROR"),
        ("[]", "VALIDATION_ERROR"),
        ("{}", "VALIDATION_ERROR"),
        ("[1]", "VALIDATION_ERROR"),
        ('""', "VALIDATION_ERROR"),
        ('"abc"', "VALIDATION_ERROR"),
        ('"1_000"', "VALIDATION_ERROR"),
        ('"1,000"', "VALIDATION_ERROR"),
        ('"\u0663"', "VALIDATION_ERROR"),
        ('" 1"', "VALIDATION_ERROR"),
        ('"+1"', "VALIDATION_ERROR"),
        ('"0x10"', "VALIDATION_ERROR"),
        ('"NaN"', "VALIDATION_ERROR"),
        ('"Infinity"', "VALIDATION_ERROR"),
        ('"1e400"', "VALIDATION_ERROR"),
        ('"-1"', "VALIDATION_ERROR"),
        ("-1", "VALIDATION_ERROR"),
        ("-0.000000001", "VALIDATION_ERROR"),
        ("1e400", "VALIDATION_ERROR"),
        ("1e-400", "VALIDATION_ERROR"),
        ("1e999999", "VALIDATION_ERROR"),
        ("1" + "0" * 30, "VALIDATION_ERROR"),
        ("1e17", "VALIDATION_ERROR"),
        ("100000000000000000", "VALIDATION_ERROR"),
        ("0.0000000001", "VALIDATION_ERROR"),
        ("1" * 60, "VALIDATION_ERROR"),
        ("0." + "1" * 60, "VALIDATION_ERROR"),
        ('"' + "1" * 60 + '"', "VALIDATION_ERROR"),
        ("9" * 4000, "VALIDATION_ERROR"),
        ("0." + "0" * 60_000 + "1", "VALIDATION_ERROR"),
        ("9" * 60_000, "INVALID_JSON"),
        ("1e99999999999999999999", "INVALID_JSON"),
        ("NaN", "INVALID_JSON"),
        ("Infinity", "INVALID_JSON"),
        ("-Infinity", "INVALID_JSON"),
        ("01", "INVALID_JSON"),
        ("+1", "INVALID_JSON"),
        (".5", "INVALID_JSON"),
        ("5.", "INVALID_JSON"),
        ("1_000", "INVALID_JSON"),
        ("\u0663", "INVALID_JSON"),
        ("0x10", "INVALID_JSON"),
        ("", "INVALID_JSON"),
    ],
)
async def test_a_quantity_that_is_no_exact_number_is_refused(ingest: Ingest, quantity: str, code: str) -> None:
    body = assert_refused(await ingest.send(post(spelt(quantity))), 400, code)
    assert set(body["details"]) == ({"quantity"} if code == "VALIDATION_ERROR" else set())


INVALID: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"email": None}, {"email": "is required"}),
    ({"metric": None}, {"metric": "is required"}),
    ({"quantity": None}, {"quantity": "is required"}),
    ({"email": ""}, {"email": "e-mail"}),
    ({"email": "nobody"}, {"email": "e-mail"}),
    ({"email": "Name <a@b.co>"}, {"email": "e-mail"}),
    ({"email": "a@b.co, c@d.co"}, {"email": "e-mail"}),
    ({"email": "a@b.co\n"}, {"email": "e-mail"}),
    ({"email": "\u212a@b.co"}, {"email": "e-mail"}),
    ({"email": "a" * 250 + "@b.co"}, {"email": "254"}),
    ({"email": 7}, {"email": "e-mail"}),
    ({"metric": ""}, {"metric": "128"}),
    ({"metric": " \t "}, {"metric": "128"}),
    ({"metric": "x" * 129}, {"metric": "128"}),
    ({"metric": "a\u0000b"}, {"metric": "control"}),
    ({"metric": "a\nb"}, {"metric": "control"}),
    ({"metric": ["api_calls"]}, {"metric": "128"}),
    ({"idempotencyKey": ""}, {"idempotencyKey": "255"}),
    ({"idempotencyKey": "x" * 256}, {"idempotencyKey": "255"}),
    ({"idempotencyKey": "a\nb"}, {"idempotencyKey": "printable"}),
    ({"idempotencyKey": 7}, {"idempotencyKey": "string"}),
    ({"timestamp": "yesterday"}, {"timestamp": "RFC 3339"}),
    ({"timestamp": "2026-01-31"}, {"timestamp": "RFC 3339"}),
    ({"timestamp": 1769860800}, {"timestamp": "RFC 3339"}),
    ({"timestamp": "1970-01-01T00:00:00Z"}, {"timestamp": "past"}),
    ({"timestamp": "2199-01-01T00:00:00Z"}, {"timestamp": "future"}),
    ({"properties": []}, {"properties": "flat"}),
    ({"properties": {"a": {"b": 1}}}, {"properties": "flat"}),
    ({"properties": {"a.b": 1}}, {"properties": "flat"}),
    ({"properties": {"$where": 1}}, {"properties": "flat"}),
    ({"properties": {f"p{n}": n for n in range(51)}}, {"properties": "50"}),
    ({"properties": {"a": "x" * 501}}, {"properties": "500"}),
    ({"properties": {"a": 2**63}}, {"properties": "flat"}),
    ({"idempotency_key": "k"}, {"idempotency_key": "did you mean idempotencyKey?"}),
    ({"idempotencykey": "k"}, {"idempotencykey": "did you mean idempotencyKey?"}),
    ({"qty": 1, "quantitty": 2}, {"qty": "is not a known field", "quantitty": "did you mean quantity?"}),
    ({"id": str(uuid4())}, {"id": "is not a known field"}),
    ({"source": "queue"}, {"source": "is not a known field"}),
    ({"email": "x", "metric": "", "quantity": "abc"}, {"email": "e-mail", "metric": "128", "quantity": "number"}),
]


@pytest.mark.parametrize(("changes", "details"), INVALID)
async def test_a_record_that_breaks_a_rule_is_told_which_field_and_what_it_must_be(
    ingest: Ingest, changes: dict[str, Any], details: dict[str, str]
) -> None:
    body = assert_refused(await ingest.send(post(record(**changes))), 400, "VALIDATION_ERROR")
    assert set(body["details"]) == set(details)
    for name, words in details.items():
        assert words in body["details"][name]


@pytest.mark.parametrize("text", [b"null", b"[]", b"7", b'"text"', b"true", b"[" + RECORD + b"]"])
async def test_a_body_that_is_json_but_no_object_is_a_validation_error(ingest: Ingest, text: bytes) -> None:
    body = assert_refused(await ingest.send(post(text)), 400, "VALIDATION_ERROR")
    assert body["details"] == {"body": "must be a JSON object"}


NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b"  \n",
    "a form": b"email=a%40b.co&quantity=1",
    "two records": RECORD + RECORD,
    "a torso": RECORD[:-1],
    "a key twice": b'{"quantity": 1, ' + RECORD[1:],
    "a key twice in disguise": b'{"quant\\u0069ty": 1, ' + RECORD[1:],
    "a property twice": RECORD[:-1] + b', "properties": {"a": 1, "a": 2}}',
    "a byte order mark": b"\xef\xbb\xbf" + RECORD,
    "UTF-16": RECORD.decode().encode("utf-16"),
    "bad UTF-8": RECORD.replace(b"program", b"\xff\xfe"),
    "over-long UTF-8": RECORD.replace(b"program", b"\xc0\xaf"),
    "a surrogate in UTF-8": RECORD.replace(b"program", b"\xed\xa0\x80"),
    "a lone high surrogate": RECORD.replace(b"program", b"\\ud800"),
    "a lone low surrogate": RECORD.replace(b"program", b"\\udc00"),
    "a surrogate in a key": b'{"\\ud800": 1, ' + RECORD[1:],
    "a raw line break": RECORD.replace(b"program", b"a\nb"),
    "20,000 arrays": b"[" * 20_000 + b"]" * 20_000,
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "32,000 opened arrays": b"[" * 32_000,
    "deep properties": RECORD[:-1] + b', "properties": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
}


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_not_one_json_value_is_refused_as_such(ingest: Ingest, text: bytes) -> None:
    body = assert_refused(await ingest.send(post(text)), 400, "INVALID_JSON")
    assert body["details"] in ({}, "")


async def test_nesting_beyond_the_size_limit_is_too_large(ingest: Ingest) -> None:
    assert_refused(await ingest.send(post(b"[" * 100_000)), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({"email": "Amari.KOSS@Northwind.DEV"}, '"email":"amari.koss@northwind.dev"'),
        ({"email": "o'brien+tag@example.test"}, '"email":"o\'brien+tag@example.test"'),
        ({"metric": "  api_calls\n"}, '"metric":"api_calls"'),
        ({"metric": "呼び出し 🙂"}, '"metric":"呼び出し 🙂"'),
        ({"metric": "x" * 128}, f'"metric":"{"x" * 128}"'),
        ({"idempotencyKey": " nicht getrimmt ü "}, '"idempotencyKey":" nicht getrimmt ü "'),
        ({"properties": {}}, '"properties":{}'),
    ],
)
async def test_a_record_is_published_as_the_rules_have_it(
    ingest: Ingest, tap: Tap, changes: dict[str, Any], published: str
) -> None:
    answer = await ingest.send(post(record(**changes)))
    assert_recorded(answer)
    assert published in (await tap.shows(answer.headers["usage-id"])).decode()


# Time and load.

LESS_THAN_USUAL = 9.5
"""Seconds for a head or a body, if nothing else is set, are ten and more."""


async def test_a_body_that_does_not_arrive_is_timed_out(impatient: Ingest) -> None:
    started = time.monotonic()
    answer = await impatient.send(head(JSON, "Content-Length: 100") + b"{")
    assert_refused(answer, 408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert 0.9 < time.monotonic() - started < LESS_THAN_USUAL


async def test_a_body_that_trickles_is_timed_out(impatient: Ingest) -> None:
    async with raw(impatient.port) as connection:
        await connection.write(head(JSON, "Content-Length: 10000"))
        trickling = asyncio.create_task(trickle(connection.writer, b" "))
        assert_refused(await connection.answer(), 408, "REQUEST_TIMEOUT")
        trickling.cancel()


async def trickle(writer: asyncio.StreamWriter, byte: bytes) -> None:
    """Keep sending, one byte at a time; the pause is what is tested, not a wait."""
    while not writer.is_closing():
        writer.write(byte)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("start", [b"POST /", b"POST / HTTP/1.1\r\nX-Slow: ", head(JSON)[:-2] + b"X-Slow: "])
async def test_a_head_that_trickles_is_timed_out(impatient: Ingest, start: bytes) -> None:
    started = time.monotonic()
    async with raw(impatient.port) as connection:
        await connection.write(start)
        trickling = asyncio.create_task(trickle(connection.writer, b"O"))
        answer = await connection.answer()
        assert_refused(answer, 408, "REQUEST_TIMEOUT", None)
        assert answer.headers["connection"] == "close"
        assert 0.9 < time.monotonic() - started < LESS_THAN_USUAL
        trickling.cancel()


async def test_a_second_head_that_trickles_is_timed_out_too(impatient: Ingest) -> None:
    async with raw(impatient.port) as connection:
        await connection.write(post(RECORD))
        assert_recorded(await connection.answer())
        await connection.write(b"POST /")
        trickling = asyncio.create_task(trickle(connection.writer, b"x"))
        assert_refused(await connection.answer(), 408, "REQUEST_TIMEOUT", None)
        trickling.cancel()


async def test_a_connection_that_rests_between_records_is_left_open(impatient: Ingest) -> None:
    async with raw(impatient.port) as connection:
        await connection.write(post(RECORD))
        assert_recorded(await connection.answer())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.reader.read(1), 1.3)  # longer than a head may take
        await connection.write(post(RECORD))
        assert_recorded(await connection.answer())


async def test_a_head_in_pieces_that_is_in_time_is_answered(ingest: Ingest) -> None:
    request = post(RECORD)
    async with raw(ingest.port) as connection:
        await connection.write(*(request[start : start + 10] for start in range(0, len(request), 10)))
        assert_recorded(await connection.answer())


async def test_too_many_waiting_bytes_are_shed_at_once_and_given_back(narrow: Ingest) -> None:
    # given a request under way that holds 60,000 of 70,000 bytes
    async with raw(narrow.port) as slow:
        await slow.write(head(JSON, "Content-Length: 60000") + b"{")
        # when others come
        await wait_until_shed(narrow)
        started = time.monotonic()
        shed = await narrow.send(post(b" " * 20_000))
        undeclared = await narrow.send(head(JSON, "Transfer-Encoding: chunked"))
        small = await narrow.send(post(RECORD))
        # then what fits is served, and what does not is told to come back, both without waiting for the first
        assert time.monotonic() - started < 30
        for answer in (shed, undeclared):
            assert_refused(answer, 503, "UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
        assert_recorded(small)
        await slow.write(b" " * 59_999)
        assert_refused(await slow.answer(), 400, "INVALID_JSON")
    # and then there is room again
    assert_refused(await narrow.send(post(b" " * 20_000)), 400, "INVALID_JSON")


async def test_a_body_that_is_timed_out_gives_its_bytes_back(impatient: Ingest) -> None:
    assert_refused(await impatient.send(head(JSON, "Content-Length: 60000") + b"{"), 408, "REQUEST_TIMEOUT")
    assert_refused(await impatient.send(post(b" " * 20_000)), 400, "INVALID_JSON")


async def wait_until_shed(ingest: Ingest, *, unless: asyncio.Task[Answer] | None = None) -> None:
    """Wait until a slow request, sent on another connection, is under way; `unless` it is answered already."""
    async with asyncio.timeout(30):
        while (await ingest.send(post(b" " * 20_000))).status != 503:
            if unless is not None and unless.done():
                return


async def test_a_client_that_hangs_up_gives_its_bytes_back(narrow: Ingest) -> None:
    for _ in range(5):
        async with raw(narrow.port) as connection:
            await connection.write(head(JSON, "Content-Length: 60000") + b"{")
            await wait_until_shed(narrow)
        async with asyncio.timeout(30):  # less than the body would have had to arrive
            while (await narrow.send(post(b" " * 60_000))).status == 503:
                pass


async def test_a_hundred_clients_at_once_are_all_answered(ingest: Ingest, session: ClientSession) -> None:
    async def one(n: int) -> tuple[int, bytes]:
        async with session.post(ingest.usage_url(), json={**EXAMPLE, "idempotencyKey": f"at-once-{n}"}) as response:
            return response.status, await response.read()

    answers = await asyncio.gather(*(one(n) for n in range(300)))
    assert set(answers) == {(200, b'{"message": "Usage recorded successfully"}')}


# Health.


async def test_a_healthy_process_is_alive_and_ready_on_both_ports(ingest: Ingest, session: ClientSession) -> None:
    for base in (ingest.url, await admin_url(ingest)):
        for path, body in [("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})]:
            async with session.get(base + path) as response:
                assert (response.status, await response.json()) == (200, body)


async def admin_url(ingest: Ingest) -> str:
    port = (await ingest.process.logged(r'"port": (\d+), "event": "admin port"'))[1]
    return f"http://127.0.0.1:{port}"


async def test_the_admin_port_takes_no_records(ingest: Ingest, session: ClientSession) -> None:
    async with session.post(await admin_url(ingest) + USAGE_PATH, json=EXAMPLE) as response:
        assert response.status == 404


async def test_without_a_broker_the_process_is_alive_and_not_ready(lonely: Ingest, session: ClientSession) -> None:
    admin = await admin_url(lonely)
    for base in (lonely.url, admin):
        async with session.get(f"{base}/healthz") as response:
            assert response.status == 200
    async with session.get(f"{admin}/readyz") as response:
        assert response.status == 503
    answer = await lonely.send(head(method="GET", path="/readyz"))
    assert "broker" in assert_refused(answer, 503, "UNAVAILABLE", "/readyz")["details"]


async def test_without_a_broker_a_record_is_refused_at_once_and_may_come_again(lonely: Ingest) -> None:
    started = time.monotonic()
    answer = await lonely.send(post(RECORD))
    assert_refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - started < 30  # less than it would wait for a broker's confirm


async def test_without_a_broker_a_wrong_record_is_still_told_what_is_wrong(lonely: Ingest) -> None:
    assert_refused(await lonely.send(post(b"{}")), 400, "VALIDATION_ERROR")


# A well-behaved client sees the same.


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"json": EXAMPLE}, 200),
        ({"json": {}}, 400),
        ({"data": b"x"}, 415),
        ({"json": EXAMPLE, "headers": {"Expect": "100-continue"}}, 200),
        ({"json": {**EXAMPLE, "metric": "x" * LIMIT}}, 413),
    ],
)
async def test_a_client_library_reads_every_answer(
    ingest: Ingest, session: ClientSession, arguments: dict[str, Any], status: int
) -> None:
    async with session.post(ingest.usage_url(), **arguments) as response:
        assert response.status == status
        body = await response.json()
        assert list(body) == (["message"] if status == 200 else KEYS)


def parts_of(body: bytes) -> Sequence[bytes]:
    return [body[start : start + 1000] for start in range(0, len(body), 1000)]


async def test_a_client_library_may_stream_its_body(ingest: Ingest, session: ClientSession) -> None:
    async def stream() -> Any:
        for part in parts_of(RECORD + b" " * 20_000):
            yield part

    headers = {"Content-Type": "application/json"}
    async with session.post(ingest.usage_url(), data=stream(), headers=headers) as response:
        assert response.status == 200
        assert isinstance(response, aiohttp.ClientResponse)
