"""What each refusal looks like to a client: one table, one body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import istr
from uuid_utils import uuid7

from contract.connection import BrokerUnavailable
from contract.event import NotJson, encode_json
from contract.fields import format_timestamp
from contract.publisher import NotConfirmed, Refused
from ingest.admission import Overloaded
from ingest.auth import Forbidden
from ingest.batch import BatchTooLarge
from ingest.body import BadEncoding, BodyTimeout, BodyTooLarge, UnsupportedMediaType
from ingest.limits import RateLimited
from ingest.record import InvalidRecord
from ingest.unauthorized import Unauthorized


class Unready(Exception):
    """This process cannot take records now; `details` names each dependency that is down."""

    def __init__(self, details: Mapping[str, str]) -> None:
        super().__init__("not ready")
        self.details = dict(details)


class MalformedRequest(Exception):
    """The bytes on the connection are not an HTTP request."""


class HeadTimeout(Exception):
    """The request line and headers did not arrive in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with its code in the body; whether to try again, and whether this connection can go on."""

    status: int
    code: str
    retry: bool = False
    close: bool = False


RETRY_AFTER: Final = "1"
"""Seconds; most outages that a client sees are a reconnect."""

_UNAVAILABLE: Final = Answer(503, "UNAVAILABLE", retry=True)

ANSWERS: Final[Mapping[type[Exception], Answer]] = {
    NotJson: Answer(400, "INVALID_JSON"),
    InvalidRecord: Answer(400, "VALIDATION_ERROR"),
    BadEncoding: Answer(400, "INVALID_JSON", close=True),
    MalformedRequest: Answer(400, "VALIDATION_ERROR", close=True),
    Unauthorized: Answer(401, "UNAUTHORIZED", close=True),
    Forbidden: Answer(403, "FORBIDDEN", close=True),
    web.HTTPNotFound: Answer(404, "NOT_FOUND"),
    web.HTTPMethodNotAllowed: Answer(405, "METHOD_NOT_ALLOWED"),
    web.HTTPExpectationFailed: Answer(417, "VALIDATION_ERROR", close=True),
    BodyTimeout: Answer(408, "REQUEST_TIMEOUT", close=True),
    HeadTimeout: Answer(408, "REQUEST_TIMEOUT", close=True),
    BodyTooLarge: Answer(413, "PAYLOAD_TOO_LARGE", close=True),
    BatchTooLarge: Answer(413, "PAYLOAD_TOO_LARGE"),
    UnsupportedMediaType: Answer(415, "UNSUPPORTED_MEDIA_TYPE", close=True),
    RateLimited: Answer(429, "RATE_LIMITED"),
    Overloaded: Answer(503, "UNAVAILABLE", retry=True, close=True),
    BrokerUnavailable: _UNAVAILABLE,
    NotConfirmed: _UNAVAILABLE,
    Refused: _UNAVAILABLE,
    Unready: _UNAVAILABLE,
}
"""Every exception that a client is told of. Where the body is left unread, the connection cannot be used again."""

_BUG: Final = Answer(500, "INTERNAL_ERROR", close=True)

CODES: Final = tuple(dict.fromkeys(answer.code for answer in (*ANSWERS.values(), _BUG)))
"""Every code that a client may be answered with."""


REQUEST_ID_RULE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Where a request keeps its id, once it has one."""

_REQUEST_ID_HEADER: Final = istr("X-Request-Id")


def request_id_of(headers: Mapping[str, str]) -> str:
    """Take the request's id from its headers, or make one."""
    given = headers.get(_REQUEST_ID_HEADER)
    return given if given is not None and REQUEST_ID_RULE.fullmatch(given) else str(uuid7())


def answer_to(exc: BaseException) -> Answer:
    """Look up what to answer; anything not in the table is a bug of ours."""
    for kind in type(exc).__mro__:
        if kind in ANSWERS:
            return ANSWERS[kind]
    return _BUG


def error_response(exc: BaseException, *, path: str, request_id: str) -> web.Response:
    """Build the response that `exc` stands for, with the six keys that the SDKs know."""
    answer = answer_to(exc)
    response = web.Response(
        status=answer.status,
        body=error_body(exc, path=path, request_id=request_id),
        content_type="application/json",
        headers={"X-Request-Id": request_id},
    )
    if answer.retry:
        response.headers["Retry-After"] = RETRY_AFTER
    if answer.close:
        response.force_close()
    if isinstance(exc, Unauthorized | RateLimited):
        response.headers.update(exc.headers)
    if isinstance(exc, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
    return response


def error_body(exc: BaseException, *, path: str, request_id: str) -> bytes:
    """The JSON body; `path` is as it came, so what is not ASCII in it is escaped."""
    answer = answer_to(exc)
    return encode_json(
        {
            "error": _sentence(exc, answer),
            "code": answer.code,
            "details": getattr(exc, "details", {}),
            "timestamp": format_timestamp(datetime.now(UTC)),
            "path": path.encode("ascii", "backslashreplace").decode("ascii"),
            "requestId": request_id,
        }
    )


def _sentence(exc: BaseException, answer: Answer) -> str:
    if answer is _BUG or isinstance(exc, web.HTTPException):
        return HTTPStatus(answer.status).phrase
    return str(exc)
