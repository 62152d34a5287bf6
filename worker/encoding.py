"""Events as the bytes that MongoDB stores: what the driver makes of `to_document`, in a third of the time."""

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import bson
from bson.raw_bson import RawBSONDocument

from contract.event import Source, UsageEvent
from contract.fields import is_object_id
from worker.documents import CODEC, DocumentRefused, decimal_words, properties_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# The format is bsonspec.org's: an element is a byte for its type, its name with a zero, and its value.
_LENGTH: Final = struct.Struct("<i")
_ID: Final = b"\x05_id\x00\x10\x00\x00\x00\x04"
"""A binary of 16 bytes that is a UUID."""
_QUANTITY: Final = b"\x13quantity\x00"
_TIMESTAMP: Final = b"\x09timestamp\x00"
_RECEIVED_AT: Final = b"\x09receivedAt\x00"
_MEASURED: Final = struct.Struct(f"<{len(_QUANTITY)}sQQ{len(_TIMESTAMP)}sq{len(_RECEIVED_AT)}sq")


class Unencodable(ValueError):
    """BSON cannot hold the event."""


def encode(event: UsageEvent) -> RawBSONDocument:
    """Return the document of an event. Raises Unencodable."""
    low, high = decimal_words(event.quantity)
    received_at = _milliseconds(event.received_at)
    timestamp = received_at if event.timestamp is None else _milliseconds(event.timestamp)
    try:
        elements = b"".join(
            (
                _ID,
                event.id.bytes,
                _whose(event.project_id, event.email, event.metric),
                _MEASURED.pack(_QUANTITY, low, high, _TIMESTAMP, timestamp, _RECEIVED_AT, received_at),
                _SOURCES[event.source],
                b"" if event.idempotency_key is None else _string("idempotencyKey", event.idempotency_key),
                b"" if event.properties is None else _properties(event),
            )
        )
    except (bson.errors.BSONError, OverflowError, ValueError) as exc:
        raise Unencodable(str(exc)) from exc
    return RawBSONDocument(_document(elements))


class Drafts:
    """Events' documents, encoded when there is time for it: while the batch before is written."""

    def __init__(self) -> None:
        # By the object, not its id, which another event of the batch may have too. The object is held, so that no
        # later one can have its address: a batch drops the events of a copy.
        self._encoded: dict[int, tuple[UsageEvent, RawBSONDocument]] = {}

    def prepare(self, events: Iterable[UsageEvent]) -> None:
        """Encode these; what cannot be encoded is left for later."""
        for event in events:
            try:
                self._encoded[id(event)] = event, encode(event)
            except Unencodable:
                continue

    def of(self, events: Iterable[UsageEvent]) -> list[RawBSONDocument]:
        """Return each event's document. Raises DocumentRefused for the first that has none."""
        documents = []
        for index, event in enumerate(events):
            draft = self._encoded.get(id(event))
            try:
                documents.append(encode(event) if draft is None else draft[1])
            except Unencodable as exc:
                raise DocumentRefused(index, str(exc)) from exc
        return documents


NO_DRAFTS: Final = Drafts()
"""None is prepared: each document is made when it is asked for."""


def _document(elements: bytes) -> bytes:
    return _LENGTH.pack(len(elements) + 5) + elements + b"\x00"


def _string(name: str, value: str) -> bytes:
    text = value.encode()
    return b"\x02" + name.encode() + b"\x00" + _LENGTH.pack(len(text) + 1) + text + b"\x00"


# A customer has many events.
@lru_cache(maxsize=4096)
def _whose(project_id: str, email: str, metric: str) -> bytes:
    project = b"\x07projectId\x00" + bytes.fromhex(project_id) if is_object_id(project_id) else None
    return (project or _string("projectId", project_id)) + _string("email", email) + _string("metric", metric)


# What came in together was received at the same time.
@lru_cache(maxsize=1024)
def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


_SOURCES: Final = {source: _string("source", source.value) for source in Source}


def _properties(event: UsageEvent) -> bytes:
    return b"\x03properties\x00" + bson.encode(properties_of(event), codec_options=CODEC)
