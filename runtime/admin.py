"""The port for whoever asks whether the process works: as a rule, only this machine sees it."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from runtime.metrics import CONTENT_TYPE, expose
from runtime.supervision import Misconfigured

log = structlog.get_logger(__name__)

Unready = Callable[[], Awaitable[dict[str, str]]]
"""Names each dependency that is down, and says how; empty when the process can work."""


@asynccontextmanager
async def serve_admin(
    host: str, port: int, *, explicit: bool, unready: Unready, registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` and yield the port.

    A port that nobody asked for and that is busy is replaced by a free one; one that was set explicitly is
    Misconfigured, as is a host that is none of this machine's.
    """
    app = web.Application()
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz(unready))
    app.router.add_get("/metrics", _metrics(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        yield await _listen(runner, host, port, explicit=explicit)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, *, explicit: bool) -> int:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or explicit:
            raise Misconfigured(f"the admin port {host}:{port} cannot be used: {exc.strerror}") from exc
        await web.TCPSite(runner, host, 0).start()
    listening = int(runner.addresses[0][1])
    log.info("admin port", port=listening)
    return listening


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _readyz(unready: Unready) -> Handler:
    async def readyz(_: web.Request) -> web.Response:
        down = await unready()
        return web.json_response(
            {"status": "unready", **down} if down else {"status": "ready"}, status=503 if down else 200
        )

    return readyz


def _metrics(registry: CollectorRegistry) -> Handler:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=expose(registry), headers={"Content-Type": CONTENT_TYPE})

    return metrics
