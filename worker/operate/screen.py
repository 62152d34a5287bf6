"""A sample of a running system, drawn for a terminal of any width."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from yarl import URL

from runtime.plain import plain
from worker.operate.numbers import INGEST, WORKER, Number
from worker.operate.sample import Process, Sample
from worker.operate.sources import Away, Queues

GAP: Final = 2
UNBOUNDED: Final = 1000
"""Columns of what is no terminal."""


def draw(sample: Sample, width: int) -> RenderableType:
    """Return what is to be printed in so many columns."""
    return Group(
        _broker_line(sample),
        "",
        _table("INGEST", sample.ingest, INGEST, width),
        "",
        _table("WORKER", sample.worker, WORKER, width),
    )


def _broker_line(sample: Sample) -> Text:
    line = Text(f"{sample.at:%H:%M:%S}Z  ", overflow="fold")
    match sample.broker:
        case Away(why):
            return line.append(f"broker away: {plain(why)}", "red")
        case Queues(ready, consumers, dead_letters):
            line.append(f"ready {ready:,}  unacked {sample.unsettled:,}  consumers {consumers}  ")
            return line.append(f"dead letters {dead_letters:,}", "yellow" if dead_letters else "")


def _table(title: str, processes: Sequence[Process], numbers: Sequence[Number], width: int) -> Table:
    """One line for each process; the numbers that do not fit are left out, the least important first."""
    names = [title, *(_name_of(one.url) for one in processes)]
    states = ["STATE", *(one.state for one in processes)]
    columns = [[number.heading, *(_cell(one, number) for one in processes)] for number in numbers]
    left = width - _width(names) - GAP - min(_width(states), width // 2)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("STATE", overflow="fold")
    shown = []
    for column in columns:
        left -= GAP + _width(column)
        if left < 0:
            break
        table.add_column(column[0], justify="right", no_wrap=True)
        shown.append(column)
    for row, process in enumerate(processes, 1):
        style = "" if states[row] == "ready" else "red"
        table.add_row(_name_of(process.url), Text(plain(states[row]), style), *(column[row] for column in shown))
    return table


def _name_of(url: str) -> str:
    address = URL(url)
    return f"{address.host}:{address.port}"


def _width(cells: Sequence[str]) -> int:
    return max(map(len, cells))


def _cell(process: Process, number: Number) -> str:
    if isinstance(process.window, Away):
        return ""
    value = number.read(process.window)
    return "-" if value is None else number.spell(value)
