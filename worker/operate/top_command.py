"""The command that shows what is going on."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from yarl import URL

from contract.event import encode_json
from worker.operate.keyboard import heard
from worker.operate.sample import Sample
from worker.operate.sampling import Plan, samples
from worker.operate.screen import UNBOUNDED, draw
from worker.settings import Settings
from worker.tool import run_query

EXAMPLES: Final = """Examples:

\b
  usage-worker top
  usage-worker top --ingest http://127.0.0.1:9101 --worker http://127.0.0.1:9102 --worker http://127.0.0.1:9103
  usage-worker top --json --count 60 --interval 1 > minute.jsonl
"""

INGEST_URL: Final = "http://127.0.0.1:9101"
WORKER_URL: Final = "http://127.0.0.1:9102"

Show = Callable[[Sample], None]
Showing = Callable[[], AbstractContextManager[Show]]


def _base(text: str) -> str:
    try:
        url = URL(text)
        is_fine = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        is_fine = False
    if not is_fine:
        raise typer.BadParameter("it must be a URL, such as http://127.0.0.1:9101")
    return text.rstrip("/")


def top(
    *,
    ingest: Annotated[
        list[str] | None,
        typer.Option(
            parser=_base, metavar="URL", help=f"An ingest's admin port; again for more. Default: {INGEST_URL}"
        ),
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(parser=_base, metavar="URL", help=f"A worker's admin port; again for more. Default: {WORKER_URL}"),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="From look to look.")] = 2.0,
    count: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="End after so many. Default: never on a terminal, else after one."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")] = False,
) -> None:
    """Show what is going on: rates, lag, queues, each process; until q or Ctrl-C.

    Rates, means and percentiles are those of the last interval. What does not answer is shown as away. Unacked are
    the messages that the workers named here hold.

    Exit codes: 0 ended as asked, 2 wrong usage, 78 the settings are wrong.
    """
    is_live = sys.stdout.isatty() and not json
    plan = Plan(ingest or [INGEST_URL], worker or [WORKER_URL], interval, count or (None if is_live else 1))
    run_query(partial(_run, plan, _on_screen if is_live else _as_json if json else _as_text))


async def _run(plan: Plan, showing: Showing, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with showing() as show, heard("q", stop.set):
        async with aclosing(samples(plan, settings.amqp_url, stop)) as taken:
            async for sample in taken:
                show(sample)


@contextmanager
def _on_screen() -> Iterator[Show]:
    with Live(screen=True, auto_refresh=False) as live:
        yield lambda sample: live.update(draw(sample, live.console.width), refresh=True)


@contextmanager
def _as_text() -> Iterator[Show]:
    console = Console(width=UNBOUNDED, highlight=False)
    yield lambda sample: console.print(draw(sample, UNBOUNDED))


@contextmanager
def _as_json() -> Iterator[Show]:
    yield lambda sample: typer.echo(encode_json(sample.to_document()))
