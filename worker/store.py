"""One batch, one transaction: each event stored once, whatever happens on the way."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog

from contract.backoff import Backoff
from contract.event import Rejected
from contract.incident import Incident
from worker.database import Database, Transaction
from worker.database_errors import DatabaseUnavailable, KnownId, TotalsConflict, TransactionTooLarge, WriteConflict
from worker.documents import DocumentRefused, from_document
from worker.encoding import NO_DRAFTS, Drafts
from worker.ledger import Entry, EntryId, is_divisible
from worker.plan import Outcome, Work
from worker.totals import draw_slot, to_additions, totals_of
from worker.vitals import Vitals

log = structlog.get_logger(__name__)

CONFLICT_BACKOFF: Final = Backoff(first=0.01, cap=0.25)
OUTAGE_BACKOFF: Final = Backoff(first=0.05, cap=2.0)
ORPHAN_PATIENCE: Final = 1.0
"""Seconds of write conflicts after which the other side is taken for dead: live workers commit in less."""
CONFLICT_PATIENCE: Final = 3.0
"""Seconds of nothing but write conflicts after which a batch is no longer tried at once: a server does not always name
its full cache as the reason, and if it is another, smaller transactions meet it less often."""

WARY_BATCHES: Final = 4
"""Batches that are looked up before they are written, after one that was not all new, after a failure and at the start:
more than a predecessor may have stored without acknowledging them."""

TRIAL_DOCUMENTS: Final = 64
"""How many documents are tried at once behind one that was refused; twice as many after each trial that goes well."""

Park = Callable[[Mapping[UUID, Rejected]], Awaitable[None]]
"""Puts these among the dead letters, each under its key; returns when that is confirmed."""


class NotAtOnce(Exception):
    """The server does not take it in one transaction, which is no orphan's fault: several smaller ones may do."""

    def __init__(self, reason: WriteConflict) -> None:
        super().__init__(str(reason))
        self.is_for_size = isinstance(reason, TransactionTooLarge)
        """Whether it says that it has no room for so much."""


class _NotNew(Exception):
    """What was taken for new is not, or not all of it."""


@dataclass(slots=True)
class _Trouble:
    """How the attempts at one batch have gone so far."""

    blind: bool
    """Whether the next attempt takes everything for new, without a look."""
    failures: int = 0
    conflicts_since: float | None = None
    """When those began between which nothing else happened."""
    patient_since: float | None = None
    """From when on orphans are given time to end by themselves."""
    orphans_ended: bool = False


class Store:
    """Writes batches for the worker's whole life, one transaction at a time."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        vitals: Vitals | None = None,
    ) -> None:
        """Prepare; the vitals hear of every attempt, whatever came of it."""
        self._database = database
        self._vitals = vitals or Vitals()
        self._clock = clock
        self._slot = draw_slot()
        self._session = asyncio.Lock()
        """There is one session, which holds one transaction at a time."""
        self._away_since: float | None = None
        self._away = Incident("database lost", "database back")
        self._unending = Incident("orphaned transactions could not be ended", "orphaned transactions can be ended")
        self._no_room = Incident("no room in the database's cache", "room in the database's cache")
        self._wary = WARY_BATCHES
        """How many of the next batches are to be looked up."""

    @property
    def available(self) -> bool:
        """Whether the last attempt to write found the database at work."""
        return self._away_since is None

    @property
    def seconds_away(self) -> float:
        """For how long every attempt has found the database away."""
        return 0.0 if self._away_since is None else self._clock() - self._away_since

    async def prove_writes(self) -> bool:
        """Whether the database takes writes now, as durably as a batch's; if so, it is available again."""
        try:
            await self._database.prove_writes()
        except (DatabaseUnavailable, WriteConflict) as exc:
            self._away.note(error=str(exc))
            return False
        self._back()
        return True

    async def write(
        self,
        entries: Sequence[Entry],
        park: Park,
        *,
        abandoned: Callable[[], bool],
        drafts: Drafts = NO_DRAFTS,
    ) -> Outcome:
        """Store the events, and enter them; return when they are durable, however long MongoDB is away.

        An entry that is in the ledger came before: it is a copy, and nothing of it is done again. An event stored
        before is a duplicate; one whose id is stored with other content is parked as CONFLICT, one that MongoDB will
        never take as REFUSED; all that is parked, what came in as rejected too, is confirmed before the commit.

        Raises NotAtOnce for what can be divided, and should be, and DatabaseUnavailable only when an attempt has failed
        and the batch is `abandoned`.
        """
        work, trouble = Work(entries, drafts), _Trouble(blind=self._takes_for_new(entries))
        while True:
            try:
                async with self._session:
                    is_committed = await self._attempt(work, blind=trouble.blind)
                self._vitals.alive()
                self._back()
                if is_committed:
                    self._note_found(work.outcome, blind=trouble.blind)
                    return work.outcome
                # Outside of the transaction, which must not wait for the broker.
                await park(work.to_park)
                work.note_parked()
                trouble.conflicts_since = None
            except _NotNew:
                self._note_failure("known")
            except WriteConflict as exc:
                self._note_failure("size" if isinstance(exc, TransactionTooLarge) else "conflict")
                if trouble.orphans_ended and abandoned():
                    raise DatabaseUnavailable("a transaction that is not ours holds what should be written") from exc
                self._divide_if_hopeless(entries, trouble, exc)
                await asyncio.sleep(await self._after_conflict(trouble, exc))
            except DatabaseUnavailable as exc:
                self._note_failure("outage")
                trouble.conflicts_since = None
                delay = self._after_outage(trouble, exc)
                if abandoned():
                    raise
                await asyncio.sleep(delay)
            trouble.blind = False

    def _takes_for_new(self, entries: Sequence[Entry]) -> bool:
        """Whether to save the lookups: nearly always all is new, and where it is not, the ids, being unique, say so.

        Not where something is to be parked: it must not be parked again for a copy.
        """
        return not self._wary and not any(entry.rejected for entry in entries)

    def _note_found(self, outcome: Outcome, *, blind: bool) -> None:
        if outcome.duplicates or outcome.parked or outcome.copies:
            self._wary = WARY_BATCHES
        elif not blind:
            self._wary = max(0, self._wary - 1)

    async def _attempt(self, work: Work, *, blind: bool) -> bool:
        """Commit; or commit nothing, and return False, when something is to be parked first.

        Raises _NotNew, when blind, for what only a look can tell apart.
        """
        if not work.entries:
            return True
        try:
            async with self._database.transaction() as transaction:
                if blind:
                    work.take_for_new()
                else:
                    await self._look_up(work, transaction)
                if not work.to_park:
                    await self._write(work, transaction)
                if work.to_park:
                    await transaction.abort()
        except (KnownId, DocumentRefused) as exc:
            if blind:
                raise _NotNew from exc
            if isinstance(exc, KnownId):
                raise
            work.refuse(await self._all_refused(work, exc))
        return not work.to_park

    async def _look_up(self, work: Work, transaction: Transaction) -> None:
        rows = await transaction.find_entries([entry.id.to_document() for entry in work.entries])
        work.leave_out_copies({EntryId.from_document(row["_id"]): row for row in rows})
        if work.to_park:
            return
        documents = await transaction.find_events([event.id for event in work.events])
        work.plan({document["_id"]: from_document(document) for document in documents})

    async def _write(self, work: Work, transaction: Transaction) -> None:
        if work.fresh:
            await transaction.insert_events(work.drafts.of(work.fresh))
        # Not earlier: the event that one conflicts with may itself have been refused.
        if work.find_conflicts():
            return
        if work.fresh:
            await transaction.add_to_totals(to_additions(totals_of(work.fresh), self._slot))
        if rows := work.rows(datetime.now(UTC)):
            await transaction.insert_entries(rows)

    async def _all_refused(self, work: Work, first: DocumentRefused) -> dict[int, str]:
        """Find all that the server refuses among the fresh events, by transactions that never commit."""
        fresh = work.fresh
        refused = {first.index: str(first)}
        start, size = first.index + 1, TRIAL_DOCUMENTS
        while start < len(fresh):
            trial = fresh[start : start + size]
            try:
                async with self._database.transaction() as transaction:
                    await transaction.insert_events(work.drafts.of(trial))
                    await transaction.abort()
            except DocumentRefused as exc:
                refused[start + exc.index] = str(exc)
                start, size = start + exc.index + 1, TRIAL_DOCUMENTS
            else:
                start, size = start + len(trial), size * 2
        return refused

    def _back(self) -> None:
        self._away_since = None
        self._away.end()
        self._no_room.end()

    def _note_failure(self, cause: str) -> None:
        self._wary = WARY_BATCHES
        self._vitals.alive()
        self._vitals.attempts_failed.labels(cause).inc()

    async def _after_conflict(self, trouble: _Trouble, exc: WriteConflict) -> float:
        if isinstance(exc, TotalsConflict):
            self._slot = draw_slot()
        trouble.failures += 1
        now = self._clock()
        if trouble.conflicts_since is None:
            trouble.conflicts_since = now
        if trouble.patient_since is None:
            trouble.patient_since = now
        elif now - trouble.patient_since > ORPHAN_PATIENCE:
            await self._end_orphans()
            trouble.patient_since = now
            trouble.orphans_ended = True
        backoff = OUTAGE_BACKOFF if isinstance(exc, TransactionTooLarge) else CONFLICT_BACKOFF
        return backoff.delay(trouble.failures)

    def _divide_if_hopeless(self, entries: Sequence[Entry], trouble: _Trouble, exc: WriteConflict) -> None:
        """Raise NotAtOnce when neither orphans are the reason nor live workers, who commit soon."""
        if not trouble.orphans_ended or trouble.conflicts_since is None:
            return
        is_for_size = isinstance(exc, TransactionTooLarge)
        if not is_for_size and self._clock() - trouble.conflicts_since <= CONFLICT_PATIENCE:
            return
        if is_divisible(entries):
            raise NotAtOnce(exc) from exc
        if is_for_size:
            self._no_room.note(entry=str(entries[0].id), events=entries[0].size, error=str(exc))

    async def _end_orphans(self) -> None:
        try:
            killed = await self._database.kill_orphans()
        except DatabaseUnavailable as exc:
            self._unending.note(error=str(exc))
            return
        self._unending.end()
        self._vitals.orphans_killed.inc(killed)
        if killed:
            log.warning("orphaned transactions ended", count=killed)
        else:
            log.debug("no orphaned transactions found")

    def _after_outage(self, trouble: _Trouble, exc: DatabaseUnavailable) -> float:
        trouble.failures += 1
        self._away.note(error=str(exc))
        if self._away_since is None:
            self._away_since = self._clock()
        return OUTAGE_BACKOFF.delay(trouble.failures)
