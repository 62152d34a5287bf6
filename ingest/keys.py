"""The command that manages API keys."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from pydantic import ValidationError

from contract.event import encode_json
from contract.fields import format_timestamp
from ingest.api_keys import BASE62, KEY_ID_LENGTH, digest_of, spell_key
from ingest.credential_files import RULES, CredentialsUnusable, KeyEntry, editing_keys, read_keys
from runtime.supervision import ExitCode

SECRET_LENGTH: Final = 43
"""Letters and digits: 256 bits."""

MOST_DAYS: Final = 36500
_TABLE: Final = ("ID", "PROJECTS", "LABEL", "CREATED", "EXPIRES")

app = typer.Typer(
    name="keys",
    help="Create, list and revoke the API keys that INGEST_AUTH=api-key asks for. A running ingest sees a change "
    "within about a second. Exit codes: 0 done, 2 wrong usage, 78 the file cannot be used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

KeysFileOption = Annotated[
    Path,
    typer.Option("--file", metavar="PATH", envvar="INGEST_API_KEYS_FILE", help="The file of keys.", show_default=False),
]


@app.command()
def create(
    *,
    file: KeysFileOption,
    project: Annotated[
        list[str] | None, typer.Option(metavar="PROJECT", help="A project it may record for; give it again for more.")
    ] = None,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="It may record for every project.")] = False,
    label: Annotated[str, typer.Option(metavar="TEXT", help="What the key is for, or whose it is.")] = "",
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=MOST_DAYS, metavar="N", help="Days until it expires. Default: never.")
    ] = None,
) -> None:
    """Make a new key and print it, this once: only its hash is kept.

    The file is created if it does not exist. To rotate: create a second key, move the callers, revoke the first.
    """
    if bool(project) == all_projects:
        raise typer.BadParameter("say which projects the key is for, or --all-projects", param_hint="--project")
    now = datetime.now(UTC)
    expires_at = None if expires_in_days is None else now + timedelta(days=expires_in_days)
    with _refusing(), editing_keys(file, create=True) as entries:
        taken = {entry.id for entry in entries}
        key_id = next(name for name in iter(lambda: _random(KEY_ID_LENGTH), "") if name not in taken)
        key = spell_key(key_id, _random(SECRET_LENGTH))
        entries.append(
            _entry(
                id=key_id,
                sha256=digest_of(key).hex(),
                projects="all" if all_projects else project,
                label=label,
                createdAt=format_timestamp(now),
                expiresAt=None if expires_at is None else format_timestamp(expires_at),
            )
        )
    typer.echo(f"Key {key_id} is in {file}. Keep what is printed now: it cannot be shown again.", err=True)
    typer.echo(key)


@app.command("list")
def show(
    *, file: KeysFileOption, json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False
) -> None:
    """Show the keys there are: all but their hashes."""
    with _refusing():
        entries = read_keys(file)
    if json:
        content = [entry.model_dump(by_alias=True, exclude={"sha256"}) for entry in entries]
        typer.echo(msgspec.json.format(encode_json(content), indent=2))
        return
    now = datetime.now(UTC)
    for line in _columns([_TABLE, *(_row(entry, now) for entry in entries)]):
        typer.echo(line)


@app.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help=f"The {KEY_ID_LENGTH} characters after 'usage_' in the key.")
    ],
    *,
    file: KeysFileOption,
) -> None:
    """Take a key out of the file, for ever."""
    with _refusing(), editing_keys(file) as entries:
        kept = [entry for entry in entries if entry.id != key_id]
        if len(kept) == len(entries):
            # Without what was given: it may be a whole key.
            raise typer.BadParameter(f"no key in {file} has this id; `list` shows those there are", param_hint="KEY_ID")
        entries[:] = kept
    typer.echo(f"Key {key_id} is revoked.", err=True)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except CredentialsUnusable as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(ExitCode.MISCONFIGURED) from exc


def _entry(**fields: Any) -> KeyEntry:
    try:
        return KeyEntry.model_validate(fields)
    except ValidationError as exc:
        name = "label" if exc.errors()[0]["loc"][0] == "label" else "project"
        raise typer.BadParameter(RULES[name], param_hint=f"--{name}") from None


def _random(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))


def _row(entry: KeyEntry, now: datetime) -> tuple[str, ...]:
    return (
        entry.id,
        entry.projects if isinstance(entry.projects, str) else ",".join(entry.projects),
        entry.label or "-",
        f"{entry.created_at:%Y-%m-%d}",
        _expiry(entry.expires_at, now),
    )


def _expiry(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    return f"{moment:%Y-%m-%d}" + (" (expired)" if moment <= now else "")


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
