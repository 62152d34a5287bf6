"""Looking for one event wherever it can be."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from contract import topology
from contract.connection import BrokerConnection
from worker.audit.books import spell_row
from worker.audit.fingerprint import ID_BYTES
from worker.database import Database, Snapshot
from worker.dead_letters.browsing import Browser
from worker.dead_letters.letter import DeadLetter
from worker.dead_letters.rounds import Pace, Round
from worker.dead_letters.selection import Selection
from worker.glance import Depth, depth_of
from worker.schema import EVENTS, LEDGER


class State(StrEnum):
    """What became of an event, as far as can be seen."""

    STORED = "stored"
    CONTRADICTED = "stored and dead-lettered"
    """Once as it was sent first; again with other content, or by a worker that crashed between the two."""
    DEAD_LETTERED = "dead-lettered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entered:
    """The message, or batch of messages, that brought an event."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """All that is known of one event."""

    id: UUID
    document: Mapping[str, Any] | None
    letters: tuple[DeadLetter, ...]
    queue: Depth
    """Before anything else was looked at."""
    entered: tuple[Entered, ...] | None
    """None when the ledger was not asked."""

    @property
    def state(self) -> State:
        """What became of it."""
        if self.document is None:
            return State.DEAD_LETTERED if self.letters else State.UNKNOWN
        return State.CONTRADICTED if self.letters else State.STORED


async def look_up(
    wanted: UUID, database: Database, connection: BrokerConnection, pace: Pace, *, with_ledger: bool
) -> Found:
    """Look at the queue, the dead letters and the database; `pace` hears of the letters that were read.

    Raises DatabaseUnavailable, BrokerUnavailable, DeadLettersBusy.
    """
    # An event moves in this direction, so it cannot slip by.
    queue = await depth_of(connection, topology.QUEUE)
    letters = await _letters(wanted, connection, pace)
    async with database.snapshot() as snapshot:
        documents = [one async for one in snapshot.find(EVENTS, {"_id": wanted})]
        entered = tuple([one async for one in _entered(wanted, snapshot)]) if with_ledger else None
    return Found(wanted, documents[0] if documents else None, tuple(letters), queue, entered)


async def _letters(wanted: UUID, connection: BrokerConnection, pace: Pace) -> list[DeadLetter]:
    round_ = Round(await Browser.open(connection), Selection(events=frozenset({wanted})), pace)
    found: list[DeadLetter] = []
    while (meant := await round_.next()) is not None:
        found += [held.letter for held in meant]
    return found


async def _entered(wanted: UUID, snapshot: Snapshot) -> AsyncIterator[Entered]:
    async for rows in snapshot.batches(LEDGER, {"ids": {"$type": "binData"}}, {"ids": 1, "at": 1}):
        for row in rows:
            if holds(row["ids"], wanted.bytes):
                yield Entered(spell_row(row), row["at"])


def holds(packed: bytes, one: bytes) -> bool:
    """Whether an id is among those that were put behind each other."""
    at = packed.find(one)
    while at % ID_BYTES and at >= 0:
        at = packed.find(one, at + 1)
    return at >= 0
