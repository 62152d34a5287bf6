"""A usage event: its identity, its bytes on the queue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NotRequired, Self
from uuid import UUID

import jiter
import msgspec
import uuid_utils
from msgspec import structs
from pydantic import ValidationError

from contract.explanation import explain
from contract.fields import (
    EventId,
    Fields,
    ProjectId,
    PropertyValue,
    Timestamp,
    fold_object_id,
    format_timestamp,
    strict_validator,
)
from contract.origin import UNKNOWN, Origin

EVENT_NAMESPACE: Final = UUID("81fa8e1e-4880-5883-afd0-8b7e9655a9b0")
"""UUID v5 of the URL namespace for `urn:usage-ingest:event`."""

_NAMESPACE: Final = uuid_utils.UUID(EVENT_NAMESPACE.hex)


class EventFields(Fields):
    """What one event is on the queue: the sender's fields, whom they are for, and what ingest adds."""

    projectId: ProjectId
    id: NotRequired[EventId]
    receivedAt: NotRequired[Timestamp]


_validate: Final = strict_validator(EventFields)


class Reason(StrEnum):
    """Why a message, or one event of it, lies among the dead letters."""

    UNDECODABLE = "UNDECODABLE"
    INVALID = "INVALID"
    MISSING_ID = "MISSING_ID"
    ID_MISMATCH = "ID_MISMATCH"
    CONFLICT = "CONFLICT"
    REFUSED = "REFUSED"
    BAD_PROPERTIES = "BAD_PROPERTIES"
    DELIVERY_LIMIT = "DELIVERY_LIMIT"
    UNROUTED = "UNROUTED"


BROKERS_REASONS: Final = frozenset({Reason.DELIVERY_LIMIT, Reason.UNROUTED})
"""Those of whole messages that the broker dead-letters, in its own words: workers give the others."""


class Source(StrEnum):
    """The way an event came in."""

    HTTP = "http"
    QUEUE = "queue"


class NotJson(ValueError):
    """The bytes are not one JSON value in UTF-8."""


class Unacceptable(ValueError):
    """An event that cannot be stored, with its reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class UsageEvent(msgspec.Struct, frozen=True, gc=False):
    """A record that was accepted: it has an id, for ever.

    `timestamp` is None when the sender gave none; the usage then counts at `received_at`.

    Events are made by the thousand: a struct is made ten times faster than a dataclass, and this one holds nothing that
    could refer back to it, so the garbage collector need not look at it.
    """

    id: UUID
    project_id: str
    email: str
    metric: str
    quantity: Decimal
    received_at: datetime
    source: Source
    timestamp: datetime | None = None
    idempotency_key: str | None = None
    properties: Mapping[str, PropertyValue] | None = None

    @property
    def content(self) -> tuple[object, ...]:
        """What two events with one id must have in common to be the same event.

        Not the time of receipt, the source, or the key, which is in the id. Numbers compare by value, and `True` is
        not 1.
        """
        properties = self.properties or {}
        return (
            self.project_id,
            self.email,
            self.metric,
            self.quantity,
            self.timestamp,
            frozenset((name, isinstance(value, bool), value) for name, value in properties.items()),
        )

    def repeats(self, first: Self) -> bool:
        """Whether `first`, which has the same id, is this very event, sent before.

        A timestamp that happens to be the time of receipt cannot be told from none afterwards, so against that one
        event it counts as either.
        """
        if first.timestamp is None and self.timestamp == first.received_at:
            return structs.replace(self, timestamp=None).content == first.content
        if self.timestamp is None and first.timestamp == self.received_at:
            return self.content == structs.replace(first, timestamp=None).content
        return self.content == first.content

    @property
    def used_at(self) -> datetime:
        """The time at which the usage counts."""
        return self.timestamp or self.received_at

    @classmethod
    def from_wire(cls, item: object, *, source: Source, now: datetime) -> Self:
        """Read one event as it stands on the queue; `now` is its time of receipt when it names none.

        Raises Unacceptable with INVALID, MISSING_ID or ID_MISMATCH.
        """
        try:
            fields = _validate(item)
        except ValidationError as exc:
            raise Unacceptable(
                Reason.INVALID, "; ".join(f"{k} {v}" for k, v in explain(exc, EventFields).items())
            ) from exc
        project_id, key = fields["projectId"], fields.get("idempotencyKey")
        received_at = fields.get("receivedAt", now)
        timestamp = fields.get("timestamp")
        return cls(
            id=_identity(project_id, key, fields.get("id")),
            project_id=project_id,
            email=fields["email"],
            metric=fields["metric"],
            quantity=fields["quantity"],
            received_at=received_at,
            source=source,
            timestamp=None if timestamp == received_at else timestamp,
            idempotency_key=key,
            properties=fields.get("properties"),
        )

    def to_wire(self) -> bytes:
        """One JSON object in the queue's format; the quantity is a string, so that no reader rounds it."""
        item: dict[str, Any] = {
            "id": self.id,
            "projectId": self.project_id,
            "email": self.email,
            "metric": self.metric,
            "quantity": format(self.quantity, "f"),
            "receivedAt": format_timestamp(self.received_at),
        }
        if self.idempotency_key is not None:
            item["idempotencyKey"] = self.idempotency_key
        if self.timestamp is not None:
            item["timestamp"] = format_timestamp(self.timestamp)
        if self.properties is not None:
            item["properties"] = self.properties
        return encode_json(item)


def event_id(project_id: str, key: str) -> UUID:
    """The identity of the event that `key` names within a project; any producer can compute it."""
    return UUID(int=_number_of(project_id, key))


def _number_of(project_id: str, key: str) -> int:
    # Not by the standard library's uuid5, which takes ten times as long.
    return uuid_utils.uuid5(_NAMESPACE, f"{fold_object_id(project_id)}:{key}").int


def _identity(project_id: str, key: str | None, given: UUID | None) -> UUID:
    if key is None:
        if given is None:
            raise Unacceptable(Reason.MISSING_ID, "an event on the queue needs an id or an idempotencyKey")
        return given
    number = _number_of(project_id, key)
    if given is None:
        return UUID(int=number)
    if given.int != number:
        raise Unacceptable(
            Reason.ID_MISMATCH, f"id must be {UUID(int=number)}, which projectId and idempotencyKey make"
        )
    return given


@dataclass(frozen=True, slots=True)
class Rejected:
    """What was in a message and cannot be stored: the bytes to keep, why, and a sentence that says what is wrong."""

    body: bytes
    source: Source
    reason: Reason
    detail: str
    origin: Origin = UNKNOWN


class Decoded(msgspec.Struct, frozen=True):
    """What a message held."""

    events: list[UsageEvent]
    rejected: list[Rejected]


def decode(body: bytes, *, source: Source, now: datetime) -> Decoded:
    """Read a message body: one event object, or an array of them.

    Never raises: what cannot be used is in `rejected`, with the bytes to keep.
    """
    try:
        content = parse_json(body)
    except NotJson as exc:
        return Decoded([], [Rejected(body, source, Reason.UNDECODABLE, str(exc))])
    items = content if isinstance(content, list) else [content]
    decoded = Decoded([], [])
    for item in items:
        try:
            decoded.events.append(UsageEvent.from_wire(item, source=source, now=now))
        except Unacceptable as exc:
            kept = body if len(items) == 1 else encode_json(item)
            decoded.rejected.append(Rejected(kept, source, exc.reason, exc.detail))
    return decoded


def parse_json(body: bytes) -> Any:
    """Parse one JSON value, numbers exactly: int or Decimal, never float.

    Raises NotJson also for a duplicate key, a byte order mark, a lone surrogate, NaN, and nesting beyond 200 levels.
    """
    try:
        return jiter.from_json(body, float_mode="decimal", allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as exc:
        # How the parser reports an exponent beyond what Decimal can hold.
        out_of_range = "InvalidOperation" in str(exc)
        raise NotJson("a number is out of range" if out_of_range else str(exc)) from exc


encode_json: Final[Callable[[object], bytes]] = msgspec.json.Encoder(decimal_format="number").encode
"""Encode plain values as JSON, a Decimal as a number with all its digits."""
