"""The books, as they are printed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from contract.stamp import Ranges
from worker.audit.auditor import Look
from worker.audit.books import Balance
from worker.audit.findings import Finding
from worker.audit.verdict import Conclusion, Verdict

Table = Sequence[tuple[str, int]]

_VERDICTS: Final = {
    Verdict.BALANCED: "The books balance.",
    Verdict.UNBALANCED: "The books do not balance.",
    Verdict.UNDER_WAY: "Not decided: messages are under way. Look again later, or with a longer --wait.",
}
_PENDING: Final = "perhaps still under way: "
_UNCLAIMED: Final = (
    "Unclaimed: stored, but their publisher has not yet told what became of them, and never will if it was killed; "
    "of the last messages of a killed publisher nobody can say whether more were confirmed."
)


def to_lines(look: Look, conclusion: Conclusion, *, verbose: bool) -> Iterator[str]:
    """Spell the books for people: tables, one line for each finding, the verdict."""
    balance = look.balance
    yield from _side_by_side(_came(balance), _became(balance))
    yield ""
    yield from _side_by_side(_letters(balance), _stored(look))
    if verbose:
        yield ""
        yield from _publishers(balance)
    if balance.came.unclaimed:
        yield from ("", _UNCLAIMED)
    if look.findings:
        yield ""
    yield from map(str, conclusion.wrong)
    yield from (f"{_PENDING}{one}" for one in conclusion.pending)
    yield ""
    yield _VERDICTS[conclusion.verdict]


def to_document(look: Look, conclusion: Conclusion) -> dict[str, Any]:
    """Return the same for programs."""
    balance = look.balance
    return {
        "verdict": conclusion.verdict.name.lower().replace("_", "-"),
        "came": {**asdict(balance.came), "total": balance.came.total},
        "became": {**asdict(balance.became), "total": balance.became.total},
        "deadLetters": asdict(balance.letters),
        "ids": {"ledger": look.listed, "events": look.stored},
        "queue": asdict(look.queue),
        "publishers": {name: asdict(account) for name, account in balance.publishers.items()},
        "wrong": [_finding(one) for one in conclusion.wrong],
        "pending": [_finding(one) for one in conclusion.pending],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"kind": finding.kind.value, **dict(finding.facts), **dict(finding.figures), "sentence": str(finding)}


def _came(balance: Balance) -> Table:
    came = balance.came
    return (
        ("CAME IN", -1),
        ("confirmed by the broker", came.confirmed),
        ("refused, but arrived", came.refused),
        ("unclaimed", came.unclaimed),
        ("direct", came.direct),
        ("replayed", came.replayed),
        ("total", came.total),
    )


def _became(balance: Balance) -> Table:
    became = balance.became
    return (
        ("BECAME", -1),
        ("stored", became.stored),
        ("duplicates", became.duplicates),
        ("rejected", became.rejected),
        ("dead-lettered whole", became.apart),
        ("under way or missing", became.open),
        ("total", became.total),
    )


def _letters(balance: Balance) -> Table:
    letters = balance.letters
    return (
        ("DEAD LETTERS", -1),
        ("rejected", letters.rejected),
        ("- replayed", letters.replayed),
        ("- purged", letters.purged),
        ("- missing", letters.missing),
        ("+ whole messages", letters.whole),
        ("+ copies left by a crash", letters.copies),
        ("in the queue", letters.depth),
    )


def _stored(look: Look) -> Table:
    kinds = [one.kind.value.partition("-")[0] for one in look.findings]
    return (
        ("DATABASE", -1),
        ("events in the ledger", look.listed),
        ("events stored", look.stored),
        ("events that differ", kinds.count("event")),
        ("totals that differ", kinds.count("total")),
        ("rows that are wrong", kinds.count("bad")),
        ("messages in the queue", look.queue.ready),
    )


def _side_by_side(left: Table, right: Table) -> Iterator[str]:
    rows = max(len(left), len(right))
    columns = [[*map(_cell, table), *[""] * (rows - len(table))] for table in (left, right)]
    width = max(map(len, columns[0])) + 4
    return (f"{one:{width}}{other}".rstrip() for one, other in zip(*columns, strict=True))


def _cell(line: tuple[str, int]) -> str:
    name, number = line
    return name if name.isupper() else f"{name:24}{number:>16,}"


def _publishers(balance: Balance) -> Iterator[str]:
    names = ("MESSAGES", "FLOOR", "CONFIRMED", "SETTLED", "WHOLE", "REFUSED", "UNCLAIMED")
    yield f"{'PUBLISHER':36}" + "".join(f"{name:>14}" for name in names) + "  HOLES"
    for name, one in balance.publishers.items():
        numbers = (one.messages, one.floor, one.confirmed, one.settled, one.apart, one.refused, one.unclaimed)
        yield f"{name:36}" + "".join(f"{number:>14,}" for number in numbers) + f"  {_spell(one.holes) or '-'}"


def _spell(ranges: Ranges) -> str:
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
