"""What is to be done with a batch, seen against what was stored and entered before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from contract.event import Reason, Rejected, UsageEvent
from worker.encoding import NO_DRAFTS, Drafts
from worker.ledger import Entry, EntryId, Row

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch, in numbers: of events, but for the copies, which are messages."""

    stored: int = 0
    duplicates: int = 0
    parked: int = 0
    copies: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.parked + other.parked,
            self.copies + other.copies,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What an entry's events are, seen against those before: each is one of the three."""

    fresh: list[UsageEvent]
    duplicates: int
    conflicts: list[tuple[UsageEvent, UsageEvent]]
    """Each with the event that has its id, and other content."""


NOTHING = Plan([], 0, [])


def plan(events: Sequence[UsageEvent], firsts: dict[UUID, UsageEvent]) -> Plan:
    """Sort events, in order: the first of an id stands.

    `firsts` holds what is known by its id; what is fresh joins it.
    """
    fresh, conflicts = [], []
    for event in events:
        first = firsts.setdefault(event.id, event)
        if first is event:
            fresh.append(event)
        elif not event.repeats(first):
            conflicts.append((event, first))
    return Plan(fresh, len(events) - len(fresh) - len(conflicts), conflicts)


@dataclass(slots=True)
class _Task:
    """One entry, and how far it is: what was parked is done with, so no redo parks it again."""

    entry: Entry
    events: list[UsageEvent]
    parked: list[UUID] = field(default_factory=list)
    rejected_are_parked: bool = False
    planned: Plan = NOTHING


@dataclass(frozen=True, slots=True)
class _Letter:
    """What is to be parked, for which entry; the event, unless it came in as rejected."""

    task: _Task
    key: UUID
    rejected: Rejected
    event: UsageEvent | None = None


def _letter(task: _Task, position: int, rejected: Rejected, event: UsageEvent | None = None) -> _Letter:
    entry = task.entry
    return _Letter(task, entry.letter_key(position), replace(rejected, origin=entry.origin_of(position)), event)


class Work:
    """What is left of a batch, over all attempts at it."""

    def __init__(self, entries: Sequence[Entry], drafts: Drafts = NO_DRAFTS) -> None:
        self.drafts = drafts
        self._tasks = [_Task(entry, entry.events) for entry in entries]
        self._found = Outcome()
        """What the ledger says of entries that were in it."""
        self._letters: list[_Letter] = []

    @property
    def entries(self) -> list[Entry]:
        """Those that are not known to be in the ledger."""
        return [task.entry for task in self._tasks]

    @property
    def events(self) -> Iterator[UsageEvent]:
        """Those of all entries that have not been parked."""
        return (event for task in self._tasks for event in task.events)

    @property
    def fresh(self) -> list[UsageEvent]:
        """Those that are to be stored."""
        return [event for task in self._tasks for event in task.planned.fresh]

    @property
    def to_park(self) -> dict[UUID, Rejected]:
        """What is to lie among the dead letters before anything is committed."""
        return {letter.key: letter.rejected for letter in self._letters}

    @property
    def outcome(self) -> Outcome:
        """What became of it all, once it is committed."""
        ours = Outcome(
            stored=sum(len(task.planned.fresh) for task in self._tasks),
            duplicates=sum(task.planned.duplicates for task in self._tasks),
            parked=sum(len(task.parked) for task in self._tasks),
        )
        return self._found + ours

    def take_for_new(self) -> None:
        """Go on as if nothing of it had come before."""
        self.leave_out_copies({})
        self.plan({})

    def leave_out_copies(self, rows: Mapping[EntryId, Mapping[str, Any]]) -> None:
        """Be done with the entries that have a row in the ledger, and have what others brought as rejected parked."""
        self._tasks = [task for task in self._tasks if not self._is_copy(task, rows.get(task.entry.id))]
        self._letters = [
            _letter(task, position, rejected)
            for task in self._tasks
            if not task.rejected_are_parked
            for position, rejected in enumerate(task.entry.rejected)
        ]

    def _is_copy(self, task: _Task, row: Mapping[str, Any] | None) -> bool:
        if row is None:
            return False
        if task.entry.digest != row.get("digest"):
            # Nobody but a stranger who writes stamps can bring this about; what he sends is stored all the same.
            log.warning("a message bears the stamp of another", entry=task.entry.id.to_document())
            task.entry = task.entry.disowned()
            return False
        is_ours = task.entry.id.kind == "batch"
        # A name that only we know: it is this very batch, committed by an attempt that did not hear of it.
        self._found += Outcome(row["stored"], row["duplicates"], row["rejected"]) if is_ours else Outcome(copies=1)
        return True

    def plan(self, stored: Mapping[UUID, UsageEvent]) -> None:
        """Decide for each event whether it is fresh; `stored` are those found by their ids."""
        firsts = dict(stored)
        for task in self._tasks:
            task.planned = plan(task.events, firsts)

    def find_conflicts(self) -> bool:
        """Have the events parked that contradict another of their id, and say whether there are any."""
        for task in self._tasks:
            conflicts = task.planned.conflicts
            self._have_parked(task, [(event, Reason.CONFLICT, _difference(event, first)) for event, first in conflicts])
        return bool(self._letters)

    def refuse(self, refused: Mapping[int, str]) -> None:
        """Have these parked: the index among the fresh events, and what MongoDB says."""
        start = 0
        for task in self._tasks:
            fresh = task.planned.fresh
            numbered = enumerate(fresh, start)
            self._have_parked(
                task, [(event, Reason.REFUSED, refused[index]) for index, event in numbered if index in refused]
            )
            start += len(fresh)

    def _have_parked(self, task: _Task, wrong: Sequence[tuple[UsageEvent, Reason, str]]) -> None:
        if not wrong:
            return
        entry = task.entry
        positions = {id(event): number for number, event in enumerate(entry.events, len(entry.rejected))}
        self._letters += [
            _letter(task, positions[id(event)], Rejected(event.to_wire(), event.source, reason, detail), event)
            for event, reason, detail in wrong
        ]

    def note_parked(self) -> None:
        """What was to be parked lies among the dead letters."""
        gone = {id(letter.event) for letter in self._letters}
        for letter in self._letters:
            letter.task.parked.append(letter.key)
        for task in self._tasks:
            task.rejected_are_parked = True
            task.events = [event for event in task.events if id(event) not in gone]
        self._letters = []

    def rows(self, now: datetime) -> list[dict[str, Any]]:
        """Return what is to be entered into the ledger."""
        return [
            Row(
                task.entry, [event.id for event in task.planned.fresh], task.planned.duplicates, task.parked
            ).to_document(now)
            for task in self._tasks
        ]


def _difference(event: UsageEvent, first: UsageEvent) -> str:
    """Show an operator both contents."""
    return f"stored: {first.to_wire().decode()}; sent: {event.to_wire().decode()}"
