"""Dying at a named step: the parts of both processes, wrapped."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from aiormq.abc import AbstractChannel, DeliveredMessage
from bson.raw_bson import RawBSONDocument

from contract.event import Decoded, Rejected
from contract.grouping import Sealed
from contract.publisher import Publisher
from ingest.record import Record
from worker.database import Database, Transaction
from worker.delivery import Delivery
from worker.parking import DeadLetters
from worker.settling import Settler
from worker.subscription import Subscription

INGEST_STEPS = ("parse", "publish", "confirm")
WORKER_STEPS = ("deliver", "decode", "lookup", "insert", "totals", "ledger", "commit", "ack", "park")
INGEST_POINTS = [f"{step}:{side}" for step in INGEST_STEPS for side in ("before", "after")]
WORKER_POINTS = [f"{step}:{side}" for step in WORKER_STEPS for side in ("before", "after")]
MARK = b"[]"


class Fuse:
    """Where to kill oneself, or another process that is named after the place, as long as the file is there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self, point: str) -> bool:
        """Whether this is the place to kill."""
        return self._read()[0] == point

    def reach(self, point: str) -> None:
        """Kill here, if this is the place, and no other process is quicker."""
        named, victim = self._read()
        if named == point:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
                os.kill(int(victim or os.getpid()), signal.SIGKILL)

    def _read(self) -> tuple[str, str]:
        try:
            point, _, victim = self._path.read_text().partition(" ")
        except FileNotFoundError:
            return "", ""
        return point, victim


def replace(owner: object, name: str, part: object) -> None:
    """Put a part of our own in the place of the product's."""
    setattr(owner, name, part)


def wrap_method(owner: type, name: str, fuse: Fuse, step: str) -> None:
    """Die before or after an asynchronous method."""
    original = getattr(owner, name)

    async def wrapped(*arguments: Any) -> Any:
        fuse.reach(f"{step}:before")
        result = await original(*arguments)
        fuse.reach(f"{step}:after")
        return result

    replace(owner, name, wrapped)


def wrap_ingest(fuse: Fuse) -> None:
    """From the bytes of a request to its answer."""
    _wrap_parse(fuse)
    _wrap_confirm(fuse)
    publish = Publisher.publish

    async def wrapped(self: Publisher, events: Sequence[bytes], request: str | None = None) -> None:
        await publish(self, events, request)
        # The caller knows of the confirm, its client does not yet.
        fuse.reach("confirm:after")

    replace(Publisher, "publish", wrapped)


def _wrap_parse(fuse: Fuse) -> None:
    of = Record.of

    def wrapped(cls: type[Record], item: object) -> Record:
        del cls
        fuse.reach("parse:before")
        record = of(item)
        fuse.reach("parse:after")
        return record

    replace(Record, "of", classmethod(wrapped))


def _wrap_confirm(fuse: Fuse) -> None:
    confirm = Publisher._confirm

    async def wrapped(self: Publisher, channel: AbstractChannel, message: Sealed) -> None:
        if not message.stamp.events:
            return await confirm(self, channel, message)
        fuse.reach("publish:before")
        if fuse.names("publish:after"):
            publishing = asyncio.create_task(confirm(self, channel, message))
            await asyncio.sleep(0)
            # The driver holds the lock until the message is on its way; no confirm can have been seen yet.
            async with channel.lock:  # type: ignore[attr-defined]
                fuse.reach("publish:after")
            return await publishing
        await confirm(self, channel, message)
        fuse.reach("confirm:before")
        return None

    replace(Publisher, "_confirm", wrapped)


def wrap_worker(fuse: Fuse) -> None:
    """From a delivery to its acknowledgement."""
    _wrap_deliver(fuse)
    _wrap_decode(fuse)
    wrap_method(Transaction, "find_events", fuse, "lookup")
    wrap_method(Transaction, "insert_events", fuse, "insert")
    wrap_method(Transaction, "add_to_totals", fuse, "totals")
    wrap_method(Transaction, "insert_entries", fuse, "ledger")
    _wrap_commit(fuse)
    wrap_method(Settler, "_acknowledge_up_to", fuse, "ack")
    _wrap_park(fuse)


def _wrap_deliver(fuse: Fuse) -> None:
    receive = Subscription._receive

    async def wrapped(self: Subscription, message: DeliveredMessage) -> None:
        if message.body != MARK:
            fuse.reach("deliver:before")
        await receive(self, message)
        if message.body != MARK:
            fuse.reach("deliver:after")

    replace(Subscription, "_receive", wrapped)


def _wrap_decode(fuse: Fuse) -> None:
    decode = Delivery.decode

    def wrapped(self: Delivery, now: datetime) -> Decoded:
        if self.body != MARK:
            fuse.reach("decode:before")
        decoded = decode(self, now)
        if self.body != MARK:
            fuse.reach("decode:after")
        return decoded

    replace(Delivery, "decode", wrapped)


def _wrap_commit(fuse: Fuse) -> None:
    """Only a commit that has events in it counts."""
    original, insert = Database.transaction, Transaction.insert_events
    inserted = False

    async def insert_events(self: Transaction, documents: Sequence[RawBSONDocument]) -> None:
        nonlocal inserted
        await insert(self, documents)
        inserted = True

    @asynccontextmanager
    async def transaction(self: Database) -> AsyncIterator[Transaction]:
        nonlocal inserted
        inserted = False
        async with original(self) as opened:
            yield opened
            if inserted:
                fuse.reach("commit:before")
        if inserted:
            fuse.reach("commit:after")

    replace(Transaction, "insert_events", insert_events)
    replace(Database, "transaction", transaction)


def _wrap_park(fuse: Fuse) -> None:
    park = DeadLetters.park

    async def wrapped(self: DeadLetters, letters: Mapping[UUID, Rejected]) -> None:
        if letters:
            fuse.reach("park:before")
        await park(self, letters)
        if letters:
            fuse.reach("park:after")

    replace(DeadLetters, "park", wrapped)
