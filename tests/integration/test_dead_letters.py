"""Looking at dead letters with the real command: they stay where they are."""

import asyncio
import base64
import subprocess
import time
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from contract import topology
from contract.connection import connect
from contract.stamp import Stamp
from tests.support.letters import Documents, Post, Tool, event, parked, post, settled_depth, tool
from tests.support.pair import Site
from tests.support.poison import MICROSECONDS, RawProperties, properties
from tests.support.poison import time as raw_time
from tests.support.queue import Queue
from worker.dead_letters.browsing import Browser

__all__ = ["post", "tool"]  # fixtures

STAMP = Stamp(UUID(int=77), 5, 2, floor=3, confirmed=40, void=((2, 3),))
SENTENCE = "email must be one address"


def several(*projects: str) -> bytes:
    return b"[" + b",".join(event(number, project) for number, project in enumerate(projects)) + b"]"


async def test_all_letters_are_listed_in_their_order_and_stay_where_they_are(
    tool: Tool, post: Post, queue: Queue
) -> None:
    letters = [parked(event(1, "proj_a"), "INVALID", detail=SENTENCE), parked(b"\x00\xff", "UNDECODABLE", detail="x")]
    await post.park(letters)
    await post.strand(several("proj_a", "proj_b"), STAMP)

    listed = await tool("list")
    heading, *lines = listed.text.splitlines()
    assert heading.split() == ["KEY", "PARKED", "REASON", "PROJECT", "DETAIL"]
    assert lines[0].split(maxsplit=4) == [letters[0].key, "2026-01-31T12:00:00.000Z", "INVALID", "proj_a", SENTENCE]
    assert lines[1].split() == [letters[1].key, "2026-01-31T12:00:00.000Z", "UNDECODABLE", "-", "x"]
    assert lines[2].split()[1:4] == ["-", "UNROUTED", "proj_a,proj_b"]
    assert [line.split() for line in listed.stderr.splitlines()] == [
        ["3", "letters", "of", "3", "read"],
        ["1", "INVALID"],
        ["1", "UNDECODABLE"],
        ["1", "UNROUTED"],
    ]
    await settled_depth(queue, 3)


async def test_a_program_gets_one_object_a_line(tool: Tool, post: Post) -> None:
    letter = parked(event(1, "proj_a"), "INVALID", detail=SENTENCE, source="http")
    await post.park([letter])
    await post.strand(several("proj_b", "proj_a"), STAMP)
    first, second = (await tool("list", "--json")).items
    assert first == {
        "key": letter.key,
        "reason": "INVALID",
        "detail": SENTENCE,
        "source": "http",
        "parkedAt": "2026-01-31T12:00:00.000Z",
        "projectIds": ["proj_a"],
        "size": len(letter.body),
        "whole": False,
        "message": None,
        "requests": [],
        "stamp": None,
    }
    assert second["projectIds"] == ["proj_a", "proj_b"]
    assert second["whole"] is True
    assert second["parkedAt"] is None
    assert second["message"] == f"{STAMP.publisher}:5"
    assert second["stamp"] == {"publisher": str(STAMP.publisher), "seq": 5, "events": 2}


HEX = "507F1F77BCF86CD799439011"
NOBODYS = "63d46c7e-0bc2-4873-bfe2-b7dcce63eec5"
"""A key that no letter has."""
KEYS = [UUID(int=number) for number in range(6)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("--project proj_b --project proj_a", [0, 1, 3]),
        (f"--project {HEX}", [2]),
        (f"--project {HEX.lower()}", [2]),
        ("--reason undecodable --reason CONFLICT", [2, 4]),
        ("--reason UNROUTED", []),
        (f"--key {KEYS[3]} --key {KEYS[1]} --key {NOBODYS}", [1, 3]),
        ("--since 2026-01-03T01:00:00+01:00", [2, 3, 4, 5]),
        ("--until 2026-01-03T00:00:00Z", [0, 1]),
        ("--since 2026-01-02T00:00:00Z --until 2026-01-05T00:00:00Z", [1, 2, 3]),
        ("--project proj_a --reason INVALID --since 2026-01-01T00:00:00Z", [0]),
        ("--reason INVALID --limit 1", [0]),
    ],
)
async def test_letters_are_chosen_by_project_reason_key_and_time(
    tool: Tool, post: Post, options: str, expected: list[int]
) -> None:
    bodies = [
        (event(0, "proj_a"), "INVALID"),
        (event(1, "proj_b"), "INVALID"),
        (event(2, HEX), "CONFLICT"),
        (several("proj_a", "proj_b"), "REFUSED"),
        (b'{"projectId": "proj_a"', "UNDECODABLE"),
        (b'[7, {"projectId": 7}, null]', "MISSING_ID"),
    ]
    await post.park(
        parked(body, reason, key=KEYS[n], at=f"2026-01-0{n + 1}T00:00:00.000Z")
        for n, (body, reason) in enumerate(bodies)
    )
    listed = await tool("list", "--json", *options.split())
    assert [item["key"] for item in listed.items] == [str(KEYS[n]) for n in expected]


async def test_one_letter_is_shown_with_its_headers_and_its_body(tool: Tool, post: Post, queue: Queue) -> None:
    letter = parked(event(1), "INVALID", detail="first line\n\x1b[2Jsecond line " * 20)
    await post.park([parked(b"[]"), letter, parked(b"[]")])
    page = (await tool("show", letter.key)).text
    assert f"key:         {letter.key}\nreason:      INVALID\n" in page
    assert "usage-reason" not in page
    assert '\n{\n  "email": "amari_koss69@northwind.dev",\n' in page
    # what a terminal would act on is escaped
    assert page.count(r"first line\n\x1b[2Jsecond line") == 20
    assert "\x1b" not in page
    [item] = (await tool("show", letter.key, "--json")).items
    assert item["headers"] == {**letter.headers, "x-delivery-count": 1}
    assert item["body"] == letter.body.decode()
    await settled_depth(queue, 3)


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n\x1b[2J", b'{"a":1}\n', "Zähler".encode(), b"x" * 300_000])
async def test_the_exact_bytes_of_a_body_can_be_had(tool: Tool, post: Post, body: bytes) -> None:
    letter = parked(body, "UNDECODABLE")
    await post.park([letter])
    assert (await tool("show", letter.key, "--raw")).stdout == body
    [item] = (await tool("show", letter.key, "--json")).items
    assert body == (item["body"].encode() if "body" in item else base64.b64decode(item["bodyBase64"]))
    assert "\x1b" not in (await tool("show", letter.key)).text


async def test_what_is_not_there_is_told(tool: Tool, post: Post) -> None:
    await post.park([parked(b"[]")])
    missing = str(uuid4())
    assert missing in (await tool("show", missing, code=1)).stderr
    assert (await tool("list", "--key", missing)).text.count("\n") == 1
    for command in ("replay", "purge"):
        assert "no dead letter" in (await tool(command, "--key", missing, "--dry-run", code=1)).stderr


async def test_a_message_with_properties_that_cannot_be_read_can_be_looked_at(tool: Tool, post: Post) -> None:
    await post._channel.basic_publish(
        event(1),
        exchange=topology.DEAD_EXCHANGE,
        properties=RawProperties(properties(timestamp=raw_time(MICROSECONDS))),
        timeout=30,
    )
    [item] = (await tool("list", "--json")).items
    assert item["reason"] == "UNROUTED"
    assert (await tool("show", item["key"], "--raw")).stdout == event(1)


@pytest.mark.parametrize("command", ["replay", "purge"])
async def test_a_dry_run_tells_by_reason_and_project_and_touches_nothing(
    tool: Tool, post: Post, queue: Queue, database: Documents, command: str
) -> None:
    await post.park([parked(event(n, "proj_a"), "CONFLICT") for n in range(3)])
    await post.park([parked(b"?", "UNDECODABLE"), parked(several("proj_a", "proj_b"), "CONFLICT")])
    await post.strand(event(9), STAMP)
    before = await queue.dead_letters()

    told = await tool(command, "--all", "--dry-run")
    assert [line.split() for line in told.text.splitlines()] == [
        ["LETTERS", "REASON", "PROJECT"],
        ["3", "CONFLICT", "proj_a"],
        ["1", "CONFLICT", "several"],
        ["1", "UNDECODABLE", "-"],
        ["1", "UNROUTED", "p"],
    ]
    [document] = (await tool(command, "--reason", "CONFLICT", "--dry-run", "--json")).items
    assert document == {
        "read": 6,
        "letters": 4,
        "groups": [
            {"reason": "CONFLICT", "project": "proj_a", "letters": 3},
            {"reason": "CONFLICT", "project": "several", "letters": 1},
        ],
    }
    await settled_depth(queue, 6)
    after = await queue.dead_letters()
    assert [(letter.body, letter.headers.get("usage-key")) for letter in after] == [
        (letter.body, letter.headers.get("usage-key")) for letter in before
    ]
    assert await queue.depth() == 0
    assert await database.list_collection_names() == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("replay", "--all"),
        ("purge --yes", "--all"),
        ("replay --all --reason INVALID", "--all"),
        ("purge --all", "--yes"),
    ],
)
async def test_wrong_usage_is_told_and_changes_nothing(
    tool: Tool, post: Post, queue: Queue, arguments: str, hint: str
) -> None:
    await post.park([parked(b"[]")])
    assert hint in (await tool(*arguments.split(), code=2)).stderr
    assert await queue.depth(topology.DEAD_QUEUE) == 1


COMMANDS = [["list"], ["show", NOBODYS], ["replay", "--all"], ["purge", "--all", "--yes"]]


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_while_somebody_else_reads_the_letters_nobody_is_told_that_there_are_none(
    tool: Tool, post: Post, queue: Queue, arguments: list[str]
) -> None:
    await post.park([parked(event(n)) for n in range(1000)])
    async with connect(tool.site.amqp_url, name="test") as connection:
        browser = await Browser.open(connection)
        for _ in range(2):
            assert len(await browser.next()) == 300
            assert "somebody else" in (await tool(*arguments, code=75)).stderr
    await settled_depth(queue, 1000)


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_without_a_broker_a_command_says_so(site: Site, arguments: list[str]) -> None:
    away = Tool(site, {"amqp_url": "amqp://guest:guest@127.0.0.1:9/"})
    assert "broker is unavailable" in (await away(*arguments, code=75)).stderr
    refused = Tool(site, {"amqp_url": site.amqp_url.replace("guest:guest", "guest:wrong")})
    assert "WORKER_AMQP_URL" in (await refused(*arguments, code=78)).stderr


async def test_wrong_settings_are_told(site: Site) -> None:
    assert "WORKER_AMQP_URL" in (await Tool(site, {"amqp_url": "nonsense"})("list", code=78)).stderr


async def test_whoever_has_seen_enough_may_hang_up(tool: Tool, post: Post, queue: Queue) -> None:
    await post.park([parked(event(n)) for n in range(3000)])

    def read_a_line() -> tuple[bytes, bytes]:
        with tool.start("list") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            process.stdout.close()
            return line, process.stderr.read()

    line, stderr = await asyncio.to_thread(read_a_line)
    assert line.startswith(b"KEY")
    assert b"Traceback" not in stderr
    await settled_depth(queue, 3000)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
async def test_a_list_ends_early_when_told_to(tool: Tool, post: Post, queue: Queue, name: str, code: int) -> None:
    await post.park([parked(event(n)) for n in range(100)])
    stopping = Tool(tool.site, launcher=("tests.support.broken_off", "read", "2", name))
    listed = await stopping("list", "--json", code=code)
    assert len(listed.items) in {40, 60}
    await settled_depth(queue, 100)


MANY = 10_000


async def test_many_letters_are_listed_in_bearable_time_and_memory(tool: Tool, post: Post, queue: Queue) -> None:
    # given letters of 2 KiB
    padding: dict[str, Any] = {"properties": {f"p{n}": "x" * 480 for n in range(4)}}
    await post.park([parked(event(n, **padding)) for n in range(300)])
    few, _ = await tool.peak_kib("list", "--json")
    await post.park([parked(event(n, **padding)) for n in range(300, MANY)])
    began = time.monotonic()
    many, out = await tool.peak_kib("list", "--json")
    assert time.monotonic() - began < 40
    keys = [msgspec.json.decode(line)["key"] for line in out.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == MANY
    assert many - few < 10_000
    # and one that is searched for is found behind all others
    assert (await tool("show", keys[-1], "--raw")).stdout == event(MANY - 1, **padding)
    await settled_depth(queue, MANY)


def test_the_command_explains_itself(site: Site) -> None:
    for command in ([], ["list"], ["show"], ["replay"], ["purge"]):
        process = Tool(site).start(*command, "--help", stderr=subprocess.STDOUT)
        stdout, _ = process.communicate(timeout=30)
        assert b"Usage: usage-worker dead-letters" in stdout
