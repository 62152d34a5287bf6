"""A server whose cache has no room for a whole batch gets it in smaller transactions."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.stamp import Stamp
from devstack.database import CACHE_GB
from tests.integration.test_audit import audit
from tests.integration.test_ledger import assert_books_balance
from tests.integration.test_store import Parked, event, never, parked, storing
from tests.support.letters import Post, post, settled_depth
from tests.support.pair import EXAMPLE, Site, consuming
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.ledger import Entry, EntryId, unpack
from worker.store import NotAtOnce

Database = AsyncDatabase[dict[str, Any]]

__all__ = ["parked", "post"]  # fixtures

SMALL_MB = 16
PAD = "x" * 300


@pytest.fixture(autouse=True)
async def small_cache(database: Database) -> AsyncIterator[None]:
    await resize(database, SMALL_MB)
    yield
    await resize(database, int(CACHE_GB * 1024))


async def resize(database: Database, mb: int) -> None:
    await database.client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={mb}M")


def wire(count: int, **fields: Any) -> Sequence[bytes]:
    """Events as on the wire, with no identity but an id."""
    one = {**EXAMPLE, "projectId": "p", "properties": {"pad": PAD}}
    return [json.dumps({**one, "id": str(uuid4()), **fields}).encode() for _ in range(count)]


async def publish(post: Post, events: Sequence[bytes], stamp: Stamp | None = None) -> None:
    """Send them as one message."""
    headers = None if stamp is None else stamp.to_headers()
    body = b"[" + b",".join(events) + b"]"
    await post.send(body, headers, exchange=topology.DIRECT_EXCHANGE, routing_key=topology.ROUTING_KEY)


async def test_what_is_too_large_is_told_from_a_conflict_and_stores_nothing(
    site: Site, database: Database, parked: Parked
) -> None:
    batch = [event(uuid4().int, properties={"pad": PAD}) for _ in range(10_000)]
    async with storing(site.mongodb_uri, database.name) as store:
        with pytest.raises(NotAtOnce) as caught:
            await store.write([Entry(EntryId.new(), batch)], parked.park, abandoned=never)
        assert caught.value.is_for_size
        assert store.available
    assert await database.events.count_documents({}) == 0
    await assert_books_balance(database)


async def test_a_message_that_is_too_large_is_stored_in_parts(
    site: Site, database: Database, queue: Queue, post: Post
) -> None:
    await database.create_collection("events", validator={"metric": {"$ne": "forbidden"}})
    one = str(uuid4())
    wrong = [b"{}", *wire(1, metric="forbidden"), *wire(1, id=one, quantity=2)]
    await publish(post, [*wire(5_000), *wire(1, id=one, quantity=1), *wrong])
    async with consuming(site) as worker:
        await eventually_stored(database, 5_001)
        await settled_depth(queue, len(wrong))
        assert '"event": "transactions made smaller"' in worker.text
        assert await worker.stop() == 0
    await assert_books_balance(database)
    # and what is wrong in it is parked once, though it was tried more than once
    letters = await queue.dead_letters()
    assert sorted(letter.reason for letter in letters) == ["CONFLICT", "INVALID", "REFUSED"]
    assert {letter.body for letter in letters} >= {b"{}"}
    listed = [key async for row in database.ledger.find() for key in unpack(row["parked"])]
    assert sorted(listed) == sorted(UUID(str(letter.headers["usage-key"])) for letter in letters)
    assert (await audit(site)).code == 0


async def test_a_message_of_our_own_that_is_too_large_is_tried_until_there_is_room(
    site: Site, database: Database, queue: Queue, post: Post
) -> None:
    stamp = Stamp(uuid4(), 1, 5_000)
    await publish(post, wire(5_000), stamp)
    # given a worker that cannot store it
    async with consuming(site, "small") as worker:
        await worker.logged("no room in the database's cache")
        # when it is told to stop, then it does, and the message stays
        assert await worker.stop() == 0
        assert "Traceback" not in worker.text
    assert await database.events.count_documents({}) == 0

    async def is_back() -> bool:
        return await queue.depth() == 1

    await eventually(is_back, what="the message to be in the queue again")
    # and when there is room, then it is stored
    await resize(database, int(CACHE_GB * 1024))
    async with consuming(site, "large"):
        await eventually_stored(database, 5_000)
    await assert_books_balance(database)
    [row] = await database.ledger.find({"_id.publisher": stamp.publisher}).to_list()
    assert row["stored"] == 5_000


async def test_messages_that_are_too_large_together_are_stored_each_under_its_own_name(
    site: Site, database: Database, post: Post
) -> None:
    publisher = uuid4()
    stamps = [Stamp(publisher, number, 500, floor=1, confirmed=number - 1) for number in range(1, 11)]
    for stamp in stamps:
        await publish(post, wire(500), stamp)
    async with consuming(site) as worker:
        await eventually_stored(database, 5_000)
        assert '"event": "transactions made smaller"' in worker.text
    await assert_books_balance(database)
    rows = await database.ledger.find({"_id.publisher": publisher}).to_list()
    assert sorted((row["_id"]["seq"], row["stored"]) for row in rows) == [(stamp.seq, 500) for stamp in stamps]


async def eventually_stored(database: Database, count: int) -> None:
    async def all_there() -> bool:
        return await database.events.count_documents({}) == count

    await eventually(all_there, every=0.2, what=f"{count} stored events")
