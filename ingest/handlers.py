"""From a request to a response; everything that decides is elsewhere."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog
from aiohttp import web

from contract.event import encode_json
from contract.fields import current_time
from ingest import idempotency
from ingest.admission import Admission, Overloaded
from ingest.auth import Access, Caller, Claim
from ingest.batch import judge, parse_atomic, parse_batch
from ingest.body import JSON, NDJSON, BodyLimits, UnsupportedMediaType, check_head, decode_body, read_body
from ingest.errors import ANSWERS, REQUEST_ID, Unready, answer_to, error_response, request_id_of
from ingest.limits import RateLimits
from ingest.record import Receipt, Record, Window, parse_project_id
from ingest.response import Success
from ingest.vitals import Vitals

log = structlog.get_logger(__name__)

RECORDED: Final = b'{"message": "Usage recorded successfully"}'
"""Byte for byte what the published SDKs expect."""

_EXPECTED: Final = tuple(ANSWERS)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HasAccess(Protocol):
    """Where the access in force is found; it is replaced when credentials change, so it is asked each time."""

    access: Access


class Publisher(Protocol):
    """What the handlers need of a publisher."""

    @property
    def ready(self) -> bool:
        """Whether `publish` has a chance."""

    async def publish(self, events: list[bytes], request: str) -> None:
        """Return when the events are confirmed; raises BrokerUnavailable, Refused, NotConfirmed."""


class Received(msgspec.Struct, frozen=True):
    """A request that was read, from a caller who may record for its project."""

    receipt: Receipt
    caller: Caller
    body: bytes
    key: str | None
    """The idempotency key for a record that has none of its own."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the two ways to record differ in."""

    limits: BodyLimits
    longest_key: int


@dataclass(slots=True)
class Handlers:
    """The public operations, with what they need."""

    publisher: Publisher
    admission: Admission
    vitals: Vitals
    credentials: HasAccess
    rates: RateLimits
    window: Window
    single: Operation
    batch: Operation
    batch_records: int
    draining: bool = False

    async def record_usage(self, request: web.BaseRequest, project: str) -> Success:
        """One record in, its event confirmed by the broker, 200."""
        with self.admission.admit(check_head(request, self.single.limits)) as admitted:
            received = await self._receive(request, project, self.single)
            admitted.shrink(len(received.body))
            record = Record.parse(received.body)
            # A signed body's key is as good as the signed webhook-id; an unsigned header must not contradict it.
            is_signed = received.caller.default_key is not None
            key = (record.key or received.key) if is_signed else idempotency.agree(record.key, received.key)
            event = record.accept(received.receipt, key=key)
            self._count(received, 1)
            await self.publisher.publish([event.to_wire()], request[REQUEST_ID])
        self.vitals.accepted.count += 1
        # The id not by str(), which takes four times as long.
        return Success(RECORDED, f"Usage-Id: {msgspec.to_builtins(event.id)}\r\n")

    async def record_batch(self, request: web.BaseRequest, project: str) -> Success:
        """Many records in, the events of the good ones confirmed together, 200 with what is wrong with the others."""
        with self.admission.admit(check_head(request, self.batch.limits)) as admitted:
            atomic = parse_atomic(request.query)
            received = await self._receive(request, project, self.batch)
            admitted.shrink(len(received.body))
            events, errors = self._judge(request, received, atomic=atomic)
            del received  # while the events wait, nothing else is held: a record is larger than its event in bytes
            await self.publisher.publish(events, request[REQUEST_ID])
        self.vitals.accepted.count += len(events)
        for error in errors.values():
            self.vitals.rejected.labels(answer_to(error).code).inc()
        return Success(encode_json(_report(len(events), errors)))

    def _judge(
        self, request: web.BaseRequest, received: Received, *, atomic: bool
    ) -> tuple[list[bytes], Mapping[int, Exception]]:
        """Return the events to publish, and by index what is wrong with the other records."""
        ndjson = request.content_type == NDJSON
        if ndjson and received.caller.default_key is not None:
            # The type is not signed: a signed single record, replayed here as one line, would count again.
            raise UnsupportedMediaType(f"a signed batch must be {JSON}")
        entries = parse_batch(received.body, ndjson=ndjson, most=self.batch_records)
        judged = judge(entries, received.receipt, key=received.key)
        if judged.errors and (atomic or not judged.events):
            raise judged.as_refusal()
        self._count(received, len(judged.events))
        return [event.to_wire() for event in judged.events], judged.errors

    def identify(self, request: web.BaseRequest, project: str) -> tuple[str, Claim]:
        """Decide by the head alone: for which project, named in the path, and who claims to send it.

        Raises InvalidRecord, Unauthorized, Forbidden.
        """
        project_id = parse_project_id(project)
        return project_id, self.credentials.access.check_headers(request.headers, project_id, current_time())

    async def _receive(self, request: web.BaseRequest, project: str, operation: Operation) -> Received:
        project_id, claim = self.identify(request, project)
        header = idempotency.parse_header(request.headers.getall(idempotency.HEADER, ()), longest=operation.longest_key)
        body = await read_body(request, operation.limits)
        caller = claim.prove(body)  # as it was sent: nothing unproved is inflated
        receipt = Receipt(project_id, current_time(), self.window, authenticated=caller.authenticated)
        key = caller.key_beside(header, longest=operation.longest_key)
        return Received(receipt, caller, decode_body(request, body, operation.limits), key)

    def _count(self, received: Received, records: int) -> None:
        self.rates.take(received.receipt.project_id, received.caller.credential, records)

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
        """Do as `answer` does with what the router has found."""
        return await self.answer(request, handler(request))

    async def answer(self, request: web.BaseRequest, answering: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Give every answer its request id, and every refusal its JSON body."""
        request_id = request[REQUEST_ID] = request_id_of(request.headers)
        try:
            response = await answering
        except ConnectionError:
            raise  # nobody listens
        except web.HTTPException as exc:
            self._note_refusal(exc, request_id)
            raise  # it is answered behind us
        except _EXPECTED as exc:
            self._note_refusal(exc, request_id)
            response = error_response(exc, path=request.raw_path, request_id=request_id)
        except Exception as exc:
            log.exception("bug", request_id=request_id)
            self._note_refusal(exc, request_id)
            response = error_response(exc, path=request.raw_path, request_id=request_id)
        if isinstance(response, Success):
            response.add("X-Request-Id", request_id)
        else:
            response.headers["X-Request-Id"] = request_id
        if self.draining:
            response.force_close()
        return response

    def _note_refusal(self, exc: Exception, request_id: str) -> None:
        answer = answer_to(exc)
        log.debug("request refused", request_id=request_id, status=answer.status, code=answer.code)
        self.vitals.refused.labels(answer.code).inc()
        if isinstance(exc, Overloaded):
            self.vitals.shed.inc()


def _report(accepted: int, rejected: Mapping[int, Exception]) -> dict[str, object]:
    """What became of a batch, as its sender is told."""
    errors = [
        {"index": index, "code": answer_to(error).code, "details": getattr(error, "details", str(error))}
        for index, error in rejected.items()
    ]
    return {"accepted": accepted, "rejected": len(errors), "errors": errors}
