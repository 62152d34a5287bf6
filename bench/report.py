"""Tables and plots of what was measured, for people."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bench import plots, tables
from bench.results import RESULTS, Part
from bench.tables import table
from bench.targets import Data

README: Final = Path(__file__).parents[1] / "README.md"
BEGIN: Final = "<!-- bench: written by `python -m bench report` -->"
END: Final = "<!-- /bench -->"
PARTS: Final = ("taking", "storing", "pipeline", "growth", "sweep")

PLOTS: Final[Mapping[str, tuple[str, str, Callable[[Data, Path], None]]]] = {
    "taking": ("taking.svg", "requests a second, beside the limit and peers", plots.taking),
    "pipeline": ("latency.svg", "latency and lag against load", plots.latency),
    "growth": ("cost.svg", "CPU time of an event against stored events, and against customers", plots.cost),
}


def write(directory: Path = RESULTS, readme: Path = README) -> str:
    """Write README.md and the plots beside the figures, and the short form into the project's; the table of targets."""
    parts = {name: part for name in PARTS if (part := Part.read(name, directory)) is not None}
    directory.mkdir(exist_ok=True)
    for name, (file, _, draw) in PLOTS.items():
        if name in parts:
            draw(parts[name].data, directory / file)
    (directory / "README.md").write_text("\n\n".join(_sections(parts)) + "\n")
    if parts:
        readme.write_text(embed(readme.read_text(), "\n\n".join(_short(parts))))
    return _targets(parts)


def embed(text: str, what: str) -> str:
    """Put it between the markers, in place of what stands there. Raises ValueError when there are none."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{what}\n{END}{after}"


def _targets(parts: Mapping[str, Part]) -> str:
    return table(tables.targets({name: part.data for name, part in parts.items()}))


def _short(parts: Mapping[str, Part]) -> Iterator[str]:
    yield _targets(parts)
    for name, (file, words, _) in PLOTS.items():
        if name in parts:
            yield f"![{words}](bench/results/{file})"
    there = next(iter(parts.values()))
    machine, dates = there.machine, sorted({part.date[:10] for part in parts.values()})
    yield (
        f"Measured {' and '.join(dates)} on {machine['cores']}, Python {machine['Python']}, RabbitMQ "
        f"{machine['RabbitMQ']}, MongoDB {machine['MongoDB']}: [all tables and figures](bench/results/README.md)."
    )


def _sections(parts: Mapping[str, Part]) -> Iterator[str]:
    yield "# Measured"
    yield "Written by `python -m bench report` from the JSON files beside it, which hold every round."
    yield f"## Targets\n\n{_targets(parts)}"
    for name, part in parts.items():
        yield f"## {TITLES[name]}\n\n`{part.command}`, {part.date} UTC, took {part.seconds:.0f} s. {WORDS[name]}"
        yield from (f"{words}\n\n{table(rows)}".lstrip() for words, rows in _tables(name, part.data) if rows)
        if name in PLOTS:
            file, words, _ = PLOTS[name]
            yield f"![{words}]({file})"
    for machine in {tuple(part.machine.items()): None for part in parts.values()}:
        yield "## Machine\n\n" + table([{"what": name, "": value} for name, value in machine])


TITLES: Final = {
    "taking": "Taking records",
    "storing": "Storing events",
    "pipeline": "From request to stored event",
    "growth": "Cost on top of what is stored",
    "sweep": "Settings",
}
WORDS: Final = {
    "taking": "A closed loop (wrk, one thread); medians of the rounds. µs: CPU for each record.",
    "storing": "What lies in the queue is stored; the limit inserts the same documents with the same durability.",
    "pipeline": "Everything on; µs: CPU for each event, `load` is what sends the requests.",
    "growth": "Medians of the rounds; µs: CPU for each event.",
    "sweep": "One setting at a time, the others at their defaults; the default is bold. µs: CPU for each event of the "
    "process that is set; p99: of a request, or from the 200 to the stored event where the worker waits.",
}


def _tables(name: str, data: Data) -> list[tuple[str, list[tables.Row]]]:
    match name:
        case "taking":
            return [("", tables.taking(data))]
        case "storing":
            return [("", tables.storing(data))]
        case "pipeline":
            return [
                ("At a fixed rate; latency counts from when a request was due.", tables.pipeline(data)),
                ("As fast as the answers come.", tables.saturated(data)),
                ("Ten times what was sustained, between stretches of half of it.", tables.overload(data)),
            ]
        case "growth":
            return [("", tables.growth(data)), ("", tables.customers(data))]
        case _:
            return [("", tables.sweep(data))]
