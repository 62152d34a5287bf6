"""An event as it stands in MongoDB."""

import struct
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, Final

import bson
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions

from contract.event import Source, UsageEvent
from contract.fields import PropertyValue, is_object_id

_EXPONENT_BIAS: Final = 6176
_DECIMAL128: Final = Context(prec=34)
"""The default context would round to 28 digits."""
_TWO_WORDS: Final = struct.Struct("<QQ")
_WORD: Final = 2**64 - 1


CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    uuid_representation=bson.binary.UuidRepresentation.STANDARD, tz_aware=True
)

Document = Mapping[str, Any]


class DocumentRefused(Exception):
    """The server, or the encoder, will never take the document at `index` of an insert."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def to_document(event: UsageEvent) -> dict[str, Any]:
    """Return the document of collection `events`; the wire's names are the database's names.

    It is stored as `encoding.encode` spells it.
    """
    document: dict[str, Any] = {
        "_id": event.id,
        "projectId": to_project_id(event.project_id),
        "email": event.email,
        "metric": event.metric,
        "quantity": to_decimal128(event.quantity),
        "timestamp": event.used_at,
        "receivedAt": event.received_at,
        "source": event.source.value,
    }
    if event.idempotency_key is not None:
        document["idempotencyKey"] = event.idempotency_key
    if event.properties is not None:
        document["properties"] = properties_of(event)
    return document


def properties_of(event: UsageEvent) -> dict[str, str | bool | Int64 | Decimal128]:
    """Return an event's properties as BSON holds them."""
    return {name: _to_bson(value) for name, value in (event.properties or {}).items()}


def to_project_id(project_id: str) -> ObjectId | str:
    """Return a project id as it is stored: 24 hexadecimal digits are an ObjectId."""
    return ObjectId(project_id) if is_object_id(project_id) else project_id


def from_document(document: Mapping[str, Any]) -> UsageEvent:
    """Read an event back, to compare it with another of the same id."""
    properties = document.get("properties")
    timestamp, received_at = document["timestamp"], document["receivedAt"]
    return UsageEvent(
        id=document["_id"],
        project_id=str(document["projectId"]),
        email=document["email"],
        metric=document["metric"],
        quantity=document["quantity"].to_decimal(),
        received_at=received_at,
        source=Source(document["source"]),
        timestamp=None if timestamp == received_at else timestamp,
        idempotency_key=document.get("idempotencyKey"),
        properties=None if properties is None else {name: _from_bson(value) for name, value in properties.items()},
    )


def to_decimal128(value: Decimal) -> Decimal128:
    """Convert a finite Decimal of at most 34 digits, faster than the driver's own constructor."""
    return Decimal128.from_bid(_TWO_WORDS.pack(*decimal_words(value)))


def decimal_words(value: Decimal) -> tuple[int, int]:
    """Return a finite Decimal of at most 34 digits as the 64 low and the 64 high bits of a Decimal128.

    The layout is IEEE 754-2008's binary integer decimal: sign, biased exponent, coefficient.
    """
    sign, _, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - a quantity is finite
    coefficient = abs(int(value.scaleb(-exponent, _DECIMAL128)))
    return coefficient & _WORD, (sign << 63) | ((exponent + _EXPONENT_BIAS) << 49) | (coefficient >> 64)


def _to_bson(value: PropertyValue) -> str | bool | Int64 | Decimal128:
    if isinstance(value, Decimal):
        return to_decimal128(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Int64(value)
    return value


def _from_bson(value: Any) -> PropertyValue:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    return int(value) if isinstance(value, Int64) else value
