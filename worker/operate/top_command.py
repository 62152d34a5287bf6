"""The command that shows what is going on."""

import sys
from functools import partial
from typing import Annotated, Final

import typer
from yarl import URL

from worker.tool import run_query

EXAMPLES: Final = """Examples:

\b
  usage-worker top
  usage-worker top --ingest http://127.0.0.1:9101 --worker http://127.0.0.1:9102 --worker http://127.0.0.1:9103
  usage-worker top --json --count 60 --interval 1 > minute.jsonl
"""

INGEST_URL: Final = "http://127.0.0.1:9101"
WORKER_URL: Final = "http://127.0.0.1:9102"


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
    # With an HTTP client, which no other command needs to load.
    from worker.operate import showing  # noqa: PLC0415
    from worker.operate.sampling import Plan  # noqa: PLC0415

    is_live = sys.stdout.isatty() and not json
    plan = Plan(ingest or [INGEST_URL], worker or [WORKER_URL], interval, count or (None if is_live else 1))
    shown = showing.on_screen if is_live else showing.as_json if json else showing.as_text
    run_query(partial(showing.run, plan, shown))
