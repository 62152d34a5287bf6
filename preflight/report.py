"""The checks, as they are printed."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from preflight.check import Check, State, exit_code_of
from runtime.plain import plain
from runtime.redaction import redact, redact_value

_MEND: Final = "to mend it: "


def to_lines(checks: Sequence[Check], secrets: Collection[str]) -> Iterator[str]:
    """Yield one line for each, and another below it for what is to be done."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield _line(check.state, check.name, check.found, width, secrets)
        if check.mend:
            yield _line("", "", _MEND + check.mend, width, secrets)


def _line(state: str, name: str, text: str, width: int, secrets: Collection[str]) -> str:
    return plain(redact(f"{state:<7}  {name:<{width}}  {text}", secrets))


def to_document(checks: Sequence[Check], secrets: Collection[str]) -> dict[str, Any]:
    """Return the same for programs."""
    items = [
        {"name": check.name, "state": check.state.value, "found": check.found, "mend": check.mend or None}
        for check in checks
    ]
    return {"exitCode": exit_code_of(checks).value, "checks": redact_value(items, secrets)}


def to_verdict(checks: Sequence[Check]) -> str:
    """Return all of it in one sentence."""
    counted = Counter(check.state for check in checks)
    told = [f"{counted[state]} {state}" for state in State if counted[state]]
    return f"{len(checks)} checks: {', '.join(told)}"
