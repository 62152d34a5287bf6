"""A span for each request and each message; only loaded by a process that traces."""

import re
from typing import Final

from aiohttp import web
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, Tracer

from contract.traceparent import TRACEPARENT
from contract.tracing import TracedGroup, as_parent, span_context
from ingest.app import Lowest
from ingest.errors import REQUEST_ID
from ingest.openapi import BATCH_PATH, USAGE_PATH

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
_ROUTE: Final = re.compile(USAGE_PATH.replace("{projectId}", "[^/]+") + "(?P<batch>/batch)?")
_SERVER_ERROR: Final = 500


class Spans:
    """The spans of an ingest process."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def new_group(self) -> TracedGroup:
        """Make a group whose message has a span."""
        return TracedGroup(self._tracer)

    def around(self, answering: Lowest) -> Lowest:
        """Return the same with a span for each request, but for what only asks whether we live.

        It goes on with the trace of the request's `traceparent`, if that is one.
        """

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            path = request.raw_path.partition("?")[0]
            if path in _PROBES:
                return await answering(request)
            method = request.method if request.method in _METHODS else "_OTHER"
            attributes = {"http.request.method": method}
            if (route := _route(path)) is not None:
                attributes["http.route"] = route
            with self._tracer.start_as_current_span(
                f"{method} {route}" if route else method,
                as_parent(_caller(request)),
                SpanKind.SERVER,
                attributes,
                record_exception=False,  # it may quote what was sent
                set_status_on_exception=False,
            ) as span:
                try:
                    response = await answering(request)
                except web.HTTPException as exc:  # it is answered behind us
                    _note(span, request, exc.status)
                    raise
                _note(span, request, response.status)
                return response

        return handler


def _caller(request: web.BaseRequest) -> SpanContext | None:
    given = request.headers.getall(TRACEPARENT, ())
    return span_context(given[0]) if len(given) == 1 else None


def _route(path: str) -> str | None:
    """The path as it is documented; what else a client asks for is its secret."""
    found = _ROUTE.fullmatch(path)
    if found is None:
        return None
    return BATCH_PATH if found["batch"] else USAGE_PATH


def _note(span: Span, request: web.BaseRequest, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if (request_id := request.get(REQUEST_ID)) is not None:
        span.set_attribute("usage.request_id", request_id)
    if status >= _SERVER_ERROR:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
