"""The checker finds what is wrong: here by hand, in the negative controls by real bugs."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import Source, UsageEvent
from contract.fields import current_time
from devstack import Devstack
from tests.support.books import BAD_EVERY, Books, Numbered, Way
from tests.support.checker import Scenario, Scene, check, check_contents, is_drained
from tests.support.pair import Pair, Site
from tests.support.queue import Queue
from tests.support.verdict import Kind, Verdict
from worker.documents import to_document
from worker.totals import to_additions, totals_of

Database = AsyncDatabase[dict[str, Any]]


def event_of(record: Numbered) -> UsageEvent:
    source = Source.QUEUE if record.way in {Way.DIRECT, Way.PRODUCER} else Source.HTTP
    return UsageEvent.from_wire(record.to_event(), source=source, now=current_time())


@pytest.fixture
async def books(database: Database) -> Books:
    """Books of forty records, all of them stored as a worker would have."""
    books = Books()
    records = [books.draw_good(way) for way in Way for _ in range(10)]
    events = [event_of(record) for record in records]
    await database.events.insert_many([to_document(event) for event in events])
    await database.totals.insert_many(
        [{"_id": key, **total} for slot in (0, 1) for key, total in to_additions(totals_of(events[slot::2]), slot)]
    )
    for record in records:
        books.confirm(record)
    return books


@pytest.fixture
def still(stack: Devstack, queue: Queue, database: Database, site: Site) -> Scene:
    """A scene without processes."""
    return Scene(stack.broker, queue, database, site, "")


async def test_books_that_balance_are_found_to(books: Books, still: Scene) -> None:
    verdict = Verdict()
    await check_contents(books, still, verdict)
    verdict.assert_balanced()
    assert verdict.stored == 40


async def delete_an_event(books: Books, database: Database) -> None:
    await database.events.delete_one({"_id": books.record(8).id})


async def store_what_nobody_sent(books: Books, database: Database) -> None:
    await database.events.insert_one(to_document(event_of(books.record(4000))))


async def store_what_was_refused(books: Books, database: Database) -> None:
    del database
    books.refuse(books.record(8))


async def change_a_property(books: Books, database: Database) -> None:
    await database.events.update_one({"_id": books.record(20).id}, {"$set": {"properties.region": "us-1"}})


async def change_a_quantity(books: Books, database: Database) -> None:
    await database.events.update_one({"_id": books.record(8).id}, {"$inc": {"quantity": 1}})


async def count_one_twice(books: Books, database: Database) -> None:
    del books
    await database.totals.update_one({}, {"$inc": {"count": 1}})


async def move_a_total_to_another_hour(books: Books, database: Database) -> None:
    del books
    total = await database.totals.find_one_and_delete({})
    assert total is not None
    await database.totals.insert_one({**total, "_id": {**total["_id"], "hour": datetime(2020, 1, 1, tzinfo=UTC)}})


async def forget_a_bad_one(books: Books, database: Database) -> None:
    del database
    books.confirm(books.record(len(Way) * (BAD_EVERY - 1) + Way.DIRECT))


@pytest.mark.parametrize(
    ("tamper", "kinds"),
    [
        (delete_an_event, {Kind.LOST, Kind.TOTALS}),
        (store_what_nobody_sent, {Kind.UNEXPECTED, Kind.SUMS, Kind.TOTALS}),
        (store_what_was_refused, {Kind.REFUSED}),
        (change_a_property, {Kind.PAYLOAD}),
        (change_a_quantity, {Kind.PAYLOAD, Kind.SUMS, Kind.TOTALS}),
        (count_one_twice, {Kind.TOTALS}),
        (move_a_total_to_another_hour, {Kind.TOTALS}),
        (forget_a_bad_one, {Kind.LOST}),
    ],
)
async def test_each_thing_that_may_be_wrong_is_found(
    tamper: Callable[[Books, Database], Awaitable[None]], kinds: set[Kind], books: Books, still: Scene
) -> None:
    await tamper(books, still.database)
    verdict = Verdict()
    await check_contents(books, still, verdict)
    assert verdict.kinds == kinds, verdict


async def test_a_good_event_among_the_dead_letters_is_found(books: Books, still: Scene) -> None:
    await still.queue.send([json.dumps(books.record(8).to_event()).encode()], exchange="usage.dead")
    verdict = Verdict()
    await check_contents(books, still, verdict)
    assert verdict.kinds == {Kind.DEAD_LETTER}


async def test_a_deployment_that_stores_nothing_any_more_and_has_complained_is_found(pair: Pair, scene: Scene) -> None:
    assert await pair.worker.stop() == 0
    await scene.queue.send([b"[]"])
    (pair.site.directory / "other.log").write_text('{"event": "bug", "level": "error"}\n')
    assert not await is_drained(scene.broker)
    verdict = await check(Books(), scene, Scenario(drain_seconds=0.1, audit=False))
    assert verdict.kinds == {Kind.DRAIN, Kind.LIVENESS, Kind.LOST, Kind.LOG}
