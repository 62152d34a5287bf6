"""Telling what is wrong from what is only under way, by looking more than once."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from worker.audit.findings import Finding

LATE_LOOKS: Final = 3
"""How often what is found after the wait is looked at again, when it is something else each time."""


class Verdict(Enum):
    """Whether the books balance."""

    BALANCED = "balanced"
    UNBALANCED = "unbalanced"
    UNDER_WAY = "messages are under way"


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look has shown."""

    began: float
    """When the look began, in seconds of a monotonic clock."""
    findings: tuple[Finding, ...]
    ready: int
    """Messages that wait in the queue; those that a worker holds cannot be seen."""
    consumers: int


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The verdict, with the findings that it stands on, and those that may be nothing but messages under way."""

    verdict: Verdict
    wrong: tuple[Finding, ...] = ()
    pending: tuple[Finding, ...] = ()


class Watch:
    """Comes to a conclusion over several looks, for at least `wait` seconds, unless fewer are enough.

    What the database contradicts itself in is wrong when two looks find it: each look sees one moment. What is not
    there, though the broker had it, may be in a worker's hands; it is lost when nothing has changed in that for the
    whole wait, with the queue empty at each look.
    """

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._since: dict[Finding, float] = {}
        self._before: tuple[Finding, ...] = ()
        self._late = 0
        """Looks since the wait was over."""
        self.deadline: float | None = None
        """When the wait is over; None before the first look."""

    @property
    def is_alarmed(self) -> bool:
        """Whether another look should follow at once."""
        return any(not one.is_under_way for one in self._before)

    def note(self, sight: Sight) -> Conclusion | None:
        """Take in a look; None when another is needed."""
        if self.deadline is None:
            self.deadline = sight.began + self._wait
        before, self._before = frozenset(self._before), sight.findings
        self._note_ages(sight)
        if not sight.findings and not sight.ready:
            return Conclusion(Verdict.BALANCED)
        suspects = self._suspects(sight)
        is_over = sight.began >= self.deadline
        self._late += is_over
        wrong = suspects if self._late > LATE_LOOKS else suspects & before
        if any(not one.is_under_way for one in wrong) or (wrong and is_over):
            return _conclude(Verdict.UNBALANCED, sight, wrong)
        if suspects or not is_over:
            return None
        return _conclude(Verdict.UNDER_WAY, sight, wrong)

    def _note_ages(self, sight: Sight) -> None:
        # What waited in the queue till now may be in a worker's hands next.
        findings = () if sight.ready else sight.findings
        self._since = {one: self._since.get(one, sight.began) for one in findings}

    def _suspects(self, sight: Sight) -> frozenset[Finding]:
        """What is wrong, if another look confirms it."""
        return frozenset(one for one in sight.findings if not one.is_under_way or self._is_settled(one, sight))

    def _is_settled(self, finding: Finding, sight: Sight) -> bool:
        if sight.ready or (sight.consumers and not self._wait):
            return False
        return sight.began - self._since[finding] >= self._wait


def _conclude(verdict: Verdict, sight: Sight, wrong: frozenset[Finding]) -> Conclusion:
    return Conclusion(
        verdict,
        tuple(one for one in sight.findings if one in wrong),
        tuple(one for one in sight.findings if one not in wrong),
    )
