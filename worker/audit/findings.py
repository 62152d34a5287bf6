"""What can be wrong with the books, each with a name for what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self


class Kind(StrEnum):
    """The ways in which the books can fail to balance."""

    HOLE = "hole"
    SHORT = "confirmed-mismatch"
    LETTER = "missing-dead-letter"
    ROW = "bad-row"
    LOST = "event-missing"
    UNENTERED = "event-unentered"
    REPEATED = "event-repeated"
    TOTAL = "total"


UNDER_WAY: Final = frozenset({Kind.HOLE, Kind.SHORT, Kind.LETTER})
"""What a message that is still under way looks like, too; the others are wrong at once, whatever comes."""

_SENTENCES: Final = {
    Kind.HOLE: "{publisher}:{seq} was confirmed by the broker, and neither stored nor dead-lettered",
    Kind.SHORT: "publisher {publisher} had {confirmed} events confirmed up to message {floor}, and {found} were found",
    Kind.LETTER: "dead letter {key} of {row} is gone, and was neither replayed nor purged",
    Kind.ROW: "the ledger's row {row} is wrong: {why}",
    Kind.LOST: "event {id} was stored, says the ledger's row {row}, and is not there",
    Kind.UNENTERED: "event {id} is stored, and in no row of the ledger: project {project}, customer {customer}, "
    "metric {metric}, hour {hour}",
    Kind.REPEATED: "event {id} is {times} times in the ledger: rows {row}",
    Kind.TOTAL: "project {project}, customer {customer}, metric {metric}, hour {hour}: the events sum up to "
    "{expected} in {expected_count}, the totals to {found} in {found_count}",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: two looks that find the same give equal findings."""

    kind: Kind
    facts: tuple[tuple[str, str], ...]
    figures: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Go on changing while it stays what it is."""

    @classmethod
    def of(cls, kind: Kind, *, figures: Mapping[str, object] = MappingProxyType({}), **facts: object) -> Self:
        """Name what is wrong by what its sentence wants."""
        return cls(kind, _strings(facts), _strings(figures))

    @property
    def is_under_way(self) -> bool:
        """Whether it may be nothing but a message under way."""
        return self.kind in UNDER_WAY

    def __str__(self) -> str:
        return _SENTENCES[self.kind].format_map(dict(self.facts + self.figures))


def _strings(values: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in values.items())
