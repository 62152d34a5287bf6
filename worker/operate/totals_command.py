"""The command that tells how much was used."""

from datetime import datetime
from functools import partial
from typing import Annotated, Final

import typer

from worker.operate import arguments
from worker.operate.periods import Period
from worker.operate.usage import Per, Question, read_usage
from worker.operate.usage_view import ChartSheet, CsvSheet, JsonSheet, Sheet, TableSheet
from worker.settings import Settings
from worker.tool import patient_database, run_query, tell

EXAMPLES: Final = """Examples:

\b
  usage-worker totals --project proj_nCBo0AB7UWpj --from 2026-11-01 --to 2026-12-01
  usage-worker totals --project proj_nCBo0AB7UWpj --email amari_koss69@northwind.dev --by day --chart
  usage-worker totals --project proj_nCBo0AB7UWpj --per project --by month --csv > usage.csv
"""


def totals(
    *,
    project: Annotated[
        list[str],
        typer.Option(parser=arguments.project, metavar="PROJECT", help="Of this project; give it again for more."),
    ],
    email: Annotated[
        list[str] | None,
        typer.Option(parser=arguments.email, metavar="EMAIL", help="Of this customer only; give it again for more."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(parser=arguments.metric, metavar="METRIC", help="Of this metric only; give it again for more."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=arguments.hour, metavar="TIME", help="From this hour or date on, in UTC."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", parser=arguments.hour, metavar="TIME", help="Before this hour or date, in UTC."),
    ] = None,
    by: Annotated[
        Period | None, typer.Option(help="A sum for each hour, day or month, in UTC. Default: one for all the time.")
    ] = None,
    per: Annotated[Per, typer.Option(help="A sum for each customer, or for each project.")] = Per.CUSTOMER,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")] = False,
    chart: Annotated[bool, typer.Option("--chart", help="As bars, with --by.")] = False,
) -> None:
    """Tell how much was used, exactly, as the database was at one moment.

    --from is in, --to is out: --from 2026-11-01 --to 2026-12-01 is November. Where it is not given, it is all there is.

    Exit codes: 0 told, also when that is nothing, 2 wrong usage, 75 the database is away, 78 the settings are wrong.
    """
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("it must be later than --from", param_hint="--to")
    question = Question(tuple(project), tuple(email or ()), tuple(metric or ()), since, until, by, per)
    run_query(partial(_tell_all, question, _sheet(by, as_csv=as_csv, as_json=as_json, chart=chart)))


def _sheet(by: Period | None, *, as_csv: bool, as_json: bool, chart: bool) -> Sheet:
    if as_csv + as_json + chart > 1:
        raise typer.BadParameter("only one of these", param_hint="--csv, --json, --chart")
    if chart:
        if by is None:
            raise typer.BadParameter("give --by, too: a chart has a bar for each period", param_hint="--chart")
        return ChartSheet(by)
    return CsvSheet(by) if as_csv else JsonSheet(by) if as_json else TableSheet(by)


async def _tell_all(question: Question, sheet: Sheet, settings: Settings) -> None:
    sums = events = 0
    async with patient_database(settings) as database, database.snapshot() as snapshot:
        async for usage in read_usage(snapshot, question):
            sheet.add(usage)
            sums += 1
            events += usage.events
    sheet.finish()
    tell(f"{sums:,} {'sum' if sums == 1 else 'sums'} of {events:,} {'event' if events == 1 else 'events'}")
