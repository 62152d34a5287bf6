"""The command `check`, for either process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import structlog
import typer

from contract.event import encode_json
from preflight.check import Check, exit_code_of
from preflight.report import to_document, to_lines, to_verdict
from preflight.variables import find_strangers, read_settings
from runtime import logs
from runtime.settings import SettingsT
from runtime.supervision import ExitCode

Look = Callable[[SettingsT, float], Awaitable[list[Check]]]
"""Looks at everything that a process needs, from its settings, for so many seconds at each that does not answer."""

log = structlog.get_logger(__name__)


def make_command(kind: type[SettingsT], look: Look[SettingsT]) -> Callable[..., None]:
    """Return the function behind the command."""
    prefix = kind.model_config.get("env_prefix", "")
    timeout_variable, json_variable = f"{prefix}CHECK_TIMEOUT", f"{prefix}CHECK_JSON"

    def check(
        *,
        timeout: Annotated[
            float,
            typer.Option(
                min=0.1,
                max=60,
                metavar="SECONDS",
                envvar=timeout_variable,
                help="How long to wait for each dependency.",
            ),
        ] = 5.0,
        json: Annotated[bool, typer.Option("--json", envvar=json_variable, help="As one JSON document.")] = False,
    ) -> None:
        """Check everything that the process needs, and say how to mend what is not as it should be.

        Takes the process's settings, and changes nothing: it can be run beside a process that works, or before a first
        start, when what is missing and made at a start is no fault.

        Exit codes: 0 all is well, warnings included; 75 something is away, and the process would wait for it;
        78 something is wrong until somebody mends it, also when something is away as well; 2 wrong usage, 70 a bug.
        """
        settings, checks = read_settings(kind)
        checks += find_strangers(kind, {timeout_variable, json_variable})
        secrets = settings.secrets() if settings else frozenset[str]()
        if settings:
            logs.configure(settings.log_level, secrets=secrets)
            checks += _run(look(settings, timeout))
        if json:
            typer.echo(msgspec.json.format(encode_json(to_document(checks, secrets)), indent=2))
        else:
            for line in to_lines(checks, secrets):
                typer.echo(line)
        typer.echo(to_verdict(checks), err=True)
        raise typer.Exit(exit_code_of(checks).value)

    return check


def _run(looking: Awaitable[list[Check]]) -> list[Check]:
    async def look() -> list[Check]:
        return await looking

    try:
        return asyncio.run(look())
    except Exception as exc:
        # Not as Python would end, by 1: no exit code of ours is a traceback's.
        log.exception("unexpected error")
        raise typer.Exit(ExitCode.UNEXPECTED.value) from exc
