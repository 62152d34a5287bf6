"""The commands that an operator has beside the worker itself, under one name."""

from typing import Final

import typer

from worker.audit.command import audit
from worker.check import command as check_command
from worker.dead_letters.commands import app as dead_letters
from worker.operate import find_command, top_command, totals_command

NAME: Final = "usage-worker"

app = typer.Typer(
    name=NAME,
    help="Store what the queue brings, until SIGTERM: without a command, this is the worker. With one, look at what it "
    "has stored, or works on; every command takes the worker's settings, from WORKER_ variables. "
    "`usage-worker COMMAND --help` has examples and exit codes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(short_help="Is everything there that it needs?", epilog=check_command.EXAMPLES)(check_command.check)
app.command(short_help="Do the books balance?")(audit)
app.add_typer(dead_letters, short_help="What could not be stored: list, show, replay, purge.")
app.command(short_help="What is going on, live.", epilog=top_command.EXAMPLES)(top_command.top)
app.command(short_help="How much was used, exactly.", epilog=totals_command.EXAMPLES)(totals_command.totals)
app.command(short_help="Where one event is.", epilog=find_command.EXAMPLES)(find_command.find)
