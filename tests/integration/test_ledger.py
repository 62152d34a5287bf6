"""Totals and ledger, written in the same transaction as the events."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import Reason, Rejected, Source, UsageEvent
from contract.producer import UsageProducer
from contract.stamp import Stamp
from devstack import Devstack
from tests.integration.test_store import (
    Parked,
    always,
    event,
    failing,
    ids,
    never,
    parked,
    store,
    storing,
)
from tests.support.pair import EXAMPLE, Pair
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.database_errors import DatabaseUnavailable
from worker.ledger import Entry, EntryId, unpack
from worker.plan import Outcome
from worker.store import Store

Documents = AsyncDatabase[dict[str, Any]]

__all__ = ["parked", "store"]  # fixtures

PUBLISHER = UUID(int=77)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def stamped(seq: int, events: Sequence[UsageEvent] = (), digest: bytes = b"digest", **stamp: Any) -> Entry:
    mark = Stamp(PUBLISHER, seq, len(events), **stamp)
    return Entry(EntryId.of_stamp(mark), list(events), stamp=mark, digest=digest)


def bad(body: bytes = b"?") -> Rejected:
    return Rejected(body, Source.HTTP, Reason.INVALID, "email is required")


async def rows(database: Documents) -> list[dict[str, Any]]:
    return await database.ledger.find().sort("_id").to_list()


async def totals(database: Documents) -> dict[tuple[Any, ...], tuple[Decimal, int]]:
    """Quantity and count by project, customer, metric and hour, over all slots."""
    found: Counter[tuple[Any, ...]] = Counter()
    counts: Counter[tuple[Any, ...]] = Counter()
    async for total in database.totals.find():
        key = tuple(value for name, value in total["_id"].items() if name != "slot")
        found[key] += total["quantity"].to_decimal()
        counts[key] += total["count"]
    return {key: (Decimal(found[key]), counts[key]) for key in counts}


async def assert_books_balance(database: Documents) -> None:
    """Totals are the sums of events, and the ledger lists each event once."""
    sums: dict[tuple[Any, ...], tuple[Decimal, int]] = {}
    async for document in database.events.find():
        hour = document["timestamp"].replace(minute=0, second=0, microsecond=0)
        key = (document["projectId"], document["email"], document["metric"], hour)
        quantity, count = sums.get(key, (Decimal(0), 0))
        sums[key] = (quantity + document["quantity"].to_decimal(), count + 1)
    assert await totals(database) == sums
    listed = [one.int for row in await rows(database) for one in unpack(row["ids"])]
    assert sorted(listed) == await ids(database)
    for row in await rows(database):
        assert row["events"] == row["stored"] + row["duplicates"] + row["rejected"]
        assert (len(row["ids"]), len(row["parked"])) == (16 * row["stored"], 16 * row["rejected"])


# Totals.


async def test_totals_are_exact_per_customer_metric_and_hour(store: Store, database: Documents, parked: Parked) -> None:
    batch = [
        event(1, "0.1"),
        event(2, "0.2"),
        event(3, "12345678901234567.89"),
        event(4, "-0.000000001"),
        event(5, "7", email="b@example.com"),
        event(6, "8", timestamp=NOON + timedelta(hours=1)),
        event(7, "9", project_id="507f1f77bcf86cd799439011"),
    ]
    await store.write([Entry(EntryId.new(), batch)], parked.park, abandoned=never)
    await store.write([Entry(EntryId.new(), [event(8, "0.3"), event(1, "0.1")])], parked.park, abandoned=never)
    found = await totals(database)
    assert found["p", "a@example.com", "calls", NOON] == (Decimal("12345678901234568.489999999"), 5)
    assert found["p", "b@example.com", "calls", NOON] == (Decimal(7), 1)
    assert found["p", "a@example.com", "calls", NOON + timedelta(hours=1)] == (Decimal(8), 1)
    await assert_books_balance(database)


async def test_workers_that_store_the_same_customers_usage_do_not_fight(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    uri = stack.database.uri
    async with (
        storing(uri, database.name) as one,
        storing(uri, database.name) as two,
        storing(uri, database.name) as three,
    ):
        stores = [one, two, three]
        for each in stores:
            each._slot = 0  # the worst luck
        began = time.monotonic()

        async def work(each: Store, first: int) -> None:
            for number in range(20):
                batch = [event(first + number * 50 + n) for n in range(50)]
                await each.write([Entry(EntryId.new(), batch)], parked.park, abandoned=never)

        await asyncio.gather(*(work(each, n * 100_000) for n, each in enumerate(stores)))
        assert time.monotonic() - began < 30
        assert len({each._slot for each in stores}) == 3
    assert (await totals(database))["p", "a@example.com", "calls", NOON] == (Decimal(3000), 3000)
    await assert_books_balance(database)


async def test_at_no_moment_do_totals_and_events_disagree(store: Store, database: Documents, parked: Parked) -> None:
    async def work() -> None:
        for number in range(30):
            batch = [event(number * 100 + n, f"{n}.000000001") for n in range(100)]
            await store.write([Entry(EntryId.new(), batch)], parked.park, abandoned=never)

    working = asyncio.create_task(work())
    looks = 0
    while not working.done():
        async with database.client.start_session(snapshot=True) as session:
            grouped = await (
                await database.events.aggregate(
                    [{"$group": {"_id": None, "q": {"$sum": "$quantity"}, "n": {"$sum": 1}}}], session=session
                )
            ).to_list()
            summed = await (
                await database.totals.aggregate(
                    [{"$group": {"_id": None, "q": {"$sum": "$quantity"}, "n": {"$sum": "$count"}}}], session=session
                )
            ).to_list()
        assert grouped == summed
        looks += bool(grouped)
    await working
    assert looks > 3


async def test_a_customers_totals_are_a_range_of_the_primary_key(
    store: Store, database: Documents, parked: Parked
) -> None:
    customers = ["a@example.com", "a@example.com.br", "a@example.co", "b@example.com"]
    batch = [event(n, str(10**n), email=email) for n, email in enumerate(customers, 1)]
    await store.write([Entry(EntryId.new(), batch)], parked.park, abandoned=never)
    # as docs/database.md tells
    low, high = ({"projectId": "p", "email": email} for email in ("a@example.com", "a@example.com\0"))
    query = {"_id": {"$gte": low, "$lt": high}}
    assert [str(total["quantity"]) for total in await database.totals.find(query).to_list()] == ["10"]
    plan = await database.totals.find(query).explain()
    assert plan["executionStats"]["totalKeysExamined"] <= 2


# The ledger.


async def test_a_stamped_message_is_entered_with_its_stamp_and_what_became_of_its_events(
    store: Store, database: Documents, parked: Parked
) -> None:
    await store.write([Entry(EntryId.new(), [event(1, "1"), event(2)])], parked.park, abandoned=never)
    entry = stamped(5, [event(1, "2"), event(2), event(3), event(4)], floor=4, confirmed=300, void=((1, 2), (4, 4)))
    entry.rejected.append(bad())
    outcome = await store.write([entry], parked.park, abandoned=never)
    assert outcome == Outcome(stored=2, duplicates=1, parked=2)
    [row] = [row for row in await rows(database) if "publisher" in row["_id"]]
    assert row["_id"] == {"publisher": PUBLISHER, "seq": 5}
    assert (row["floor"], row["confirmed"], row["void"]) == (4, 300, [[1, 2], [4, 4]])
    assert (row["events"], row["stored"], row["duplicates"], row["rejected"]) == (5, 2, 1, 2)
    assert [one.int for one in unpack(row["ids"])] == [3, 4]
    assert set(unpack(row["parked"])) == set(parked.letters)
    assert sorted(parked.reasons) == [Reason.CONFLICT, Reason.INVALID]
    await assert_books_balance(database)


async def test_a_mark_is_entered_too(store: Store, database: Documents, parked: Parked) -> None:
    assert await store.write([stamped(9, floor=8, confirmed=1)], parked.park, abandoned=never) == Outcome()
    [row] = await rows(database)
    assert (row["_id"]["seq"], row["events"], row["floor"]) == (9, 0, 8)


async def test_a_copy_of_a_stamped_message_changes_nothing_and_parks_nothing(
    store: Store, database: Documents, parked: Parked
) -> None:
    entry = stamped(5, [event(1), event(2)])
    entry.rejected.append(bad())
    await store.write([entry], parked.park, abandoned=never)
    before, letters = await rows(database), dict(parked.letters)
    copy = stamped(5, [event(1), event(2)])
    copy.rejected.append(bad())
    outcome = await store.write([copy, stamped(6, [event(3)])], parked.park, abandoned=never)
    assert outcome == Outcome(stored=1, copies=1)
    assert (await rows(database))[: len(before)] == before
    assert parked.letters == letters
    await assert_books_balance(database)


async def test_a_message_under_the_stamp_of_another_is_stored_all_the_same(
    store: Store, database: Documents, parked: Parked
) -> None:
    await store.write([stamped(5, [event(1)])], parked.park, abandoned=never)
    outcome = await store.write([stamped(5, [event(2)], digest=b"other")], parked.park, abandoned=never)
    assert outcome == Outcome(stored=1)
    assert await ids(database) == [1, 2]
    assert sorted(next(iter(row["_id"])) for row in await rows(database)) == ["batch", "publisher"]
    await assert_books_balance(database)


async def test_a_dead_letter_that_is_sent_twice_is_entered_once(
    store: Store, database: Documents, parked: Parked
) -> None:
    for expected in (Outcome(stored=1), Outcome(copies=1)):
        replay = Entry(EntryId.of_replay(UUID(int=5)), [event(1)], digest=b"d")
        assert await store.write([replay], parked.park, abandoned=never) == expected
    [row] = await rows(database)
    assert row["_id"] == {"replay": UUID(int=5)}
    await assert_books_balance(database)


async def test_the_same_event_parked_again_has_the_same_key(store: Store, parked: Parked) -> None:
    async def fail(_: Mapping[UUID, Rejected]) -> None:
        raise ConnectionError("the broker is gone")

    keys = []
    for park in (fail, parked.park):
        entry = stamped(5, [event(1)])
        entry.rejected += [bad(b"1"), bad(b"2")]
        with suppress(ConnectionError):
            await store.write([entry], park, abandoned=never)
        keys.append([entry.id.letter_key(position) for position in range(3)])
    assert keys[0] == keys[1]
    assert list(parked.letters) == keys[0][:2]
    assert len(set(keys[0])) == 3


FATAL = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}


@pytest.mark.parametrize("command", ["find", "insert", "update", "commitTransaction"])
@pytest.mark.parametrize("fault", [{"closeConnection": True}, {"errorCode": 11601}], ids=["closed", "interrupted"])
async def test_a_fault_on_the_way_leaves_the_books_balanced(
    store: Store, database: Documents, parked: Parked, command: str, fault: dict[str, Any]
) -> None:
    await store.write([Entry(EntryId.new(), [event(1, "10")])], parked.park, abandoned=never)
    entry = stamped(1, [event(1, "11"), *(event(n) for n in range(2, 30))])
    entry.rejected.append(bad())
    async with failing(database, 3, failCommands=[command], **fault):
        await store.write([entry, Entry(EntryId.new(), [event(100), event(2)])], parked.park, abandoned=never)
    assert len(parked.letters) == 2
    assert len(parked.rejected) == 2
    await assert_books_balance(database)


async def test_a_commit_that_was_not_heard_of_is_found_in_the_ledger(
    store: Store, database: Documents, parked: Parked
) -> None:
    async with failing(database, 50, failCommands=["commitTransaction"], writeConcernError=FATAL):
        entries = [Entry(EntryId.new(), [event(1)]), stamped(1, [event(2)])]
        with suppress(DatabaseUnavailable):
            await store.write(entries, parked.park, abandoned=always)
    outcome = await store.write(entries, parked.park, abandoned=never)
    assert outcome == Outcome(stored=1, copies=1)
    await assert_books_balance(database)


async def test_many_documents_that_the_server_refuses_are_parked_in_bearable_time(
    store: Store, database: Documents, parked: Parked
) -> None:
    await database.command("collMod", "events", validator={"metric": {"$ne": "forbidden"}})
    batch = [event(n, metric="forbidden" if n % 2 else "calls") for n in range(1, 4001)]
    async with asyncio.timeout(150):
        outcome = await store.write([stamped(1, batch)], parked.park, abandoned=never)
    assert outcome == Outcome(stored=2000, parked=2000)
    assert parked.reasons == [Reason.REFUSED] * 2000
    assert [letter.body for letter in parked.rejected] == [one.to_wire() for one in batch if one.metric == "forbidden"]
    await assert_books_balance(database)


async def test_what_contradicts_an_event_that_is_then_refused_is_stored(
    store: Store, database: Documents, parked: Parked
) -> None:
    await database.command("collMod", "events", validator={"metric": {"$ne": "forbidden"}})
    batch = [event(1, metric="forbidden"), event(1), event(2)]
    assert await store.write([stamped(1, batch)], parked.park, abandoned=never) == Outcome(stored=2, parked=1)
    assert parked.reasons == [Reason.REFUSED]
    await assert_books_balance(database)


# From end to end.


async def test_what_ingest_answered_for_is_claimed_entered_and_marked(
    pair: Pair, http: aiohttp.ClientSession, database: Documents
) -> None:
    async def post(number: int) -> None:
        async with http.post(pair.usage_url(), json={**EXAMPLE, "idempotencyKey": str(number)}) as response:
            assert response.status == 200

    for _ in range(3):
        await asyncio.gather(*map(post, range(50)))

    async def marked() -> bool:
        found = [row for row in await rows(database) if "publisher" in row["_id"]]
        return max((row["confirmed"] for row in found), default=0) == 150

    await eventually(marked, seconds=30, what="a mark that confirms all events")
    found = await rows(database)
    assert [row["_id"]["seq"] for row in found] == list(range(1, len(found) + 1))
    assert sum(row["events"] for row in found) == 150
    assert sum(row["stored"] for row in found) == 50
    assert max(row["floor"] for row in found) >= len(found) - 1
    await assert_books_balance(database)


async def test_a_producer_that_stops_tells_what_became_of_its_last_messages(
    pair: Pair, database: Documents, queue: Queue
) -> None:
    del queue
    began = time.monotonic()
    async with UsageProducer(pair.site.amqp_url) as usage:
        await asyncio.gather(*(usage.record("p", "a@example.com", "calls", n) for n in range(20)))
    assert time.monotonic() - began < 10

    async def told() -> bool:
        return await database.ledger.count_documents({"confirmed": 20}) > 0

    await eventually(told)
    assert sum(row["stored"] for row in await rows(database)) == 20
