"""Sums of usage as a table, as CSV, as JSON, or as a chart."""

import csv
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

import typer
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.event import encode_json
from runtime.plain import plain
from worker.operate.periods import Period
from worker.operate.usage import Usage

PAGE: Final = 1000
"""Rows whose columns are fitted to each other: a table of millions must not have to be in memory."""

_ZERO: Final = Decimal(0)
_UNBOUNDED: Final = 10_000
"""Columns of what is no terminal: there, nothing is folded."""


class Sheet(Protocol):
    """Where sums are written to, one after the other."""

    def add(self, usage: Usage) -> None:
        """Write one."""

    def finish(self) -> None:
        """Write what is left, when there are no more."""


def to_item(usage: Usage, by: Period | None) -> dict[str, Any]:
    """One sum by the names of its columns; the quantity is text, with every digit."""
    items = {
        "projectId": usage.project_id,
        "email": usage.email,
        "metric": usage.metric,
        **({} if by is None or usage.start is None else {by.value: by.spell(usage.start)}),
        "quantity": format(usage.quantity, "f"),
        "events": usage.events,
    }
    return {name: value for name, value in items.items() if value is not None}


class JsonSheet:
    """One object a line."""

    def __init__(self, by: Period | None) -> None:
        self._by = by

    def add(self, usage: Usage) -> None:
        """Write one."""
        typer.echo(encode_json(to_item(usage, self._by)))

    def finish(self) -> None:
        """Nothing is left."""


class CsvSheet:
    """A line of names, then one line for each sum."""

    def __init__(self, by: Period | None) -> None:
        self._by = by
        self._writer: csv.DictWriter[str] | None = None

    def add(self, usage: Usage) -> None:
        """Write one."""
        item = to_item(usage, self._by)
        if self._writer is None:
            self._writer = csv.DictWriter(sys.stdout, list(item), lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerow(item)

    def finish(self) -> None:
        """Nothing is left."""


class TableSheet:
    """Columns for a person, in pages."""

    def __init__(self, by: Period | None) -> None:
        self._by = by
        self._page: list[Usage] = []
        self._console = Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)

    def add(self, usage: Usage) -> None:
        """Write one, with its page."""
        self._page.append(usage)
        if len(self._page) == PAGE:
            self.finish()

    def finish(self) -> None:
        """Write the last page."""
        if self._page:
            self._console.print(to_table(self._page, self._by))
            self._page = []


def to_table(page: Sequence[Usage], by: Period | None) -> Table:
    """Lay sums out in columns, the quantities with their points below each other."""
    quantities = aligned([usage.quantity for usage in page])
    rows = [
        {**to_item(usage, by), "quantity": quantity, "events": f"{usage.events:,}"}
        for usage, quantity in zip(page, quantities, strict=True)
    ]
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        heading = {"projectId": "PROJECT"}.get(name, name.upper())
        justify: Literal["left", "right"] = "right" if name == "events" else "left"
        table.add_column(heading, justify=justify, no_wrap=name in {"quantity", "events"}, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(text)) for text in row.values()))
    return table


def aligned(numbers: Sequence[Decimal]) -> list[str]:
    """Spell numbers in full, and pad them to one width, so that their points stand below each other."""
    parts = [f"{number:,f}".partition(".") for number in numbers]
    left = max(len(whole) for whole, _, _ in parts)
    right = max(len(point + decimals) for _, point, decimals in parts)
    return [whole.rjust(left) + f"{point}{decimals}".ljust(right) for whole, point, decimals in parts]


class ChartSheet:
    """A bar for each period of a customer's metric, then of the next; also for periods between them without usage."""

    def __init__(self, by: Period) -> None:
        self._by = by
        self._series: list[Usage] = []
        self._console = Console(highlight=False)

    def add(self, usage: Usage) -> None:
        """Write one, with its series."""
        if self._series and _series_of(usage) != _series_of(self._series[0]):
            self.finish()
        self._series.append(usage)

    def finish(self) -> None:
        """Write the last series."""
        if self._series:
            self._console.print(Text(plain("  ".join(_series_of(self._series[0])))), style="bold")
            self._console.print(to_chart(self._series, self._by))
            self._console.print()
            self._series = []


def _series_of(usage: Usage) -> list[str]:
    return [name for name in (usage.project_id, usage.email, usage.metric) if name is not None]


def to_chart(series: Sequence[Usage], by: Period) -> Table:
    """Draw one series: bars to the right of what is zero, and to the left for corrections."""
    known = {usage.start: usage.quantity for usage in series if usage.start is not None}
    starts = list(by.through(min(known), max(known)))
    quantities = [known.get(start, _ZERO) for start in starts]
    low, high = min(_ZERO, *quantities), max(_ZERO, *quantities)
    chart = Table.grid(padding=(0, 1), expand=True)
    chart.add_column(no_wrap=True)
    chart.add_column(ratio=1)
    chart.add_column(no_wrap=True)
    for start, quantity, number in zip(starts, quantities, aligned(quantities), strict=True):
        begin, end = sorted((-low, quantity - low))
        # Only what is drawn is rounded.
        chart.add_row(by.spell(start), Bar(float(high - low) or 1, float(begin), float(end)), number)
    return chart
