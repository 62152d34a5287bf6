"""The commands for what lies among the dead letters."""

import sys
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import typer

from contract.event import Reason, encode_json
from contract.fields import fold_object_id, parse_timestamp
from worker.dead_letters.selection import Selection, Tally
from worker.dead_letters.tasks import Finding, Listing, Purging, Replaying, Survey
from worker.dead_letters.view import to_full_item, to_page
from worker.tool import run_tool, tell

NOTHING_THERE: Final = 1
"""The exit code when no letter is meant."""

app = typer.Typer(
    name="dead-letters",
    help="Look at what could not be stored, send it once more, or take it away for ever. Takes the worker's settings. "
    "What is only looked at stays where it is. Exit codes: 0 done, 1 there is no such letter, 2 wrong usage, 75 "
    "broker or database are away, or somebody else reads the dead letters: try again, 78 the settings are wrong; "
    "130 after Ctrl-C, 143 after SIGTERM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _moment(text: str) -> datetime:
    try:
        return parse_timestamp(text)
    except ValueError as exc:
        raise typer.BadParameter("it must be a time with its offset, such as 2026-01-31T12:00:00Z") from exc


Projects = Annotated[
    list[str] | None,
    typer.Option("--project", metavar="PROJECT", help="With an event for this project; give it again for more."),
]
Reasons = Annotated[
    list[Reason] | None,
    typer.Option("--reason", metavar="REASON", case_sensitive=False, help="For this reason; give it again for more."),
]
Keys = Annotated[list[UUID] | None, typer.Option("--key", metavar="KEY", help="With this key; give it again for more.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=_moment, metavar="TIME", help="Parked then or later; an UNROUTED one has no time."),
]
Until = Annotated[datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Parked before.")]
All = Annotated[bool, typer.Option("--all", help="Every letter there is.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="As one JSON document.")]


@app.command("list")
def list_(
    *,
    project: Projects = None,
    reason: Reasons = None,
    key: Keys = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Not more than so many.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")] = False,
) -> None:
    """List the letters: oldest first, until somebody has looked at more than a few hundred."""
    run_tool(Listing(_selection(project, reason, key, since, until), limit, json))


@app.command()
def show(
    key: Annotated[UUID, typer.Argument(metavar="KEY", help="As `list` shows it.")],
    *,
    json: Json = False,
    raw: Annotated[bool, typer.Option("--raw", help="The body's bytes, and nothing else.")] = False,
) -> None:
    """Show one letter: what is wrong with it, its headers, its body."""
    if json and raw:
        raise typer.BadParameter("not together with --json", param_hint="--raw")
    letter = run_tool(Finding(Selection(keys=frozenset({key}))))
    if letter is None:
        raise _nothing_there(f"no dead letter has the key {key}")
    if raw:
        typer.echo(letter.body, nl=False)
    elif json:
        typer.echo(encode_json(to_full_item(letter)))
    else:
        for line in to_page(letter):
            typer.echo(line)


@app.command()
def replay(
    *,
    project: Projects = None,
    reason: Reasons = None,
    key: Keys = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Send letters to the worker once more, byte for byte.

    A letter goes when the broker has its message on disk. What is still wrong comes back as another letter. Whatever
    ends this half-way, do it again: nothing counts twice.
    """
    selection = _narrowed(_selection(project, reason, key, since, until), everything=everything)
    _expect_some(run_tool(Survey(selection, json) if dry_run else Replaying(selection, json)))


@app.command()
def purge(
    *,
    project: Projects = None,
    reason: Reasons = None,
    key: Keys = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take letters away for ever; the ledger keeps their keys.

    Shows how many there are of each kind and asks first, unless told --yes.
    """
    selection = _narrowed(_selection(project, reason, key, since, until), everything=everything)
    if dry_run:
        _expect_some(run_tool(Survey(selection, json)))
    elif yes:
        _expect_some(run_tool(Purging(selection, json)))
    else:
        _purge_if_confirmed(selection, json=json)


def _purge_if_confirmed(selection: Selection, *, json: bool) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked", param_hint="--yes")
    shown = run_tool(Survey(selection, json=False, to_stderr=True))
    _expect_some(shown)
    if not _agreed("Purge them for ever?"):
        raise typer.Abort
    # What was parked since then has been shown to nobody.
    run_tool(Purging(selection, json, most=shown.read))


def _agreed(question: str) -> bool:
    # Not by typer.confirm, which writes to stdout.
    typer.echo(f"{question} [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _selection(
    projects: list[str] | None,
    reasons: list[Reason] | None,
    keys: list[UUID] | None,
    since: datetime | None,
    until: datetime | None,
) -> Selection:
    return Selection(
        frozenset(map(fold_object_id, projects or ())),
        frozenset(reasons or ()),
        frozenset(keys or ()),
        since,
        until,
    )


def _narrowed(selection: Selection, *, everything: bool) -> Selection:
    if selection.is_all != everything:
        raise typer.BadParameter("say which letters, or --all", param_hint="--all")
    return selection


def _expect_some(tally: Tally) -> None:
    if not tally.total:
        raise _nothing_there("no dead letter is meant")


def _nothing_there(text: str) -> typer.Exit:
    tell(text)
    return typer.Exit(NOTHING_THERE)
