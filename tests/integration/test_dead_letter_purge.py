"""Dead letters that are taken away for ever, with the real command: the ledger keeps their keys."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from contract.event import EVENT_NAMESPACE
from contract.stamp import Stamp
from tests.support.letters import Documents, Ended, Post, Tool, event, parked, post, settled_depth, tool
from tests.support.pair import Site
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.database import APP_NAME

__all__ = ["post", "tool"]  # fixtures

PUBLISHER = UUID(int=77)


async def purged(database: Documents) -> dict[UUID, dict[str, Any]]:
    """The rows, by key."""
    return {row["_id"].pop("purged"): row async for row in database.ledger.find()}


async def test_purged_letters_are_gone_and_the_ledger_has_their_keys(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    letters = [parked(event(n), "INVALID" if n % 2 else "CONFLICT") for n in range(700)]
    await post.park(letters)
    ended = await tool("purge", "--reason", "INVALID", "--yes")
    assert ended.stderr == "purged 350 letters of 700 read\n"
    assert ended.text.split() == ["LETTERS", "REASON", "PROJECT", "350", "INVALID", "p"]
    await settled_depth(queue, 350)
    assert {letter.reason for letter in await queue.dead_letters()} == {"CONFLICT"}
    rows = await purged(database)
    assert set(rows) == {UUID(letter.key) for letter in letters[1::2]}
    for row in rows.values():
        assert set(row) == {"_id", "reason", "at"}
        assert row["reason"] == "INVALID"
        assert timedelta() <= datetime.now(UTC) - row["at"] < timedelta(minutes=1)
    assert await queue.depth() == 0


async def test_of_a_whole_message_the_ledger_keeps_what_it_claims(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    stamp = Stamp(PUBLISHER, 7, 2, floor=5, confirmed=40, void=((2, 3), (5, 5)))
    await post.strand(b"[" + event(1) + b"," + event(2) + b"]", stamp)
    await post.strand(event(3), Stamp(PUBLISHER, 8, 1))
    await post.strand(event(4))
    keys = [UUID(item["key"]) for item in (await tool("list", "--json")).items]
    assert keys[0] == uuid5(EVENT_NAMESPACE, f"{PUBLISHER}:7")
    await tool("purge", "--all", "--yes")
    rows = await purged(database)
    for row in rows.values():
        del row["at"]
    common = {"_id": {}, "reason": "UNROUTED"}
    claims = {"publisher": PUBLISHER, "seq": 7, "events": 2, "floor": 5, "confirmed": 40, "void": [[2, 3], [5, 5]]}
    assert rows == {
        keys[0]: {**common, **claims},
        keys[1]: {**common, "publisher": PUBLISHER, "seq": 8, "events": 1, "floor": 0, "confirmed": 0},
        keys[2]: common,
    }
    await settled_depth(queue, 0)


async def test_copies_of_one_letter_are_purged_as_one(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    letter = parked(event(1))
    await post.park([letter, letter])
    await tool("purge", "--key", letter.key, "--yes")
    assert list(await purged(database)) == [UUID(letter.key)]
    await settled_depth(queue, 0)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """What the keyboard writes to, and what the command reads from."""
    keyboard, stdin = os.openpty()
    try:
        yield keyboard, stdin
    finally:
        os.close(keyboard)
        os.close(stdin)


async def answered(tool: Tool, answer: bytes, code: int, *arguments: str) -> Ended:
    with terminal() as (keyboard, stdin):
        os.write(keyboard, answer)
        return await tool("purge", *arguments, code=code, stdin=stdin)


async def test_at_a_terminal_it_shows_what_it_would_take_and_asks(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    await post.park([parked(event(n), "INVALID") for n in range(3)])
    refused = await answered(tool, b"n\n", 1, "--all")
    assert "3  INVALID         p\n" in refused.stderr
    assert "for ever?" in refused.stderr
    assert refused.stdout == b""
    await settled_depth(queue, 3)
    assert await purged(database) == {}
    agreed = await answered(tool, b"y\n", 0, "--all", "--json")
    assert agreed.items[0]["letters"] == 3
    await settled_depth(queue, 0)
    assert "no dead letter" in (await answered(tool, b"y\n", 1, "--all")).stderr


async def test_what_is_parked_while_it_asks_is_not_taken(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    shown, later = parked(event(1)), parked(event(2))
    await post.park([shown])
    with terminal() as (keyboard, stdin):
        process = tool.start("purge", "--all", stdin=stdin)
        assert process.stderr is not None
        heard = b""
        while b"for ever?" not in heard:
            heard += await asyncio.to_thread(os.read, process.stderr.fileno(), 1000)
        await post.park([later])
        os.write(keyboard, b"y\n")
        await asyncio.to_thread(process.communicate)
    assert process.returncode == 0
    assert list(await purged(database)) == [UUID(shown.key)]
    await settled_depth(queue, 1)


async def test_without_a_database_no_letter_is_taken(site: Site, post: Post, queue: Queue) -> None:
    await post.park([parked(event(n)) for n in range(3)])
    away = Tool(site, {"mongodb_uri": "mongodb://127.0.0.1:9/?directConnection=true", "mongodb_timeout": "1"})
    assert "database is unavailable" in (await away("purge", "--all", "--yes", code=75)).stderr
    weak = Tool(site, {"mongodb_uri": site.mongodb_uri + "&w=1"})
    assert "WORKER_MONGODB_URI" in (await weak("purge", "--all", "--yes", code=78)).stderr
    await settled_depth(queue, 3)
    # and looking needs none
    assert len((await away("list", "--json")).items) == 3


async def test_a_database_that_goes_away_half_way_costs_no_letter(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    letters = [parked(event(n)) for n in range(900)]
    await post.park(letters)
    await database.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"skip": 450},
            "data": {"appName": APP_NAME, "failCommands": ["update"], "errorCode": 11600},
        }
    )
    try:
        ended = await tool("purge", "--all", "--yes", "--json", code=75)
    finally:
        await database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert "database is unavailable" in ended.stderr
    assert ended.items[0]["letters"] == 300
    await settled_depth(queue, 600)
    left = {item["key"] for item in (await tool("list", "--json")).items}
    assert left == {letter.key for letter in letters[300:]}
    assert {UUID(letter.key) for letter in letters[:300]} <= set(await purged(database))


KILLS = [("read", 3), ("entered", 1), ("entered", 4), ("settled", 1), ("settled", 3)]


async def test_a_purge_that_is_killed_again_and_again_leaves_no_letter_unaccounted_for(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    letters = [parked(event(n)) for n in range(270)]
    await post.park(letters)
    for number in range(30):
        await post.strand(event(1000 + number), Stamp(PUBLISHER, number + 1, 1))
    keys = {UUID(item["key"]) for item in (await tool("list", "--json")).items}
    assert len(keys) == 300
    for point, number in KILLS:
        killed = Tool(tool.site, launcher=("tests.support.broken_off", point, str(number), "SIGKILL"))

        async def is_killed(killed: Tool = killed) -> bool:
            ended = await killed("purge", "--all", "--yes", code=None)
            assert ended.code in {-9, 75}, ended.stderr
            return ended.code == -9

        await eventually(is_killed, every=0.1)
        # whatever is not in the queue any more is in the ledger
        left = await eventually(lambda: listed(tool))
        assert keys - left <= set(await purged(database))
    await tool.until_there_is_none("purge", "--all", "--yes")
    rows = await purged(database)
    assert set(rows) == keys
    assert sorted(row["seq"] for row in rows.values() if "seq" in row) == list(range(1, 31))
    await settled_depth(queue, 0)


async def listed(tool: Tool) -> set[UUID] | None:
    """The keys of the letters; None as long as the broker still counts a dead reader."""
    ended = await tool("list", "--json", code=None)
    return {UUID(item["key"]) for item in ended.items} if ended.code == 0 else None


async def test_told_to_stop_a_purge_finishes_what_it_has_begun(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    await post.park([parked(event(n)) for n in range(300)])
    stopping = Tool(tool.site, launcher=("tests.support.broken_off", "entered", "2", "SIGTERM"))
    [told] = (await stopping("purge", "--all", "--yes", "--json", code=143)).items
    assert told["letters"] in {40, 60}
    assert len(await purged(database)) == told["letters"]
    await settled_depth(queue, 300 - told["letters"])


async def test_many_letters_are_purged_in_bearable_time(
    tool: Tool, post: Post, queue: Queue, database: Documents
) -> None:
    await post.park([parked(event(n)) for n in range(5000)])
    began = time.monotonic()
    await tool("purge", "--all", "--yes")
    assert time.monotonic() - began < 60
    assert await database.ledger.count_documents({}) == 5000
    await settled_depth(queue, 0)
