"""From a request to a response; everything that decides is elsewhere."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from aiohttp import web

from ingest.admission import Admission
from ingest.body import BodyLimits, check_head, read_body
from ingest.errors import ANSWERS, Unready, error_response, request_id_of
from ingest.record import Record, Window, parse_project_id

log = structlog.get_logger(__name__)

RECORDED: Final = b'{"message": "Usage recorded successfully"}'
"""Byte for byte what the published SDKs expect."""

_EXPECTED: Final = tuple(ANSWERS)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Publisher(Protocol):
    """What the handlers need of a publisher."""

    @property
    def ready(self) -> bool:
        """Whether `publish` has a chance."""

    async def publish(self, events: list[bytes]) -> None:
        """Return when the events are confirmed; raises BrokerUnavailable, Refused, NotConfirmed."""


@dataclass(slots=True)
class Handlers:
    """The public operations, with what they need."""

    publisher: Publisher
    admission: Admission
    limits: BodyLimits
    window: Window
    draining: bool = False

    async def record_usage(self, request: web.Request) -> web.Response:
        """One record in, its event confirmed by the broker, 200."""
        with self.admission.admit(check_head(request, self.limits)):
            project_id = parse_project_id(request.match_info["projectId"])
            body = await read_body(request, self.limits)
            event = Record.parse(body).accept(project_id, now=datetime.now(UTC), window=self.window)
            await self.publisher.publish([event.to_wire()])
        return web.Response(body=RECORDED, content_type="application/json", headers={"Usage-Id": str(event.id)})

    async def healthz(self, _: web.Request) -> web.Response:
        """This process answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """What this process depends on answers."""
        if down := await self.unready():
            raise Unready(down)
        return web.json_response({"status": "ready"})

    async def unready(self) -> dict[str, str]:
        """Each dependency that is down."""
        return {} if self.publisher.ready else {"broker": "does not confirm what is published"}

    @web.middleware
    async def envelope(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give every answer its request id, and every refusal its JSON body."""
        request_id = request_id_of(request.headers)
        try:
            response = await handler(request)
        except (web.HTTPException, ConnectionError):
            raise  # the first is answered behind us, to the second nobody listens
        except _EXPECTED as exc:
            response = error_response(exc, path=request.raw_path, request_id=request_id)
        except Exception as exc:
            log.exception("bug", request_id=request_id)
            response = error_response(exc, path=request.raw_path, request_id=request_id)
        response.headers["X-Request-Id"] = request_id
        if self.draining:
            response.force_close()
        return response
