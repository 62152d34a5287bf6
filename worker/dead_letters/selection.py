"""Which dead letters are meant."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contract.event import Reason
from worker.dead_letters.letter import DeadLetter


@dataclass(frozen=True, slots=True)
class Selection:
    """Letters that meet every condition; one that is empty, or None, is met by all."""

    projects: frozenset[str] = frozenset()
    """One of its events is for one of these projects."""
    reasons: frozenset[Reason] = frozenset()
    keys: frozenset[UUID] = frozenset()
    since: datetime | None = None
    """Parked then or later; a letter without a time is neither since nor until any."""
    until: datetime | None = None
    """Parked earlier."""
    events: frozenset[UUID] = frozenset()
    """One of its events has one of these ids."""

    @property
    def is_all(self) -> bool:
        """Whether there is no condition."""
        return self == Selection()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.keys or letter.key in self.keys)
            and self._is_in_time(letter.parked_at)
            and (not self.projects or not self.projects.isdisjoint(letter.project_ids))
            and (not self.events or not self.events.isdisjoint(letter.event_ids))
        )

    def _is_in_time(self, moment: datetime | None) -> bool:
        if moment is None:
            return self.since is None and self.until is None
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


@dataclass(slots=True)
class Tally:
    """How many letters were read, and how many of them were taken."""

    read: int = 0
    taken: Counter[tuple[Reason, str]] = field(default_factory=Counter)
    """By reason, and by project: `-` for none, `several` for the letter of a message for more than one."""

    @property
    def total(self) -> int:
        """How many were taken."""
        return self.taken.total()

    def note(self, letter: DeadLetter) -> None:
        """Count one that was taken."""
        match sorted(letter.project_ids):
            case []:
                project = "-"
            case [project]:
                pass
            case _:
                project = "several"
        self.taken[letter.reason, project] += 1

    def by_reason(self) -> Counter[Reason]:
        """The same for all projects together."""
        counts: Counter[Reason] = Counter()
        for (reason, _), count in self.taken.items():
            counts[reason] += count
        return counts
