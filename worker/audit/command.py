"""The command that checks the books."""

from functools import partial
from typing import Annotated, Final

import msgspec
import typer

from contract.connection import connect
from contract.event import encode_json
from runtime.supervision import ExitCode
from worker.audit.auditor import Auditor, Look
from worker.audit.report import to_document, to_lines
from worker.audit.verdict import Conclusion, Verdict
from worker.settings import Settings
from worker.tool import patient_database, run_query, tell

_UNBALANCED: Final = 1
_EXIT_CODES: Final = {
    Verdict.BALANCED: ExitCode.STOPPED.value,
    Verdict.UNBALANCED: _UNBALANCED,
    Verdict.UNDER_WAY: ExitCode.FORCED.value,
}


def audit(
    *,
    project: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROJECT",
            help="Compare the totals of this project only; give it again for more. All else is whole.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0, max=3600, metavar="SECONDS", help="How long messages may be under way before they are lost."
        ),
    ] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Each publisher, too.")] = False,
) -> None:
    """Check that nothing was lost or counted twice: every message, every event, every total.

    Takes the worker's settings. A worker that holds messages for longer than --wait looks like a loss.

    Exit codes: 0 the books balance, 1 they do not and what is wrong is named, 2 wrong usage, 70 a bug, 75 undecided,
    for messages are under way or the broker or the database is away, 78 the settings are wrong.
    """
    look, conclusion = run_query(partial(_audit, project or [], wait))
    if json:
        typer.echo(msgspec.json.format(encode_json(to_document(look, conclusion)), indent=2))
    else:
        for line in to_lines(look, conclusion, verbose=verbose):
            typer.echo(line)
    raise typer.Exit(_EXIT_CODES[conclusion.verdict])


async def _audit(projects: list[str], wait: float, settings: Settings) -> tuple[Look, Conclusion]:
    async with patient_database(settings) as database, connect(settings.amqp_url, name="usage-audit") as connection:
        return await Auditor(database, connection, projects).conclude(wait, tell)
