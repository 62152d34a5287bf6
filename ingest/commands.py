"""The commands that an operator has beside the ingest process itself, under one name."""

from typing import Final

import typer

from ingest import check_command, keys

NAME: Final = "usage-ingest"

app = typer.Typer(
    name=NAME,
    help="Take records over HTTP and put them on the queue, until SIGTERM: without a command, this is ingest. "
    "`usage-ingest COMMAND --help` has examples and exit codes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(short_help="Is everything there that it needs?", epilog=check_command.EXAMPLES)(check_command.check)
app.add_typer(keys.app, short_help="API keys: create, list, revoke.")
