import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import ingest.commands
import worker.commands
from tests.support.processes import ROOT

APPS: dict[str, typer.Typer] = {"ingest": ingest.commands.app, "worker": worker.commands.app}
COMMANDS = [
    *(("ingest", command) for command in ("check", "keys")),
    *(("worker", command) for command in ("audit", "check", "dead-letters", "find", "top", "totals")),
]
BOTH = pytest.mark.parametrize("module", ["ingest", "worker"])


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command, which must find neither broker nor database."""
    nowhere = {"INGEST_AMQP_URL": "none", "WORKER_AMQP_URL": "none", "WORKER_MONGODB_URI": "none"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **nowhere, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("module", "command"), COMMANDS)
def test_help_lists_every_command_and_every_command_explains_itself(module: str, command: str) -> None:
    assert f"  {command} " in CliRunner().invoke(APPS[module], ["--help"]).stdout
    shown = CliRunner().invoke(APPS[module], [command, "--help"], prog_name=f"usage-{module}")
    assert shown.exit_code == 0
    assert f"Usage: usage-{module} {command}" in shown.stdout
    assert "Exit codes: 0 " in " ".join(shown.stdout.split())


NOBODYS = "63d46c7e-0bc2-4873-bfe2-b7dcce63eec5"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("list --reason NONSENSE", "NONSENSE"),
        ("list --since 2026-01-31", "offset"),
        ("list --until yesterday", "offset"),
        ("list --limit 0", "--limit"),
        ("list --key 7", "--key"),
        ("show", "KEY"),
        ("show 7", "KEY"),
        (f"show {NOBODYS} --raw --json", "--raw"),
        ("edit", "edit"),
    ],
)
def test_wrong_usage_of_dead_letters_is_told_before_settings_are_read(
    arguments: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_AMQP_URL", "none")
    ended = CliRunner().invoke(APPS["worker"], ["dead-letters", *arguments.split()])
    assert ended.exit_code == 2
    assert hint in ended.stderr


@BOTH
def test_every_flag_of_check_names_its_variable(module: str) -> None:
    shown = CliRunner().invoke(APPS[module], ["check", "--help"]).stdout
    for flag in ("TIMEOUT", "JSON"):
        assert f"{module.upper()}_CHECK_{flag}" in shown


@BOTH
def test_an_unknown_command_is_wrong_usage_and_starts_no_process(module: str) -> None:
    ended = run(module, "totalz")
    assert ended.returncode == 2
    assert "No such command 'totalz'" in ended.stderr


@BOTH
def test_without_a_command_it_is_the_process(module: str) -> None:
    ended = run(module)
    assert ended.returncode == 78
    assert ended.stderr.startswith(f"{module.upper()}_AMQP_URL is wrong")


@pytest.mark.parametrize(("module", "command"), [("ingest", "check"), ("worker", "audit")])
def test_a_shell_that_asks_how_a_line_may_go_on_starts_no_process(module: str, command: str) -> None:
    name = f"_USAGE_{module.upper()}_COMPLETE"
    asked = {name: "complete_bash", "COMP_WORDS": f"usage-{module} {command[0]}", "COMP_CWORD": "1"}
    ended = run(module, **asked)
    assert (ended.returncode, ended.stdout.split()) == (0, [command])
