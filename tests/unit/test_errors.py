import json
import re
from typing import Any

import pytest
from aiohttp import web

from contract.connection import BrokerUnavailable
from contract.event import NotJson
from contract.publisher import NotConfirmed, Refused, Unroutable
from ingest.admission import BESIDE_BODY, Admission, Overloaded
from ingest.body import BadEncoding, BodyTimeout, BodyTooLarge, UnsupportedMediaType
from ingest.errors import ANSWERS, HeadTimeout, MalformedRequest, Unready, answer_to, error_response
from ingest.record import InvalidRecord

CODES = {
    400: {"INVALID_JSON", "VALIDATION_ERROR"},
    401: {"UNAUTHORIZED"},
    403: {"FORBIDDEN"},
    404: {"NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    408: {"REQUEST_TIMEOUT"},
    413: {"PAYLOAD_TOO_LARGE"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    417: {"VALIDATION_ERROR"},
    429: {"RATE_LIMITED"},
    500: {"INTERNAL_ERROR"},
    503: {"UNAVAILABLE"},
}
"""The codes of the HTTP contract, by their status."""

CREDENTIAL = "amqp://user:hunter2@broker/"


def body_of(exc: BaseException, path: str = "/p", request_id: str = "r") -> dict[str, Any]:
    response = error_response(exc, path=path, request_id=request_id)
    assert isinstance(response.body, bytes)
    body = json.loads(response.body)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    ("exc", "status", "code"),
    [
        (NotJson("x"), 400, "INVALID_JSON"),
        (BadEncoding("x"), 400, "INVALID_JSON"),
        (InvalidRecord({"email": "x"}), 400, "VALIDATION_ERROR"),
        (MalformedRequest("x"), 400, "VALIDATION_ERROR"),
        (web.HTTPNotFound(), 404, "NOT_FOUND"),
        (web.HTTPMethodNotAllowed("GET", ["POST"]), 405, "METHOD_NOT_ALLOWED"),
        (BodyTimeout("x"), 408, "REQUEST_TIMEOUT"),
        (HeadTimeout("x"), 408, "REQUEST_TIMEOUT"),
        (BodyTooLarge("x"), 413, "PAYLOAD_TOO_LARGE"),
        (UnsupportedMediaType("x"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (Overloaded("x"), 503, "UNAVAILABLE"),
        (BrokerUnavailable("x"), 503, "UNAVAILABLE"),
        (NotConfirmed("x"), 503, "UNAVAILABLE"),
        (Refused("x"), 503, "UNAVAILABLE"),
        (Unroutable("x"), 503, "UNAVAILABLE"),
        (Unready({"broker": "down"}), 503, "UNAVAILABLE"),
        (ZeroDivisionError(CREDENTIAL), 500, "INTERNAL_ERROR"),
        (KeyError("x"), 500, "INTERNAL_ERROR"),
    ],
)
def test_every_exception_has_its_status_and_code(exc: Exception, status: int, code: str) -> None:
    response = error_response(exc, path="/p", request_id="r")
    assert (response.status, body_of(exc)["code"]) == (status, code)


def test_every_answer_of_the_table_is_in_the_contract() -> None:
    for answer in ANSWERS.values():
        assert answer.code in CODES[answer.status]


def test_the_body_has_exactly_the_six_keys_that_the_sdks_know() -> None:
    for exc in (NotJson("not JSON"), InvalidRecord({"email": "is wrong"}), web.HTTPNotFound(), ZeroDivisionError()):
        body = body_of(exc, path="/some/path", request_id="request-1")
        assert list(body) == ["error", "code", "details", "timestamp", "path", "requestId"]
        assert isinstance(body["error"], str)
        assert body["error"]
        assert isinstance(body["details"], dict)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
        assert (body["path"], body["requestId"]) == ("/some/path", "request-1")


def test_the_response_is_json_with_the_request_id_in_its_header() -> None:
    response = error_response(NotJson("x"), path="/p", request_id="request-1")
    assert response.content_type == "application/json"
    assert response.headers["X-Request-Id"] == "request-1"


def test_the_details_of_a_record_are_a_sentence_for_each_field() -> None:
    assert body_of(InvalidRecord({"email": "is wrong", "metric": "is, too"}))["details"] == {
        "email": "is wrong",
        "metric": "is, too",
    }


def test_the_details_of_readiness_name_what_is_down() -> None:
    assert body_of(Unready({"broker": "is down"}))["details"] == {"broker": "is down"}


def test_every_503_says_when_to_try_again_and_nothing_else_does() -> None:
    for kind, answer in ANSWERS.items():
        assert answer.retry == (answer.status == 503), kind
    assert int(error_response(Overloaded("x"), path="/", request_id="r").headers["Retry-After"]) >= 1
    assert "Retry-After" not in error_response(NotJson("x"), path="/", request_id="r").headers


@pytest.mark.parametrize(
    "exc",
    [
        BadEncoding("x"),
        MalformedRequest("x"),
        BodyTimeout("x"),
        HeadTimeout("x"),
        BodyTooLarge("x"),
        UnsupportedMediaType("x"),
        Overloaded("x"),
        ZeroDivisionError(),
    ],
)
def test_a_connection_whose_body_may_be_left_unread_is_closed(exc: Exception) -> None:
    assert error_response(exc, path="/", request_id="r").keep_alive is False


@pytest.mark.parametrize("exc", [NotJson("x"), InvalidRecord({}), BrokerUnavailable("x"), web.HTTPNotFound()])
def test_a_connection_whose_body_was_read_goes_on(exc: Exception) -> None:
    assert error_response(exc, path="/", request_id="r").keep_alive is not False


def test_a_405_says_which_methods_are_allowed() -> None:
    exc = web.HTTPMethodNotAllowed("DELETE", ["POST", "GET"])
    assert error_response(exc, path="/", request_id="r").headers["Allow"] == "GET, POST"


def test_a_bug_is_answered_without_its_text() -> None:
    assert CREDENTIAL not in json.dumps(body_of(ZeroDivisionError(CREDENTIAL)))
    assert body_of(ZeroDivisionError(CREDENTIAL))["error"] == "Internal Server Error"


@pytest.mark.parametrize("path", ["/a\udcffb", "/ä", '/"quoted"\\', "/\x00\x1f", "/" + "x" * 8000])
def test_any_path_that_a_socket_can_bring_makes_valid_json(path: str) -> None:
    assert body_of(NotJson("x"), path=path)["path"].isascii()


def test_an_exception_that_inherits_is_answered_like_its_parent() -> None:
    class StillNotJson(NotJson):
        pass

    assert answer_to(StillNotJson("x")) == ANSWERS[NotJson]


def test_admission_counts_bytes_and_sheds_what_is_too_much() -> None:
    # given a limit with a request of 60 bytes under way
    admission = Admission(100 + 2 * BESIDE_BODY)
    with admission.admit(60):
        # then 41 more are too many, 40 are not
        with pytest.raises(Overloaded), admission.admit(41):
            pass
        with admission.admit(40):
            assert admission.waiting_bytes == 100 + 2 * BESIDE_BODY
    # and everything is given back
    assert admission.waiting_bytes == 0


def test_admission_gives_back_what_a_body_turns_out_not_to_need() -> None:
    # given a request that might inflate to 100 bytes, the limit
    admission = Admission(100 + BESIDE_BODY)
    with admission.admit(100) as admitted:
        # when it is known to have 30, and that again
        for _ in range(2):
            admitted.shrink(30)
            # then it holds those, and what every request does
            assert admission.waiting_bytes == 30 + BESIDE_BODY
        # and one that is larger than it was said to be holds no more than was admitted
        admitted.shrink(1000)
        assert admission.waiting_bytes == 30 + BESIDE_BODY
    assert admission.waiting_bytes == 0


async def test_admission_is_idle_when_the_last_request_is_done_however_it_ended() -> None:
    admission = Admission(100 + 2 * BESIDE_BODY)
    await admission.idle()
    with pytest.raises(NotJson), admission.admit(60), admission.admit(10):
        raise NotJson
    await admission.idle()
    assert admission.waiting_bytes == 0
