import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict
from typer.testing import CliRunner, Result

from ingest.auth import Access, Forbidden, Modes
from ingest.credential_files import load_keyring, read_keys
from ingest.keys import app
from ingest.unauthorized import Unauthorized


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("INGEST_API_KEYS_FILE", str(path))
    return path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments), prog_name="usage-ingest keys")
    assert result.exit_code == code, result.output
    return result


def create(*arguments: str) -> str:
    return run("create", *arguments).stdout.removesuffix("\n")


def check(path: Path, key: str, project_id: str, now: datetime | None = None) -> None:
    access = Access(Modes(api_key=True), load_keyring(path))
    access.check_headers(CIMultiDict({"X-API-Key": key}), project_id, now or datetime.now(UTC))


def test_a_created_key_lets_callers_in_for_its_projects(path: Path) -> None:
    key = create("--project", "proj_x", "--project", "proj_y", "--label", "north wind")
    check(path, key, "proj_x")
    check(path, key, "proj_y")
    with pytest.raises(Forbidden):
        check(path, key, "proj_z")
    assert read_keys(path)[0].label == "north wind"


def test_a_key_may_be_for_all_projects(path: Path) -> None:
    check(path, create("--all-projects"), "any")


def test_a_key_expires_after_its_days(path: Path) -> None:
    key = create("--project", "proj_x", "--expires-in-days", "3")
    check(path, key, "proj_x", datetime.now(UTC) + timedelta(days=3, seconds=-9))
    with pytest.raises(Unauthorized):
        check(path, key, "proj_x", datetime.now(UTC) + timedelta(days=3, seconds=9))


def test_only_the_key_is_on_stdout_and_only_its_hash_in_the_file(path: Path) -> None:
    result = run("create", "--project", "proj_x")
    key = result.stdout.strip()
    assert result.stdout == f"{key}\n"
    assert key not in result.stderr
    assert "cannot be shown again" in result.stderr
    assert key.split("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_lets_nobody_in_while_the_others_do(path: Path) -> None:
    first, second = create("--project", "p"), create("--project", "p")
    assert run("revoke", first.split("_")[1]).stdout == ""
    check(path, second, "p")
    with pytest.raises(Unauthorized):
        check(path, first, "p")


def test_the_list_shows_what_there_is_but_no_hashes(path: Path) -> None:
    key = create("--project", "proj_x", "--project", "proj_y", "--label", "north wind", "--expires-in-days", "1")
    create("--all-projects")
    table = run("list").stdout
    assert [line.split()[0] for line in table.splitlines()] == ["ID", *(entry.id for entry in read_keys(path))]
    assert "proj_x,proj_y  north wind" in table
    assert table.rstrip().endswith("never")
    shown: list[dict[str, Any]] = json.loads(run("list", "--json").stdout)
    assert [entry["projects"] for entry in shown] == [["proj_x", "proj_y"], "all"]
    assert [entry["expiresAt"] is None for entry in shown] == [False, True]
    for entry in read_keys(path):
        assert entry.sha256 not in table + json.dumps(shown)
    assert key not in table


def test_a_key_that_has_expired_is_listed_as_such(path: Path) -> None:
    create("--all-projects", "--expires-in-days", "1")
    path.write_text(re.sub(r'(?<="expiresAt": ")[0-9-]{10}', "2001-02-03", path.read_text()))
    assert run("list").stdout.rstrip().endswith("2001-02-03 (expired)")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["create"], "--all-projects"),
        (["create", "--project", "p", "--all-projects"], "--all-projects"),
        (["create", "--project", "a/b"], "must be 1 to 64 letters"),
        (["create", "--project", "p", "--label", "a\nb"], "printable"),
        (["create", "--project", "p", "--expires-in-days", "0"], "--expires-in-days"),
        (["create", "--project", "p", "--expires-in-days", "99999"], "--expires-in-days"),
        (["revoke"], "KEY_ID"),
        (["revoke", "nobodys1"], "has this id"),
        (["rotate"], "rotate"),
    ],
)
def test_wrong_usage_is_told_and_changes_nothing(path: Path, arguments: list[str], hint: str) -> None:
    create("--project", "p")
    before = path.read_bytes()
    result = run(*arguments, code=2)
    assert hint in result.stderr
    assert result.stdout == ""
    assert path.read_bytes() == before


def test_a_whole_key_given_for_its_id_is_not_repeated(path: Path) -> None:
    key = create("--project", "p")
    assert path.exists()
    assert key not in run("revoke", key, code=2).output


def test_without_a_file_the_usage_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGEST_API_KEYS_FILE", raising=False)
    assert "--file" in run("list", code=2).stderr


@pytest.mark.parametrize("arguments", [["create", "--project", "p"], ["list"], ["revoke", "aaaaaaaa"]])
def test_a_broken_file_is_left_alone(path: Path, arguments: list[str]) -> None:
    path.write_text('{"keys": 7}')
    result = run(*arguments, code=78)
    assert result.stderr == f"{path}: keys must be an array of keys\n"
    assert path.read_text() == '{"keys": 7}'


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "aaaaaaaa"], ["create", "--project", "p"]])
def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, arguments: list[str]) -> None:
    assert "No such file" in run(*arguments, "--file", str(tmp_path / "none" / "keys.json"), code=78).stderr


@pytest.mark.parametrize("command", [[], ["create"], ["list"], ["revoke"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    assert "Usage: usage-ingest keys" in run(*command, "--help").stdout


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    # given two processes that each make several keys
    script = "from ingest.keys import app\nfor _ in range(5): app(['create', '--project', 'p'], standalone_mode=False)"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    keys = [key for process in processes for key in process.communicate(timeout=60)[0].split()]
    # then each key that was printed lets its caller in
    assert len(set(keys)) == 10
    for key in keys:
        check(path, key, "p")
