"""The application: its routes, its way of listening, its way of stopping."""

import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Final

import structlog
from aiohttp import hdrs, web

from contract import asyncapi
from ingest import idempotency, openapi
from ingest.admission import Admission
from ingest.body import JSON, NDJSON, BodyLimits, check_head
from ingest.docs_page import add_docs
from ingest.documents import serve
from ingest.handlers import Handler, Handlers, HasAccess, Operation, Publisher
from ingest.limits import RateLimit, RateLimits, RatePolicy
from ingest.listener import BACKLOG
from ingest.openapi import BATCH_PATH, USAGE_PATH
from ingest.protocol import JsonSite
from ingest.record import Window
from ingest.response import Success
from ingest.settings import Settings
from ingest.vitals import Vitals
from runtime.supervision import Misconfigured

Recording = Callable[[web.BaseRequest, str], Awaitable[Success]]
"""What records usage, from a request for the project that its path names."""

Lowest = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""What a server calls for each request."""

_USUAL: Final = re.compile(USAGE_PATH.replace("{projectId}", "(?P<project>[A-Za-z0-9_-]{1,64})") + "(?P<batch>/batch)?")

log = structlog.get_logger(__name__)


def create_handlers(settings: Settings, publisher: Publisher, credentials: HasAccess, vitals: Vitals) -> Handlers:
    """Give the handlers their limits."""
    admission = Admission(settings.max_waiting_bytes)
    vitals.waiting_bytes.set_function(lambda: admission.waiting_bytes)
    return Handlers(
        publisher=publisher,
        admission=admission,
        vitals=vitals,
        credentials=credentials,
        rates=RateLimits(
            project=_rate_limit("project", settings.rate_per_project, settings.burst_per_project),
            credential=_rate_limit("credential", settings.rate_per_credential, settings.burst_per_credential),
        ),
        window=Window(
            ahead=timedelta(seconds=settings.timestamp_seconds_ahead), back=timedelta(days=settings.timestamp_days_back)
        ),
        single=Operation(BodyLimits(settings.max_body_bytes, settings.body_timeout), idempotency.LONGEST),
        batch=Operation(
            BodyLimits(settings.batch_body_bytes, settings.body_timeout, (JSON, NDJSON)), idempotency.LONGEST_FOR_BATCH
        ),
        batch_records=settings.batch_records,
    )


def _rate_limit(name: str, rate: float, burst: int) -> RateLimit | None:
    return RateLimit(RatePolicy(name, rate, burst)) if rate else None


def create_app(handlers: Handlers) -> web.Application:
    """Wire the routes."""
    app = web.Application(middlewares=[handlers.envelope])
    app.router.add_post(
        USAGE_PATH, _routed(handlers.record_usage), expect_handler=_expect_of(handlers, handlers.single)
    )
    app.router.add_post(BATCH_PATH, _routed(handlers.record_batch), expect_handler=_expect_of(handlers, handlers.batch))
    app.router.add_get("/healthz", handlers.healthz)
    app.router.add_get("/readyz", handlers.readyz)
    described = openapi.document(
        handlers.single, handlers.batch, handlers.batch_records, handlers.credentials.access.modes
    )
    app.router.add_get("/openapi.json", serve(described))
    app.router.add_get("/asyncapi.json", serve(asyncapi.document()))
    return app


def _routed(record: Recording) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await record(request, request.match_info["projectId"])

    return handler


def _shortcut(handlers: Handlers, routed: Lowest) -> Lowest:
    """Lead a request to record past the router and its middlewares, which cost as much as all that we do ourselves.

    What is not exactly one, as every client sends it, takes the long way, with the same outcome.
    """

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            usual = _usual(request.raw_path)
        except _Unusual:
            usual = None
        if usual is None or request.method != hdrs.METH_POST or hdrs.EXPECT in request.headers:
            return await routed(request)
        project, is_batch = usual
        record = handlers.record_batch if is_batch else handlers.record_usage
        return await handlers.answer(request, record(request, project))

    return handler


class _Unusual(Exception):
    """A path that names no project to record for, or not as every client spells it."""


# Most requests are for few projects. What is raised is not kept.
@lru_cache(maxsize=1024)
def _usual(path: str) -> tuple[str, bool]:
    """Return the project that a path names, and whether it is for batches; raises _Unusual."""
    parts = _USUAL.fullmatch(path)
    if parts is None:
        raise _Unusual
    return parts["project"], parts["batch"] is not None


def _expect_of(handlers: Handlers, operation: Operation) -> Callable[[web.Request], Awaitable[None]]:
    async def expect(request: web.Request) -> None:
        """Invite the body only when the headers promise one that is wanted, from somebody who may send it."""
        if request.headers.get("Expect", "").lower() != "100-continue":
            raise web.HTTPExpectationFailed
        check_head(request, operation.limits)
        handlers.identify(request, request.match_info["projectId"])
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0

    return expect


@asynccontextmanager
async def listening(
    settings: Settings, handlers: Handlers, around: Callable[[Lowest], Lowest] | None = None
) -> AsyncIterator[int]:
    """Serve the public port, which is yielded; on leaving, finish what was accepted.

    `around` is put around whatever answers a request. Raises Misconfigured when the port cannot be used.
    """
    sock = _bind(settings)
    app = create_app(handlers)
    if settings.docs:
        add_docs(app.router)
    runner = web.AppRunner(app, shutdown_timeout=settings.deadline)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - setup makes it
    answering = _shortcut(handlers, runner.server.request_handler)
    runner.server.request_handler = around(answering) if around else answering
    site = JsonSite(
        runner,
        sock,
        access_log=None,
        auto_decompress=False,  # aiohttp answers 500 to a broken gzip body
        head_seconds=settings.head_timeout,
        keepalive_timeout=settings.keepalive_timeout,
    )
    try:
        await site.start()
        log.info("listening", address=site.name)
        yield sock.getsockname()[1]
    finally:
        # Nobody new first; then everybody already here, each connection closed behind its answer; the rest is idle.
        handlers.draining = True
        await site.stop()
        await handlers.admission.idle()
        await runner.cleanup()


def _bind(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=BACKLOG, reuse_port=settings.reuse_port
        )
    except OSError as exc:
        raise Misconfigured(
            f"INGEST_HOST {settings.host} with INGEST_PORT {settings.port} cannot be used: {exc.strerror}"
        ) from exc
