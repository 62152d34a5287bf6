"""Tables and plots of what was measured."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows) -> str:
    """Return rows as a Markdown table, whose columns are the keys of the first."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits are enough
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(sections: Mapping[str, Rows], raw: Mapping[str, Any], command: str, when: str) -> Path:
    """Write results.md, results.json and the plots; the path of the first."""
    RESULTS.mkdir(exist_ok=True)
    heading = f"`{command}`, {when} UTC, {platform.machine()}, {_cores()} cores, Python {platform.python_version()}"
    text = "\n\n".join([heading, *(f"## {title}\n\n{table(rows)}" for title, rows in sections.items() if rows)])
    path = RESULTS / "results.md"
    path.write_text(f"# Measured\n\n{text}\n")
    (RESULTS / "results.json").write_text(json.dumps(raw, indent=1, default=str) + "\n")
    for title, rows in sections.items():
        if rows:
            _plot(title, rows)
    return path


def _cores() -> int:
    import os  # noqa: PLC0415 - for this line only

    return len(os.sched_getaffinity(0))


def _plot(title: str, rows: Rows) -> None:
    """Draw one bar for each row: its first column's name, its first rate."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    name, rate = next(iter(rows[0])), next(key for key in rows[0] if key.endswith("/s"))
    labels = [f"{row[name]}" + (f" ({row['records']})" if row.get("records", 1) != 1 else "") for row in rows]
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(rows)))
    axes.barh(labels[::-1], [row[rate] for row in rows][::-1], color="#4477aa")
    axes.set_xlabel(rate)
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{title.lower().replace(' ', '-')}.svg")
    plt.close(figure)
