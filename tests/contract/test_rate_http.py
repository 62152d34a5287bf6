"""Rate limits, as the real ingest keeps them and tells of them."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from contract.fields import format_timestamp
from ingest.api_keys import digest_of, spell_key
from tests.contract.live import Ingest, Tap, running_ingest, without_errors
from tests.contract.raw import Answer, post, raw
from tests.support.pair import EXAMPLE
from tests.support.waiting import eventually

KEYS = ["error", "code", "details", "timestamp", "path", "requestId"]
RECORD = json.dumps(EXAMPLE).encode()
BAD = json.dumps({**EXAMPLE, "quantity": -1}).encode()


@dataclass(frozen=True)
class Policy:
    """A limit as the process was started with it: so many records at once, and seconds to regain one of them."""

    name: str
    burst: int
    seconds: int

    @property
    def settings(self) -> dict[str, str]:
        return {f"rate_per_{self.name}": str(1 / self.seconds), f"burst_per_{self.name}": str(self.burst)}


PROJECT = Policy("project", burst=5, seconds=20)
BRISK_PROJECT = Policy("project", burst=5, seconds=5)
CREDENTIAL = Policy("credential", burst=5, seconds=20)
NARROW_PROJECT = Policy("project", burst=3, seconds=20)
ONE_MORE = range(10, 21)
"""Seconds until one record more may pass, of the 20 that it takes; a test may have taken a few of them."""


@pytest.fixture(scope="module")
async def running_limited(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    async with running_ingest(fresh_broker, tmp_path_factory, "limited", PROJECT.settings) as ingest:
        yield ingest


@pytest.fixture
async def limited(running_limited: Ingest) -> AsyncIterator[Ingest]:
    """Ingest with a limit for each project."""
    async with without_errors(running_limited.process):
        yield running_limited


@pytest.fixture
async def brisk(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    """Ingest with a limit for each project for whose end a test can wait."""
    running = running_ingest(fresh_broker, tmp_path_factory, "brisk", BRISK_PROJECT.settings)
    async with running as ingest, without_errors(ingest.process):
        yield ingest


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten keys for every project."""
    entries = [
        {
            "id": key.split("_")[1],
            "sha256": digest_of(key).hex(),
            "projects": "all",
            "createdAt": format_timestamp(datetime.now(UTC)),
        }
        for key in map(key_of, range(10))
    ]
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps({"keys": entries}))
    return path


def key_of(n: int) -> str:
    return spell_key(f"{n:08}", f"{n:043}")


@pytest.fixture(scope="module")
async def running_metered(
    fresh_broker: str, keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ingest]:
    settings = {
        "auth": "open,api-key",
        "api_keys_file": str(keys_file),
        **CREDENTIAL.settings,
        **NARROW_PROJECT.settings,
    }
    async with running_ingest(fresh_broker, tmp_path_factory, "metered", settings) as ingest:
        yield ingest


@pytest.fixture
async def metered(running_metered: Ingest) -> AsyncIterator[Ingest]:
    """Ingest with a limit for each credential, and a narrower one for each project."""
    async with without_errors(running_metered.process):
        yield running_metered


@pytest.fixture
def project() -> str:
    """A project of the test's own, which has sent nothing yet."""
    return new_project()


def new_project() -> str:
    return f"proj_{uuid4().hex[:12]}"


def path_of(project: str) -> str:
    return f"/api/billing/public/projects/{project}/usage"


async def record(ingest: Ingest, project: str, *lines: str, body: bytes = RECORD) -> Answer:
    return await ingest.send(post(body, *lines, path=path_of(project)))


async def batch(ingest: Ingest, project: str, *bodies: bytes, lines: tuple[str, ...] = ()) -> Answer:
    body = b'{"events": [' + b",".join(bodies) + b"]}"
    return await ingest.send(post(body, *lines, path=f"{path_of(project)}/batch"))


def assert_limited(answer: Answer, policy: Policy, *, wait: range, path: str | None = None) -> dict[str, Any]:
    """Check what a client is told; `wait` is in seconds."""
    assert answer.status == 429, answer
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    seconds = int(answer.headers["retry-after"])
    assert seconds in wait
    window = policy.burst * policy.seconds
    assert answer.headers["ratelimit-policy"] == f'"{policy.name}";q={policy.burst};w={window}'
    prefix, left, after = answer.headers["ratelimit"].split(";")
    assert (prefix, after) == (f'"{policy.name}"', f"t={seconds}")
    assert 0 <= int(left.removeprefix("r=")) <= policy.burst
    body = answer.json
    assert list(body) == KEYS
    assert body["code"] == "RATE_LIMITED"
    assert body["error"]
    assert body["details"] == {}
    assert path is None or body["path"] == path
    assert answer.headers["x-request-id"] == body["requestId"]
    assert "usage-id" not in answer.headers
    return body


async def test_without_a_setting_there_is_no_limit(ingest: Ingest, project: str) -> None:
    answers = [await batch(ingest, project, *[RECORD] * 1000) for _ in range(3)]
    answers += await asyncio.gather(*(record(ingest, project) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert not any(name.startswith("ratelimit") for answer in answers for name in answer.headers)


async def test_a_burst_passes_and_what_is_beyond_is_told_when_to_come_back(
    limited: Ingest, tap: Tap, project: str
) -> None:
    answers = await asyncio.gather(*(record(limited, project) for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    answer = await record(limited, project, body=RECORD.replace(b"program", b"refused"))
    body = assert_limited(answer, PROJECT, wait=ONE_MORE, path=path_of(project))
    assert answer.headers["ratelimit"].split(";")[1] == "r=0"
    assert project not in body["error"]
    # and nothing of it was published
    barrier = new_project()
    assert (await record(limited, barrier)).status == 200
    await tap.shows(barrier)
    assert not tap.shown("refused quantify")


async def test_who_waits_as_long_as_told_passes(brisk: Ingest, project: str) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    assert (await batch(brisk, project, *[RECORD] * 5)).status == 200
    answer = await record(brisk, project)
    told = clock()
    assert_limited(answer, BRISK_PROJECT, wait=range(1, 6))
    seconds = int(answer.headers["retry-after"])

    async def passes() -> bool:
        waited = clock() - told
        is_let_in = (await record(brisk, project)).status == 200
        assert is_let_in or waited < seconds
        return is_let_in

    await eventually(passes, what="the limit to let a record pass", every=0.1)
    assert clock() - began >= BRISK_PROJECT.seconds
    assert_limited(await record(brisk, project), BRISK_PROJECT, wait=range(1, 6))


async def test_the_connection_of_who_is_limited_stays_open(limited: Ingest, project: str) -> None:
    assert (await batch(limited, project, *[RECORD] * 5)).status == 200
    async with raw(limited.port) as connection:
        for name, status in [(project, 429), (project, 429), (new_project(), 200)]:
            await connection.write(post(RECORD, path=path_of(name)))
            answer = await connection.answer()
            assert (answer.status, answer.headers.get("connection")) == (status, None)


async def test_projects_do_not_share_a_limit(limited: Ingest) -> None:
    for _ in range(3):
        project = new_project()
        assert (await batch(limited, project, *[RECORD] * 5)).status == 200
        assert_limited(await record(limited, project), PROJECT, wait=ONE_MORE)


async def test_a_project_of_24_hexadecimal_digits_has_one_limit_in_either_case(limited: Ingest) -> None:
    project = f"abcdef{uuid4().hex[:18]}"
    assert (await batch(limited, project.upper(), *[RECORD] * 5)).status == 200
    assert_limited(await record(limited, project), PROJECT, wait=ONE_MORE)


async def test_a_batch_counts_its_records(limited: Ingest, project: str) -> None:
    assert (await batch(limited, project, *[RECORD] * 4)).status == 200
    path = f"{path_of(project)}/batch"
    # four more need three more than there is
    assert_limited(await batch(limited, project, *[RECORD] * 4), PROJECT, wait=range(30, 61), path=path)
    assert (await record(limited, project)).status == 200


async def test_what_is_wrong_is_not_counted(limited: Ingest, project: str) -> None:
    for _ in range(6):
        assert (await record(limited, project, body=BAD)).status == 400
        assert (await record(limited, project, body=b"no")).status == 400
        assert (await batch(limited, project, BAD, BAD)).status == 400
    answer = await batch(limited, project, *[RECORD] * 4, *[BAD] * 20)
    assert (answer.status, answer.json["accepted"]) == (200, 4)
    assert (await record(limited, project)).status == 200
    assert_limited(await record(limited, project), PROJECT, wait=ONE_MORE)


async def test_what_is_wrong_is_said_before_who_sends_too_much_is_sent_away(limited: Ingest, project: str) -> None:
    assert (await batch(limited, project, *[RECORD] * 5)).status == 200
    assert (await record(limited, project, body=BAD)).status == 400


async def test_who_is_refused_is_not_charged(limited: Ingest, project: str) -> None:
    assert (await batch(limited, project, *[RECORD] * 3)).status == 200
    for _ in range(10):
        assert_limited(await batch(limited, project, *[RECORD] * 5), PROJECT, wait=range(30, 61))
    assert (await batch(limited, project, *[RECORD] * 2)).status == 200


async def test_a_batch_larger_than_the_burst_passes_a_full_bucket_and_empties_it(limited: Ingest, project: str) -> None:
    assert (await batch(limited, project, *[RECORD] * 100)).status == 200
    assert_limited(await record(limited, project), PROJECT, wait=ONE_MORE)
    assert_limited(await batch(limited, project, *[RECORD] * 100), PROJECT, wait=range(50, 101))


async def test_a_deflated_record_counts_like_any_other(limited: Ingest, project: str) -> None:
    deflated = gzip.compress(RECORD)
    for _ in range(5):
        assert (await record(limited, project, "Content-Encoding: gzip", body=deflated)).status == 200
    assert_limited(await record(limited, project, "Content-Encoding: gzip", body=deflated), PROJECT, wait=ONE_MORE)


# Per credential.


async def test_a_credential_has_one_limit_for_all_its_projects(metered: Ingest) -> None:
    key, other = f"X-API-Key: {key_of(0)}", f"Authorization: Bearer {key_of(1)}"
    projects = [new_project() for _ in range(3)]
    assert (await batch(metered, projects[0], *[RECORD] * 3, lines=(key,))).status == 200
    assert (await batch(metered, projects[1], *[RECORD] * 2, lines=(key,))).status == 200
    answer = await record(metered, projects[2], key)
    body = assert_limited(answer, CREDENTIAL, wait=ONE_MORE)
    assert "credential" in body["error"]
    assert key_of(0) not in f"{answer}{metered.process.text}"
    # and neither another credential nor who shows none pays for it
    assert (await record(metered, projects[2], other)).status == 200
    assert (await record(metered, projects[2])).status == 200


async def test_only_who_has_proved_a_credential_is_charged_for_it(metered: Ingest) -> None:
    key = key_of(2)
    forged = f"X-API-Key: {key[:-8]}aaaaaaaa"
    for _ in range(10):
        assert (await record(metered, new_project(), forged)).status == 401
    for _ in range(5):
        assert (await record(metered, new_project(), f"X-API-Key: {key}")).status == 200
    assert_limited(await record(metered, new_project(), f"X-API-Key: {key}"), CREDENTIAL, wait=ONE_MORE)


async def test_who_shows_no_credential_has_no_limit_of_one(metered: Ingest) -> None:
    for _ in range(10):
        assert (await record(metered, new_project())).status == 200


async def test_the_limit_of_a_project_holds_for_all_its_callers_together(metered: Ingest, project: str) -> None:
    for line in (f"X-API-Key: {key_of(3)}", f"X-API-Key: {key_of(4)}", "X-Nothing: at-all"):
        assert (await record(metered, project, line)).status == 200
    for line in (f"X-API-Key: {key_of(5)}", "X-Nothing: at-all"):
        assert_limited(await record(metered, project, line), NARROW_PROJECT, wait=ONE_MORE)


async def test_a_credential_is_not_charged_for_what_its_project_may_not_send(metered: Ingest) -> None:
    key, project = f"X-API-Key: {key_of(6)}", new_project()
    # given a project that is over its limit, and a key that has sent 3 records of 5
    assert (await batch(metered, project, *[RECORD] * 3, lines=(key,))).status == 200
    # when the key tries again for this project
    for _ in range(4):
        assert_limited(await record(metered, project, key), NARROW_PROJECT, wait=ONE_MORE)
    # then it may still send the other two for another one
    assert (await batch(metered, new_project(), *[RECORD] * 2, lines=(key,))).status == 200
