import asyncio
import json
import os
import signal
from base64 import b64encode
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import SettingsConfigDict
from structlog.testing import capture_logs

from ingest.api_keys import digest_of, spell_key
from ingest.auth import Modes
from ingest.credential_files import (
    SECRETS_PER_PROJECT,
    CredentialsUnusable,
    KeyEntry,
    editing_keys,
    load_keyring,
    load_secrets,
    read_keys,
)
from ingest.credentials import AuthModes, Credentials
from runtime.settings import ProcessSettings, load
from runtime.supervision import Misconfigured
from tests.support.waiting import eventually

KEY = spell_key("aaaaaaaa", "1" * 43)
HASH = digest_of(KEY).hex()
ENTRY: dict[str, Any] = {
    "id": "aaaaaaaa",
    "sha256": HASH,
    "projects": ["proj_x", "65A1B2C3D4E5F6A7B8C9D0E1"],
    "label": "north wind",
    "createdAt": "2026-01-31T12:00:00Z",
    "expiresAt": "2026-02-28T13:00:00+01:00",
}
SECRET = f"whsec_{b64encode(b'geheim' * 5).decode()}"
SECRET_ENTRY: dict[str, Any] = {"name": "gateway", "project": "proj_x", "secret": SECRET}


def write(path: Path, content: object) -> Path:
    """As an editor that replaces the file does."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return draft.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def test_a_file_of_keys_is_read(path: Path) -> None:
    forever = {name: ENTRY[name] for name in ("sha256", "createdAt")} | {"id": "bbbbbbbb", "projects": "all"}
    keys = load_keyring(write(path, {"keys": [ENTRY, forever]})).keys
    assert keys["aaaaaaaa"].digest == digest_of(KEY)
    assert keys["aaaaaaaa"].projects == frozenset({"proj_x", "65a1b2c3d4e5f6a7b8c9d0e1"})
    assert keys["aaaaaaaa"].expires_at == datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert (keys["bbbbbbbb"].projects, keys["bbbbbbbb"].expires_at) == (None, None)


def test_a_file_of_secrets_is_read(path: Path) -> None:
    bare = f"whsec_{b64encode(bytes(25)).decode().rstrip('=')}"
    second = {"name": "next", "project": "proj_x", "secret": bare, "expiresAt": "2026-02-28T12:00:00Z"}
    secrets = load_secrets(write(path, {"secrets": [SECRET_ENTRY, second]})).by_project["proj_x"]
    assert [(secret.id, secret.key) for secret in secrets] == [("gateway", b"geheim" * 5), ("next", bytes(25))]
    assert not secrets[1].is_live(datetime(2026, 2, 28, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b'{"keys": [', "is not JSON: wrong at line 1 column 10"),
        (f'{{"{KEY}": 1, "{KEY}": 2}}'.encode(), "is not JSON"),
        (b"\xff", "is not JSON"),
        ([], "the whole must be a JSON object"),
        ({}, "keys is required: it must be an array of keys"),
        ({"keys": {}}, "keys must be an array of keys"),
        ({"keys": [7]}, "keys[0] must be a JSON object"),
        ({"keys": [], "key": []}, "key is not a known field"),
        ({"keys": [ENTRY | {KEY: 1}]}, "keys[0].(a field) is not a known field"),
        ({"keys": [ENTRY, ENTRY]}, "keys[1].id must not be that of keys[0]"),
        ({"keys": [ENTRY | {"sha256": KEY}]}, "keys[0].sha256 must be 64 hexadecimal digits in lower case"),
        ({"keys": [ENTRY | {"sha256": None}]}, "keys[0].sha256 must be 64"),
        ({"keys": [ENTRY | {"id": KEY}]}, "keys[0].id must be 8 letters or digits"),
        ({"keys": [ENTRY | {"projects": []}]}, 'keys[0].projects must be "all" or an array'),
        ({"keys": [ENTRY | {"projects": [KEY * 2]}]}, 'keys[0].projects must be "all" or an array'),
        ({"keys": [ENTRY | {"projects": "proj_x"}]}, 'keys[0].projects must be "all" or an array'),
        ({"keys": [ENTRY | {"label": KEY * 2}]}, "keys[0].label must be a string of at most 100"),
        ({"keys": [ENTRY | {"label": "a\nb"}]}, "keys[0].label must be a string of at most 100"),
        ({"keys": [ENTRY | {"createdAt": 7}]}, "keys[0].createdAt must be an RFC 3339 time"),
        ({"keys": [ENTRY | {"expiresAt": KEY}]}, "keys[0].expiresAt must be an RFC 3339 time"),
        ({"keys": [ENTRY | {"expires_at": "2026-02-28T12:00:00Z"}]}, "keys[0].expires_at is not a known field"),
        ({"keys": [1, 2, 3, 4, 5]}, "; and 2 more"),
    ],
)
def test_a_broken_file_of_keys_is_refused_with_a_sentence_that_quotes_nothing(
    path: Path, content: object, sentence: str
) -> None:
    with pytest.raises(CredentialsUnusable) as error:
        load_keyring(write(path, content))
    assert sentence in str(error.value)
    assert str(error.value).startswith(str(path))
    assert error.value.__cause__ is None
    assert KEY[:20] not in str(error.value)
    assert HASH not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"secrets": [SECRET_ENTRY | {"secret": SECRET[6:]}]}, "secrets[0].secret must be whsec_ with the Base64"),
        ({"secrets": [SECRET_ENTRY | {"secret": SECRET + "!"}]}, "secrets[0].secret must be whsec_"),
        ({"secrets": [SECRET_ENTRY | {"secret": "whsec_AAAA"}]}, "of 24 to 64 bytes"),
        ({"secrets": [SECRET_ENTRY | {"secret": "whsec_" + "A" * 88}]}, "of 24 to 64 bytes"),
        ({"secrets": [SECRET_ENTRY, SECRET_ENTRY]}, "secrets[1].name must not be that of secrets[0]"),
        ({"secrets": [SECRET_ENTRY | {"name": ""}]}, "secrets[0].name must be 1 to 64"),
        ({"secrets": [SECRET_ENTRY | {"project": "a/b"}]}, "secrets[0].project must be 1 to 64"),
        (
            {"secrets": [SECRET_ENTRY, SECRET_ENTRY | {"name": "b", "project": "proj_y"}]},
            "secrets[1].secret must not be that of secrets[0]",
        ),
        (
            {
                "secrets": [
                    SECRET_ENTRY | {"name": f"n{n}", "secret": f"whsec_{b64encode(bytes([n] * 24)).decode()}"}
                    for n in range(SECRETS_PER_PROJECT + 1)
                ]
            },
            "one of more than 8 for a project",
        ),
    ],
)
def test_a_broken_file_of_secrets_is_refused_with_a_sentence_that_quotes_nothing(
    path: Path, content: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CredentialsUnusable) as error:
        load_secrets(write(path, content))
    assert sentence in str(error.value)
    assert SECRET[6:20] not in str(error.value)


def test_an_entry_does_not_show_its_hash(path: Path) -> None:
    assert HASH not in repr(read_keys(write(path, {"keys": [ENTRY]})))


class AuthSettings(ProcessSettings):
    model_config = SettingsConfigDict(env_prefix="INGEST_")

    auth: AuthModes = Modes(open=True)


def test_the_setting_is_a_comma_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(load(AuthSettings).auth) == "open"
    monkeypatch.setenv("INGEST_AUTH", "api-key, open")
    assert load(AuthSettings).auth == Modes(open=True, api_key=True)


def test_a_wrong_word_in_the_setting_is_answered_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_AUTH", "opn")
    with pytest.raises(Misconfigured, match=r"^INGEST_AUTH is wrong: .*word 1 is none of them; did you mean open\?$"):
        load(AuthSettings)


@pytest.mark.parametrize("mode", ["api-key", "signature"])
def test_a_mode_without_a_usable_file_is_a_misconfiguration(mode: str, tmp_path: Path) -> None:
    setting = {"api-key": "api_keys_file", "signature": "signing_secrets_file"}[mode]
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    modes = Modes.parse(f"open,{mode}")
    with pytest.raises(Misconfigured, match=f"^INGEST_AUTH has {mode}, so INGEST_{setting.upper()} is needed"):
        Credentials(modes)
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), (broken, "is not JSON")):
        with pytest.raises(Misconfigured, match=f"^INGEST_{setting.upper()} cannot be used: .*{why}"):
            Credentials(modes, **{setting: path})


def test_the_file_of_a_mode_that_is_off_is_not_looked_at(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    credentials = Credentials(Modes(open=True), api_keys_file=missing, signing_secrets_file=missing)
    assert credentials.access.modes == Modes(open=True)


BOTH = Modes(api_key=True, signature=True)


@asynccontextmanager
async def watched(tmp_path: Path, *, seconds: float = 0.01) -> AsyncIterator[Credentials]:
    """Credentials of one key and one secret, looked after."""
    keys = write(tmp_path / "keys.json", {"keys": [ENTRY]})
    secrets = write(tmp_path / "secrets.json", {"secrets": [SECRET_ENTRY]})
    credentials = Credentials(BOTH, api_keys_file=keys, signing_secrets_file=secrets)
    async with credentials.watching(seconds=seconds):
        yield credentials


async def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as credentials:
        before = credentials.access
        write(tmp_path / "keys.json", {"keys": []})
        await eventually(lambda: not credentials.access.keyring.keys)
        write(tmp_path / "secrets.json", {"secrets": [SECRET_ENTRY | {"project": "proj_y"}]})
        await eventually(lambda: "proj_y" in credentials.access.secrets.by_project)
    assert before.keyring.keys, "a request under way keeps what it began with"


async def test_a_file_that_is_edited_in_place_within_its_size_is_read_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as credentials:
        path = tmp_path / "keys.json"
        path.write_text(path.read_text().replace("proj_x", "proj_y"))
        await eventually(lambda: credentials.access.keyring.keys["aaaaaaaa"].covers("proj_y"))


@pytest.mark.parametrize("broken", [b"{", None])
async def test_a_file_that_breaks_changes_nothing_and_is_told_of_once(tmp_path: Path, broken: bytes | None) -> None:
    path = tmp_path / "keys.json"
    with capture_logs() as logs:
        async with watched(tmp_path) as credentials:
            # when one file breaks, and the other one changes after it
            path.unlink() if broken is None else write(path, broken)
            await eventually(lambda: logs)
            write(tmp_path / "secrets.json", {"secrets": []})
            await eventually(lambda: not credentials.access.secrets.by_project)
            # then the old keys stay in use
            assert set(credentials.access.keyring.keys) == {"aaaaaaaa"}
            # and when it is whole again, it is read
            write(path, {"keys": []})
            await eventually(lambda: not credentials.access.keyring.keys)
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["setting"] for line in warnings] == ["INGEST_API_KEYS_FILE"]
    assert HASH not in repr(logs)


async def test_a_hangup_has_the_files_read_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path, seconds=3600) as credentials:
        write(tmp_path / "keys.json", {"keys": []})
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: not credentials.access.keyring.keys)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


async def test_a_bug_in_reading_a_file_turns_nobody_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        async with watched(tmp_path) as credentials:
            with monkeypatch.context() as patch:
                patch.setattr(Credentials, "_refresh", lambda *_, **__: 1 // 0)
                await eventually(lambda: logs)
            assert credentials.access.keyring.keys
            write(tmp_path / "keys.json", {"keys": []})
            await eventually(lambda: not credentials.access.keyring.keys)
    assert logs[0]["log_level"] == "error"


async def test_without_files_nothing_is_watched() -> None:
    before = asyncio.all_tasks()
    async with Credentials(Modes(open=True)).watching():
        assert asyncio.all_tasks() == before
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def entry(**changes: Any) -> KeyEntry:
    return KeyEntry.model_validate(ENTRY | changes)


def test_what_was_written_is_read_as_it_was(path: Path) -> None:
    entries = [entry(), entry(id="bbbbbbbb", projects="all", expiresAt=None)]
    with editing_keys(path, create=True) as keys:
        keys.extend(entries)
    assert read_keys(path) == entries


def test_a_file_that_does_not_exist_is_made_only_when_asked_for(path: Path) -> None:
    with pytest.raises(CredentialsUnusable, match="No such file"), editing_keys(path):
        pytest.fail("nothing to edit")
    assert not path.exists()


@pytest.mark.parametrize(("before", "after"), [(None, 0o600), (0o644, 0o600), (0o640, 0o640), (0o400, 0o600)])
def test_a_written_file_is_for_its_owner_unless_a_group_was_let_in(path: Path, before: int | None, after: int) -> None:
    if before is not None:
        write(path, {"keys": []}).chmod(before)
    with editing_keys(path, create=True) as keys:
        keys.append(entry())
    assert path.stat().st_mode & 0o777 == after


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_written_file_keeps_its_owner(path: Path) -> None:
    os.chown(write(path, {"keys": []}), 1234, 4321)
    with editing_keys(path) as keys:
        keys.append(entry())
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    path.symlink_to(write(tmp_path / "real.json", {"keys": []}))
    with editing_keys(path) as keys:
        keys.append(entry())
    assert path.is_symlink()
    assert len(read_keys(tmp_path / "real.json")) == 1


def test_an_edit_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, {"keys": [ENTRY]})
    before = path.read_bytes()
    with pytest.raises(RuntimeError), editing_keys(path):
        raise RuntimeError

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsUnusable, match="cannot be written: No space left"), editing_keys(path) as keys:
        keys.clear()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_edits_at_the_same_time_are_all_kept(path: Path) -> None:
    def add(number: int) -> None:
        with editing_keys(path, create=True) as keys:
            keys.append(entry(id=f"{number:08}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    assert len(read_keys(path)) == 40


def test_the_expiry_of_a_key_is_kept_to_the_millisecond(path: Path) -> None:
    moment = datetime(2026, 2, 28, tzinfo=UTC) + timedelta(milliseconds=123)
    with editing_keys(path, create=True) as keys:
        keys.append(entry(expiresAt=moment.isoformat()))
    assert load_keyring(path).keys["aaaaaaaa"].expires_at == moment
