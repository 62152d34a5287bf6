"""A past for a database: events, totals and ledger as workers would have written them, only faster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore
from typing import Any, Final
from uuid import UUID, uuid4

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from bench.ids import Ids
from bench.storing import event
from contract.event import UsageEvent
from contract.stamp import Stamper
from worker.encoding import encode
from worker.ledger import Entry, EntryId, Row
from worker.totals import to_additions, totals_of

HOUR: Final = timedelta(hours=1)
PER_HOUR: Final = 7000
"""5 million events are then a month."""
PER_MESSAGE: Final = 500
WRITERS: Final = 2
SLOT: Final = 0

_CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


@dataclass
class History:
    """Grows hour by hour, from a month ago towards now."""

    uri: str
    name: str
    customers: int
    ids: Ids
    events: int = 0
    _hour: datetime = field(
        default_factory=lambda: datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 740 * HOUR
    )
    _publisher: UUID = field(default_factory=uuid4)
    _stamper: Stamper = field(init=False)

    def __post_init__(self) -> None:
        self._stamper = Stamper(self._publisher)

    def grow(self, count: int) -> None:
        """Add so many events, and have the database write down all it has."""
        with (
            MongoClient[dict[str, Any]](self.uri, w=1) as client,
            ThreadPoolExecutor(WRITERS, "history") as writers,
        ):
            free, database = BoundedSemaphore(2 * WRITERS), client[self.name]

            def insert(collection: str, documents: list[RawBSONDocument]) -> None:
                try:
                    database[collection].insert_many(documents, ordered=False)
                finally:
                    free.release()

            under_way = []
            for collection, documents in self._documents(count):
                free.acquire()
                under_way.append(writers.submit(insert, collection, documents))
            for one in under_way:
                one.result()
            client.admin.command("fsync")

    def _documents(self, count: int) -> Iterator[tuple[str, list[RawBSONDocument]]]:
        for start in range(0, count, PER_HOUR):
            events = [self._event(number) for number in range(start, min(start + PER_HOUR, count))]
            yield "events", [encode(one) for one in events]
            additions = to_additions(totals_of(events), SLOT)
            yield "totals", [_encode({"_id": key, **added}) for key, added in additions]
            yield "ledger", [_encode(row) for row in self._rows(events)]
            self.events += len(events)
            self._hour += HOUR

    def _event(self, number: int) -> UsageEvent:
        at = self._hour + timedelta(milliseconds=number % PER_HOUR * 3_600_000 // PER_HOUR)
        return event(number, self.customers, self.ids, at)

    def _rows(self, events: list[UsageEvent]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(events), PER_MESSAGE):
            part = events[start : start + PER_MESSAGE]
            stamp = self._stamper.stamp(len(part))
            self._stamper.confirm(stamp)
            entry = Entry(EntryId.of_stamp(stamp), part, [], stamp)
            yield Row(entry, [one.id for one in part], 0, []).to_document(part[-1].received_at)


def _encode(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document, codec_options=_CODEC))
