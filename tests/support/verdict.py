"""What a checker has found."""

from dataclasses import dataclass, field
from enum import StrEnum

SHOWN = 5
"""Examples in a sentence."""


class Kind(StrEnum):
    """What can be wrong; each has its own proof."""

    LOST = "lost"
    UNEXPECTED = "unexpected"
    REFUSED = "refused but stored"
    PAYLOAD = "payload"
    SUMS = "sums"
    TOTALS = "totals"
    DEAD_LETTER = "dead letter"
    DRAIN = "drain"
    LIVENESS = "liveness"
    LOG = "log"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass
class Verdict:
    """What was found, and how much was looked at."""

    violations: list[Violation] = field(default_factory=list)
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    """Events too many, by `totals`: a second document with one id cannot be."""

    @property
    def kinds(self) -> set[Kind]:
        return {violation.kind for violation in self.violations}

    def add(self, kind: Kind, sentence: str) -> None:
        self.violations.append(Violation(kind, sentence))

    def report(self, kind: Kind, numbers: set[int], what: str) -> None:
        """Add a violation for these numbers, if there are any."""
        if numbers:
            self.add(kind, f"{len(numbers)} {what}, as {sorted(numbers)[:SHOWN]}")

    def assert_balanced(self, note: str = "") -> None:
        """Fail with every violation; `note` says how to see it again."""
        listed = "\n".join(map(str, self.violations))
        assert not self.violations, f"{listed}\n{note}"
