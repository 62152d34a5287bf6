"""One thing that was looked at, and how it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from runtime.supervision import ExitCode


class State(StrEnum):
    """How it is, for whoever has to do something about it."""

    OK = "ok"
    WARNING = "warning"
    """The process works, but somebody should know."""
    AWAY = "away"
    """It may come back by itself, and the process waits for it."""
    WRONG = "wrong"
    """It stays as it is until somebody mends it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and a sentence on how to mend it when it is not as it should be."""

    name: str
    state: State
    found: str
    mend: str = ""

    @classmethod
    def ok(cls, name: str, found: str) -> Self:
        """All is well."""
        return cls(name, State.OK, found)

    @classmethod
    def warning(cls, name: str, found: str, mend: str) -> Self:
        """It works all the same."""
        return cls(name, State.WARNING, found, mend)

    @classmethod
    def away(cls, name: str, found: str, mend: str) -> Self:
        """It does not answer, or cannot do its work now."""
        return cls(name, State.AWAY, found, mend)

    @classmethod
    def wrong(cls, name: str, found: str, mend: str) -> Self:
        """Waiting will not help."""
        return cls(name, State.WRONG, found, mend)


def exit_code_of(checks: Iterable[Check]) -> ExitCode:
    """Return 78 for anything wrong, also when something is away as well: what is away may come back by itself."""
    states = {check.state for check in checks}
    if State.WRONG in states:
        return ExitCode.MISCONFIGURED
    return ExitCode.FORCED if State.AWAY in states else ExitCode.STOPPED
