"""The command that finds one event."""

from functools import partial
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer

from contract.connection import connect
from contract.event import encode_json, event_id
from worker.operate import arguments
from worker.operate.lookup import Found, look_up
from worker.operate.lookup_view import to_document, to_lines
from worker.progress import Progress
from worker.settings import Settings
from worker.tool import patient_database, run_query

EXAMPLES: Final = """Examples:

\b
  usage-worker find d756084a-f7a0-51e2-96e1-80b49e81eaae
  usage-worker find --project proj_nCBo0AB7UWpj --key order-42 --ledger
  usage-worker find d756084a-f7a0-51e2-96e1-80b49e81eaae --json | jq .event.quantity
"""

NOT_STORED: Final = 1


def find(
    event: Annotated[UUID | None, typer.Argument(metavar="EVENT_ID", help="As Usage-Id says it.")] = None,
    *,
    project: Annotated[
        str | None, typer.Option(parser=arguments.project, metavar="PROJECT", help="With --key, in place of the id.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(parser=arguments.key, metavar="KEY", help="The event's idempotency key.")
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Say which message brought it: reads the whole ledger.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Find one event: stored, among the dead letters and why, or neither.

    Reads every dead letter, and leaves it where it is; of messages in the queue only the number can be seen.

    Exit codes: 0 stored, 1 not stored, 2 wrong usage, 75 the broker or the database is away or somebody else reads
    the dead letters, 78 the settings are wrong.
    """
    found = run_query(partial(_find, _identity(event, project, key), with_ledger=ledger, as_json=json))
    if found.document is None:
        raise typer.Exit(NOT_STORED)


def _identity(event: UUID | None, project: str | None, key: str | None) -> UUID:
    match event, project, key:
        case UUID(), None, None:
            return event
        case None, str(), str():
            return event_id(project, key)
    raise typer.BadParameter("give an event's id, or --project and --key", param_hint="EVENT_ID")


async def _find(wanted: UUID, settings: Settings, *, with_ledger: bool, as_json: bool) -> Found:
    progress = Progress()

    def pace(done: int, total: int) -> bool:
        progress.note(done, total)
        return True

    try:
        async with patient_database(settings) as database, connect(settings.amqp_url, name="usage-find") as connection:
            found = await look_up(wanted, database, connection, pace, with_ledger=with_ledger)
    finally:
        progress.close()
    if as_json:
        typer.echo(msgspec.json.format(encode_json(to_document(found)), indent=2))
    else:
        for line in to_lines(found):
            typer.echo(line)
    return found
