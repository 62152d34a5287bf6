"""One batch, one transaction: each event stored once, whatever happens on the way."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

import structlog

from contract.backoff import Backoff
from contract.event import Reason, Rejected, UsageEvent
from worker.database import Database, DatabaseUnavailable, DocumentRefused, WriteConflict
from worker.documents import from_document, to_document

log = structlog.get_logger(__name__)

CONFLICT_BACKOFF: Final = Backoff(first=0.01, cap=0.25)
OUTAGE_BACKOFF: Final = Backoff(first=0.05, cap=2.0)
ORPHAN_PATIENCE: Final = 1.0
"""Seconds of write conflicts after which the other side is taken for dead: live workers commit in less."""

Park = Callable[[Sequence[Rejected]], Awaitable[None]]
"""Puts events among the dead letters; returns when that is confirmed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch's events, in numbers."""

    stored: int = 0
    duplicates: int = 0
    parked: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.stored + other.stored, self.duplicates + other.duplicates, self.parked + other.parked)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch's events are, seen against those stored before: each is one of the three."""

    fresh: list[UsageEvent]
    duplicates: int
    conflicts: list[tuple[UsageEvent, UsageEvent]]
    """Each with the event that has its id, and other content."""


def plan(events: Sequence[UsageEvent], stored: Mapping[UUID, UsageEvent]) -> Plan:
    """Sort the events of a batch, in order: the first of an id stands."""
    firsts = dict(stored)
    result = Plan([], 0, [])
    for event in events:
        first = firsts.setdefault(event.id, event)
        if first is event:
            result.fresh.append(event)
        elif not event.repeats(first):
            result.conflicts.append((event, first))
    return replace(result, duplicates=len(events) - len(result.fresh) - len(result.conflicts))


@dataclass(slots=True)
class _Work:
    """What is left of a batch: an event that was parked is out of it, so no redo parks it again."""

    events: list[UsageEvent]
    park: Park
    fresh: list[UsageEvent] = field(default_factory=list)
    parked: int = 0

    async def park_conflicts(self, conflicts: Sequence[tuple[UsageEvent, UsageEvent]]) -> None:
        if conflicts:
            await self._park([(event, Reason.CONFLICT, _difference(event, first)) for event, first in conflicts])

    async def park_refused(self, refusal: DocumentRefused) -> None:
        await self._park([(self.fresh[refusal.index], Reason.REFUSED, str(refusal))])

    async def _park(self, parked: Sequence[tuple[UsageEvent, Reason, str]]) -> None:
        await self.park([Rejected(event.to_wire(), event.source, reason, why) for event, reason, why in parked])
        gone = {id(event) for event, _, _ in parked}
        self.events = [event for event in self.events if id(event) not in gone]
        self.parked += len(parked)


@dataclass(slots=True)
class _Trouble:
    """How the attempts at one batch have gone so far."""

    failures: int = 0
    conflict_since: float | None = None
    orphans_ended: bool = False


class Store:
    """Writes batches for the worker's whole life, one at a time."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self.available = True

    async def write(self, events: Sequence[UsageEvent], park: Park, *, abandoned: Callable[[], bool]) -> Outcome:
        """Store the events; return when they are durable, however long MongoDB is away.

        An event stored before is a duplicate; one whose id is stored with other content is parked as CONFLICT, one
        that MongoDB will never take as REFUSED.

        Raises DatabaseUnavailable only when an attempt has failed and the batch is `abandoned`.
        """
        work, trouble = _Work(list(events), park), _Trouble()
        while True:
            try:
                outcome = await self._attempt(work)
            except DocumentRefused as exc:
                await work.park_refused(exc)
            except WriteConflict as exc:
                if trouble.orphans_ended and abandoned():
                    raise DatabaseUnavailable("a transaction that is not ours holds what should be written") from exc
                await asyncio.sleep(await self._after_conflict(trouble))
            except DatabaseUnavailable as exc:
                delay = self._after_outage(trouble, exc)
                if abandoned():
                    raise
                await asyncio.sleep(delay)
            else:
                self.available = True
                return outcome

    async def _attempt(self, work: _Work) -> Outcome:
        if not work.events:
            return Outcome(parked=work.parked)
        async with self._database.transaction() as transaction:
            documents = await transaction.find_events([event.id for event in work.events])
            planned = plan(work.events, {document["_id"]: from_document(document) for document in documents})
            work.fresh = planned.fresh
            if planned.fresh:
                await transaction.insert_events([to_document(event) for event in planned.fresh])
            # Not earlier: the event that one conflicts with may itself have been refused.
            await work.park_conflicts(planned.conflicts)
        return Outcome(stored=len(planned.fresh), duplicates=planned.duplicates, parked=work.parked)

    async def _after_conflict(self, trouble: _Trouble) -> float:
        trouble.failures += 1
        now = self._clock()
        if trouble.conflict_since is None:
            trouble.conflict_since = now
        elif now - trouble.conflict_since > ORPHAN_PATIENCE:
            await self._end_orphans()
            trouble.conflict_since = now
            trouble.orphans_ended = True
        return CONFLICT_BACKOFF.delay(trouble.failures)

    async def _end_orphans(self) -> None:
        try:
            killed = await self._database.kill_orphans()
        except DatabaseUnavailable as exc:
            log.warning("orphaned transactions could not be ended", error=str(exc))
        else:
            log.warning("orphaned transactions ended", count=killed)

    def _after_outage(self, trouble: _Trouble, exc: DatabaseUnavailable) -> float:
        trouble.failures += 1
        if self.available:
            log.warning("database lost", error=str(exc))
        self.available = False
        return OUTAGE_BACKOFF.delay(trouble.failures)


def _difference(event: UsageEvent, first: UsageEvent) -> str:
    """Show an operator both contents."""
    return f"stored: {first.to_wire().decode()}; sent: {event.to_wire().decode()}"
