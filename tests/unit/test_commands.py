import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.support.processes import ROOT
from worker.commands import app

COMMANDS = ("audit", "dead-letters", "find", "top", "totals")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command, which must find neither broker nor database."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "worker", *arguments],
        cwd=ROOT,
        env={**os.environ, "WORKER_AMQP_URL": "none", "WORKER_MONGODB_URI": "none", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert f"  {command} " in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], prog_name="usage-worker")
    assert shown.exit_code == 0
    assert f"Usage: usage-worker {command}" in shown.stdout
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
    ended = CliRunner().invoke(app, ["dead-letters", *arguments.split()])
    assert ended.exit_code == 2
    assert hint in ended.stderr


def test_an_unknown_command_is_wrong_usage_and_starts_no_worker() -> None:
    ended = run("totalz")
    assert ended.returncode == 2
    assert "No such command 'totalz'" in ended.stderr


def test_without_a_command_it_is_the_worker() -> None:
    ended = run()
    assert ended.returncode == 78
    assert "WORKER_AMQP_URL is wrong" in ended.stderr


def test_a_shell_that_asks_how_a_line_may_go_on_starts_no_worker() -> None:
    ended = run(_USAGE_WORKER_COMPLETE="complete_bash", COMP_WORDS="usage-worker a", COMP_CWORD="1")
    assert (ended.returncode, ended.stdout.split()) == (0, ["audit"])
