"""Dead letters that are sent once more, with the real command and the real worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from yarl import URL

from contract import topology
from contract.event import event_id
from contract.stamp import Stamp
from devstack import Devstack
from devstack.proxy import Proxy
from tests.support.letters import Documents, Letter, Post, Tool, event, parked, post, settled_depth, tool
from tests.support.pair import Site, consuming, end_transactions
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.ledger import unpack

__all__ = ["post", "tool"]  # fixtures

PUBLISHER = UUID(int=77)


@pytest.fixture
async def worker(site: Site) -> AsyncIterator[Process]:
    async with consuming(site) as worker:
        yield worker
    await end_transactions(site.mongodb_uri)


def id_of(number: int) -> UUID:
    return event_id("p", f"key-{number}")


def packed(*numbers: int) -> bytes:
    return b"[" + b",".join(map(event, numbers)) + b"]"


async def stored(database: Documents) -> set[UUID]:
    return {document["_id"] async for document in database.events.find({}, {"_id": 1})}


async def until_stored(database: Documents, numbers: set[int]) -> None:
    """Wait for these events, and see that they are all there is, and counted once."""
    wanted = set(map(id_of, numbers))

    async def is_so() -> bool:
        return await stored(database) >= wanted

    await eventually(is_so, what=f"{len(wanted)} events", seconds=30)
    assert await stored(database) == wanted
    totals = await database.totals.find({"count": {"$exists": True}}).to_list()
    assert sum(total["count"] for total in totals) == len(wanted)
    listed = [one async for row in database.ledger.find() for one in unpack(row["ids"])]
    assert Counter(listed) == dict.fromkeys(wanted, 1)


async def rows(database: Documents) -> list[dict[str, Any]]:
    return [row["_id"] async for row in database.ledger.find()]


@pytest.mark.parametrize("source", ["http", "queue"])
async def test_a_letter_that_can_be_stored_by_now_is_stored_as_what_it_was(
    tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process, source: str
) -> None:
    letter = parked(event(1), source=source)
    await post.park([letter, parked(event(2))])
    replayed = await tool("replay", "--key", letter.key)
    assert replayed.stderr == "replayed 1 letter of 2 read\n"
    assert replayed.text.split() == ["LETTERS", "REASON", "PROJECT", "1", "REFUSED", "p"]
    await until_stored(database, {1})
    [document] = await database.events.find().to_list()
    assert document["source"] == source
    assert await rows(database) == [{"replay": UUID(letter.key)}]
    await settled_depth(queue, 1)
    assert worker.running


async def test_what_is_not_meant_stays(tool: Tool, post: Post, queue: Queue) -> None:
    letters = [parked(event(n, "proj_b" if n % 2 else "proj_a")) for n in range(700)]
    await post.park(letters)
    await tool("replay", "--project", "proj_a")
    assert await queue.depth() == 350
    await settled_depth(queue, 350)
    left = [item["key"] for item in (await tool("list", "--json")).items]
    assert sorted(left) == sorted(letter.key for letter in letters[1::2])


async def test_what_conflicts_still_does_so_again_as_another_letter(
    tool: Tool, queue: Queue, database: Documents, worker: Process
) -> None:
    # given an event, and another with its id, sent to the worker
    await queue.send([event(1)])
    await until_stored(database, {1})
    await queue.send([event(1, quantity="2")])
    await settled_depth(queue, 1)
    [first] = (await tool("list", "--json")).items
    # when the letter is replayed
    await tool("replay", "--all")
    # then it comes back for the same reason under a new key, and the ledger has both
    await settled_depth(queue, 1)
    [second] = (await tool("list", "--json")).items
    assert second["reason"] == first["reason"] == "CONFLICT"
    assert second["key"] != first["key"]
    replayed = {"_id": {"replay": UUID(first["key"])}}
    row = await eventually(lambda: database.ledger.find_one(replayed), what="the commit, which comes after the parking")
    assert (row["events"], row["rejected"], list(unpack(row["parked"]))) == (1, 1, [UUID(second["key"])])
    assert worker.running


async def test_replaying_all_ends_though_what_is_still_invalid_comes_back(
    tool: Tool, queue: Queue, database: Documents, worker: Process
) -> None:
    # A body cannot be changed: who wants that sends another event.
    bad = [event(n, email="nobody") for n in range(700)]
    await queue.send(bad)
    await settled_depth(queue, len(bad))
    before = {item["key"] for item in (await tool("list", "--json")).items}
    [told] = (await tool("replay", "--all", "--json")).items
    assert (told["read"], told["letters"]) == (700, 700)
    await settled_depth(queue, len(bad))
    items = (await tool("list", "--json")).items
    assert {item["reason"] for item in items} == {"INVALID"}
    assert len({item["key"] for item in items} - before) == 700

    async def entered() -> bool:
        return await database.ledger.count_documents({"_id.replay": {"$exists": True}, "rejected": 1}) == 700

    await eventually(entered, what="the commit, which comes after the parking")
    assert worker.running


async def test_whole_messages_that_the_broker_dead_lettered_are_stored_once(
    tool: Tool, post: Post, queue: Queue, database: Documents, site: Site
) -> None:
    # given messages that were delivered too often, and messages that found no queue: with a stamp and without
    at_limit = Stamp(PUBLISHER, 1, 2)
    unrouted = Stamp(PUBLISHER, 2, 2, floor=1, confirmed=2, void=((1, 1),))
    await post.wear_out(packed(1, 2), at_limit.to_headers(), exchange=topology.EXCHANGE)
    await settled_depth(queue, 1)
    await post.wear_out(packed(3, 4), exchange=topology.DIRECT_EXCHANGE)
    await settled_depth(queue, 2)
    await post.strand(packed(5, 6), unrouted)
    await post.strand(packed(7, 8))
    items = (await tool("list", "--json")).items
    assert [item["reason"] for item in items] == ["DELIVERY_LIMIT", "DELIVERY_LIMIT", "UNROUTED", "UNROUTED"]
    assert [item["source"] for item in items] == ["http", "queue", "queue", "queue"]
    assert [item["stamp"] and item["stamp"]["seq"] for item in items] == [1, None, 2, None]
    assert all(item["whole"] and (item["parkedAt"] or item["reason"] == "UNROUTED") for item in items)
    # when they are replayed, and replayed once more as if that had not been heard of
    await tool("replay", "--all")
    await post.strand(packed(5, 6), unrouted)
    await post.strand(packed(7, 8))
    await tool("replay", "--all")
    worker = await site.worker().start()
    try:
        await until_stored(database, set(range(1, 9)))
        await eventually(lambda: worker.text.count('"copies": 0') < worker.text.count('"copies":'))
    finally:
        await worker.close()
    # then each is entered once, under its own number where it has one
    entered = await database.ledger.find().sort("_id").to_list()
    assert sorted(map(str, (row["_id"] for row in entered))) == sorted(
        map(
            str,
            [
                {"publisher": PUBLISHER, "seq": 1},
                {"publisher": PUBLISHER, "seq": 2},
                {"replay": UUID(items[1]["key"])},
                {"replay": UUID(items[3]["key"])},
            ],
        )
    )
    [row] = [row for row in entered if row["_id"].get("seq") == 2]
    assert (row["floor"], row["confirmed"], row["void"]) == (1, 2, [[1, 1]])
    assert sum(row["duplicates"] for row in entered) == 0
    await settled_depth(queue, 0)


async def test_a_replay_that_is_delivered_too_often_is_the_same_letter_still(
    tool: Tool, post: Post, queue: Queue
) -> None:
    letter = parked(event(1))
    await post.park([letter])
    await tool("replay", "--all")
    assert await queue.depth() == 1
    await post.exhaust()
    await settled_depth(queue, 1)
    [item] = (await tool("list", "--json")).items
    assert (item["key"], item["reason"], item["whole"]) == (letter.key, "DELIVERY_LIMIT", True)


# What is broken off.

ALARM = ("set_vm_memory_high_watermark", "0.00001")
NO_ALARM = ("set_vm_memory_high_watermark", "0.4")


def mixed(count: int) -> list[tuple[Letter, Stamp | None]]:
    """Letters as workers park them, from both sources; every tenth one a whole message with a stamp."""
    found: list[tuple[Letter, Stamp | None]] = []
    for number in range(count):
        stamp = Stamp(PUBLISHER, number + 1, 1) if number % 10 == 9 else None
        letter = parked(event(number), source="http" if number % 2 else "queue")
        found.append((letter, stamp))
    return found


async def put(post: Post, letters: list[tuple[Letter, Stamp | None]]) -> list[dict[str, Any]]:
    """Put them among the dead letters; the ids of the rows that they must become."""
    for letter, stamp in letters:
        await (post.strand(letter.body, stamp) if stamp else post.park([letter]))
    return [
        {"publisher": stamp.publisher, "seq": stamp.seq} if stamp else {"replay": UUID(letter.key)}
        for letter, stamp in letters
    ]


def in_order(ids: list[dict[str, Any]]) -> list[str]:
    return sorted(map(str, ids))


KILLS = [("read", 3), ("confirmed", 1), ("confirmed", 7), ("confirmed", 30), ("settled", 1), ("settled", 4)]


async def test_a_replay_that_is_killed_again_and_again_loses_nothing_and_counts_nothing_twice(
    tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process
) -> None:
    letters = mixed(300)
    expected = await put(post, letters)
    # when it is killed at one point after the other, and each time started again
    for point, number in KILLS:
        killed = Tool(tool.site, launcher=("tests.support.broken_off", point, str(number), "SIGKILL"))

        async def is_killed(killed: Tool = killed) -> bool:
            ended = await killed("replay", "--all", code=None)
            assert ended.code in {-9, 75}, ended.stderr
            return ended.code == -9

        await eventually(is_killed, every=0.1)
    await tool.until_there_is_none("replay", "--all")
    # then every event is stored once and entered once
    await until_stored(database, set(range(300)))
    assert in_order(await rows(database)) == in_order(expected)
    assert await database.ledger.count_documents({"duplicates": {"$gt": 0}}) == 0
    await settled_depth(queue, 0)
    # and letters were really sent twice
    await eventually(lambda: worker.text.count('"copies": 0') < worker.text.count('"copies":'))


async def test_replays_killed_at_random_moments_lose_nothing(
    tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process
) -> None:
    letters = mixed(300)
    expected = await put(post, letters)
    kills = 0
    for hundredths in range(0, 40, 4):
        process = await asyncio.to_thread(tool.start, "replay", "--all")
        try:
            await asyncio.sleep(0.35 + hundredths / 100)  # the moment of the fault
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)
        kills += process.returncode == -9
    assert kills
    await tool.until_there_is_none("replay", "--all")
    await until_stored(database, set(range(300)))
    assert in_order(await rows(database)) == in_order(expected)
    await settled_depth(queue, 0)
    assert worker.running


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
async def test_told_to_stop_a_replay_finishes_what_it_has_begun(
    tool: Tool, post: Post, queue: Queue, name: str, code: int
) -> None:
    await post.park([parked(event(n)) for n in range(300)])
    stopping = Tool(tool.site, launcher=("tests.support.broken_off", "confirmed", "30", name))
    ended = await stopping("replay", "--all", "--json", code=code)
    [told] = ended.items
    assert 20 < told["letters"] < 300
    # nothing was sent twice, nothing sent is left
    await settled_depth(queue, 300 - told["letters"])
    assert await queue.depth() == told["letters"]


async def test_two_that_replay_at_once_count_nothing_twice(
    tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process
) -> None:
    expected = await put(post, mixed(200))
    codes = [one.code for one in await asyncio.gather(*(tool("replay", "--all", code=None) for _ in range(3)))]
    assert set(codes) <= {0, 1, 75}
    await tool.until_there_is_none("replay", "--all")
    await until_stored(database, set(range(200)))
    assert in_order(await rows(database)) == in_order(expected)
    await settled_depth(queue, 0)
    assert worker.running


async def test_when_the_queue_is_full_the_rest_of_the_letters_stay(
    stack: Devstack, tool: Tool, post: Post, queue: Queue
) -> None:
    await post.park([parked(event(n)) for n in range(400)])
    limit = '{"max-length": 100, "overflow": "reject-publish"}'
    await asyncio.to_thread(stack.broker.ctl, "set_policy", "full", "^usage[.]events$", limit, "--apply-to", "queues")
    try:
        ended = await tool("replay", "--all", "--json", code=75)
    finally:
        await asyncio.to_thread(stack.broker.ctl, "clear_policy", "full")
    assert "does not take more" in ended.stderr
    [told] = ended.items
    assert 100 <= told["letters"] < 400
    assert await queue.depth() == told["letters"]
    await settled_depth(queue, 400 - told["letters"])


async def test_in_an_alarm_the_letters_stay(stack: Devstack, tool: Tool, post: Post, queue: Queue) -> None:
    await post.park([parked(event(n)) for n in range(50)])
    await asyncio.to_thread(stack.broker.ctl, *ALARM)
    try:
        ended = await tool("replay", "--all", "--json", code=75)
    finally:
        await asyncio.to_thread(stack.broker.ctl, *NO_ALARM)
    assert "does not confirm within 10 s" in ended.stderr
    assert ended.items[0]["letters"] == 0
    await settled_depth(queue, 50)


@pytest.mark.parametrize("size", [5_000, 60_000])
async def test_a_connection_that_is_lost_is_told_and_costs_no_letter(
    tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process, size: int
) -> None:
    expected = await put(post, mixed(300))
    address = URL(tool.site.amqp_url)
    async with Proxy(str(address.host), address.port or 0) as proxy:
        proxy.cut_after(size)
        through = Tool(tool.site, {"amqp_url": str(address.with_host("127.0.0.1").with_port(proxy.port))})
        assert "broker" in (await through("replay", "--all", code=75)).stderr
    await tool.until_there_is_none("replay", "--all")
    await until_stored(database, set(range(300)))
    assert in_order(await rows(database)) == in_order(expected)
    await settled_depth(queue, 0)
    assert worker.running
