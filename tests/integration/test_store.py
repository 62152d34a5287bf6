import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from contract.event import Reason, Rejected, Source, UsageEvent
from devstack import Devstack
from devstack.ports import LOOPBACK
from tests.integration.test_check import Lone, running
from tests.support.waiting import eventually
from worker.database import APP_NAME, Database, Transaction
from worker.database_errors import DatabaseMisconfigured, DatabaseUnavailable
from worker.ledger import Entry, EntryId
from worker.plan import Outcome
from worker.store import CONFLICT_PATIENCE, WARY_BATCHES, NotAtOnce, Park, Store

Documents = AsyncDatabase[dict[str, Any]]


@dataclass
class Parked:
    """Dead letters that a test can look at."""

    letters: dict[UUID, Rejected] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    """In the order of parking, one that was parked twice also twice."""

    async def park(self, letters: Mapping[UUID, Rejected]) -> None:
        await asyncio.sleep(0)
        self.letters |= letters
        self.rejected += letters.values()

    @property
    def reasons(self) -> list[Reason]:
        return [rejected.reason for rejected in self.rejected]


@pytest.fixture
def parked() -> Parked:
    return Parked()


@asynccontextmanager
async def storing(uri: str, name: str, *, timeout_seconds: float = 5.0) -> AsyncIterator[Store]:
    database = Database(uri, name, timeout_seconds=timeout_seconds)
    await database.prepare()
    try:
        yield Store(database)
    finally:
        await database.close()


@pytest.fixture(params=["new", "trusting"])
async def store(stack: Devstack, database: Documents, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with storing(stack.database.uri, database.name) as store:
        if request.param == "trusting":
            await gain_trust(store)
            await clear(database)
        yield store


async def gain_trust(store: Store) -> None:
    """Write so many batches of nothing but new events that the next ones are not looked up."""
    for number in range(WARY_BATCHES):
        await write(store, [event(2**100 + number)], Parked().park, abandoned=never)


async def clear(database: Documents) -> None:
    for collection in (database.events, database.totals, database.ledger):
        await collection.delete_many({})


def event(number: int, quantity: str = "1", **changes: Any) -> UsageEvent:
    one = UsageEvent(
        id=UUID(int=number),
        project_id="p",
        email="a@example.com",
        metric="calls",
        quantity=Decimal(quantity),
        received_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        source=Source.HTTP,
    )
    return replace(one, **changes)


def events(count: int) -> list[UsageEvent]:
    return [event(number) for number in range(1, count + 1)]


async def write(store: Store, batch: Sequence[UsageEvent], park: Park, *, abandoned: Callable[[], bool]) -> Outcome:
    """Write events that came without a stamp."""
    return await store.write([Entry(EntryId.new(), list(batch))], park, abandoned=abandoned)


def never() -> bool:
    return False


def always() -> bool:
    return True


async def ids(database: Documents) -> list[int]:
    return sorted([document["_id"].int async for document in database.events.find({}, {"_id": 1})])


async def quantity_of(database: Documents, number: int) -> Decimal:
    document = await database.events.find_one({"_id": UUID(int=number)})
    assert document is not None
    quantity: Decimal128 = document["quantity"]
    return quantity.to_decimal()


# What is stored.


async def test_each_event_is_stored_once_and_its_copies_are_counted(
    store: Store, database: Documents, parked: Parked
) -> None:
    batch = events(100)
    assert await write(store, batch, parked.park, abandoned=never) == Outcome(stored=100)
    again = [replace(one, received_at=datetime(2026, 2, 1, tzinfo=UTC), source=Source.QUEUE) for one in batch]
    more = [*again, event(101), event(101)]
    assert await write(store, more, parked.park, abandoned=never) == Outcome(stored=1, duplicates=101)
    assert await ids(database) == list(range(1, 102))
    assert parked.rejected == []
    # and the first one stands, with the time it was received
    first = await database.events.find_one({"_id": UUID(int=1)})
    assert first is not None
    assert first["receivedAt"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert first["source"] == "http"


async def test_what_is_new_is_looked_up_only_for_a_while_after_something_was_not(
    stack: Devstack, database: Documents, parked: Parked, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    find_events = Transaction.find_events

    async def counted(self: Transaction, ids: Sequence[UUID]) -> list[Mapping[str, Any]]:
        looked_up.append(len(ids))
        return await find_events(self, ids)

    monkeypatch.setattr(Transaction, "find_events", counted)
    async with storing(stack.database.uri, database.name) as store:
        # given as many batches of new events as it is wary for
        await gain_trust(store)
        assert len(looked_up) == WARY_BATCHES
        # when new ones follow, then they are not looked up
        assert await write(store, events(3), parked.park, abandoned=never) == Outcome(stored=3)
        assert len(looked_up) == WARY_BATCHES
        # when one is not new, then the batch is written again with a look, and so are the next ones
        assert await write(store, [event(4), event(3)], parked.park, abandoned=never) == Outcome(stored=1, duplicates=1)
        for number in range(10, 10 + 2 * WARY_BATCHES):
            assert await write(store, [event(number)], parked.park, abandoned=never) == Outcome(stored=1)
        assert len(looked_up) == 2 * WARY_BATCHES + 1


async def test_nothing_is_a_batch_too(store: Store, database: Documents, parked: Parked) -> None:
    assert await store.write([], parked.park, abandoned=never) == Outcome()
    assert await ids(database) == []


async def test_other_content_under_a_stored_id_is_parked_with_both_and_the_first_stands(
    store: Store, database: Documents, parked: Parked
) -> None:
    await write(store, [event(1, "10"), event(2, "20")], parked.park, abandoned=never)
    # when
    batch = [event(1, "11"), event(2, "20"), event(3, "30")]
    outcome = await write(store, batch, parked.park, abandoned=never)
    # then
    assert outcome == Outcome(stored=1, duplicates=1, parked=1)
    [conflict] = parked.rejected
    assert conflict.reason is Reason.CONFLICT
    assert conflict.body == batch[0].to_wire()
    assert conflict.source is Source.HTTP
    assert '"quantity":"10"' in conflict.detail
    assert '"quantity":"11"' in conflict.detail
    assert await quantity_of(database, 1) == 10
    assert await ids(database) == [1, 2, 3]


async def test_within_a_batch_the_first_of_an_id_stands(store: Store, database: Documents, parked: Parked) -> None:
    batch = [event(1, "10"), event(1, "11"), event(1, "10"), event(2)]
    assert await write(store, batch, parked.park, abandoned=never) == Outcome(stored=2, duplicates=1, parked=1)
    assert parked.reasons == [Reason.CONFLICT]
    assert await quantity_of(database, 1) == 10


async def test_a_conflict_sent_again_is_parked_again(store: Store, database: Documents, parked: Parked) -> None:
    await write(store, [event(1, "10")], parked.park, abandoned=never)
    for _ in range(2):
        assert await write(store, [event(1, "11")], parked.park, abandoned=never) == Outcome(parked=1)
    assert parked.reasons == [Reason.CONFLICT] * 2
    assert await quantity_of(database, 1) == 10


async def test_the_same_quantity_in_other_digits_is_the_same(store: Store, database: Documents, parked: Parked) -> None:
    await write(store, [event(1, "1.50")], parked.park, abandoned=never)
    assert await write(store, [event(1, "1.5")], parked.park, abandoned=never) == Outcome(duplicates=1)
    assert str(await quantity_of(database, 1)) == "1.50"
    assert parked.rejected == []


@pytest.mark.parametrize("at_once", [5000, 3])
async def test_what_the_server_refuses_is_parked_and_its_neighbours_are_stored(
    store: Store, database: Documents, parked: Parked, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.operations.OPERATION_DOCUMENTS", at_once)
    # given an operator's rule
    await database.command("collMod", "events", validator={"metric": {"$ne": "forbidden"}})
    bad = {3, 7, 8, 20}
    batch = [event(n, metric="forbidden" if n in bad else "calls") for n in range(1, 21)]
    # when
    outcome = await write(store, batch, parked.park, abandoned=never)
    # then
    assert outcome == Outcome(stored=16, parked=4)
    assert parked.reasons == [Reason.REFUSED] * 4
    assert [rejected.body for rejected in parked.rejected] == [batch[n - 1].to_wire() for n in sorted(bad)]
    assert all("validation" in rejected.detail for rejected in parked.rejected)
    assert await ids(database) == [n for n in range(1, 21) if n not in bad]


async def test_a_batch_of_nothing_but_refused_events_is_parked_in_bearable_time(
    store: Store, database: Documents, parked: Parked
) -> None:
    await database.command("collMod", "events", validator={"metric": {"$ne": "forbidden"}})
    began = time.monotonic()
    async with asyncio.timeout(60):
        outcome = await write(store, [event(n, metric="forbidden") for n in range(200)], parked.park, abandoned=never)
    assert outcome == Outcome(parked=200)
    assert time.monotonic() - began < 30


async def test_what_cannot_be_encoded_is_parked_and_its_neighbours_are_stored(
    store: Store, database: Documents, parked: Parked
) -> None:
    # given what no message can bring, for both ends of the queue check it
    batch = [event(1), event(2, properties={"n": 2**63}), event(3), event(4, properties={"\0": 1}), event(5)]
    outcome = await write(store, batch, parked.park, abandoned=never)
    assert outcome == Outcome(stored=3, parked=2)
    assert parked.reasons == [Reason.REFUSED] * 2
    assert await ids(database) == [1, 3, 5]


async def test_when_parking_fails_nothing_of_the_batch_is_stored(
    store: Store, database: Documents, parked: Parked
) -> None:
    await write(store, [event(1, "10")], parked.park, abandoned=never)

    async def fail(_: Mapping[UUID, Rejected]) -> None:
        raise ConnectionError("the broker is gone")

    batch = [event(2), event(1, "11"), event(3)]
    with pytest.raises(ConnectionError):
        await write(store, batch, fail, abandoned=never)
    assert await ids(database) == [1]
    # and the store can be used as before
    assert await write(store, batch, parked.park, abandoned=never) == Outcome(stored=2, parked=1)
    assert await ids(database) == [1, 2, 3]


# What goes wrong on the way.


@asynccontextmanager
async def failing(database: Documents, times: int, **data: Any) -> AsyncIterator[None]:
    """Let the server fail so many commands of the worker's."""
    admin = database.client.admin
    fault = {"appName": APP_NAME, **data}
    # What it answers with is how often that has happened since the server was started.
    before = await admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": fault})
    try:
        yield
    finally:
        after = await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert after["count"] > before["count"], "the fault did not happen"


NOT_DURABLE = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
NO_LONGER_PRIMARY = 10107
INTERRUPTED = 11601
NO_SUCH_TRANSACTION = 251
WRITE_CONFLICT = 112

FAILURES: dict[str, dict[str, Any]] = {
    "closed": {"closeConnection": True},
    "not primary": {"errorCode": NO_LONGER_PRIMARY, "errorLabels": ["TransientTransactionError"]},
    "interrupted": {"errorCode": INTERRUPTED},
    "no such transaction": {"errorCode": NO_SUCH_TRANSACTION, "errorLabels": ["TransientTransactionError"]},
    "conflict": {"errorCode": WRITE_CONFLICT, "errorLabels": ["TransientTransactionError"]},
}
FAULTS = [
    pytest.param({"failCommands": [command], **failure}, id=f"{command} {name}")
    for command in ("find", "insert", "commitTransaction")
    for name, failure in FAILURES.items()
] + [pytest.param({"failCommands": ["commitTransaction"], "writeConcernError": NOT_DURABLE}, id="commit not durable")]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_on_the_way_stores_each_event_once_all_the_same(
    store: Store, database: Documents, parked: Parked, fault: dict[str, Any]
) -> None:
    for times in (1, 2):
        batch = [event(100 * times + n) for n in range(20)]
        async with failing(database, times, **fault):
            outcome = await write(store, batch, parked.park, abandoned=never)
            # a store that has come to trust looks nothing up before this
            again = await write(store, batch, parked.park, abandoned=never)
        # what was committed unheard is known by its entry in the ledger
        assert (outcome, again) == (Outcome(stored=20), Outcome(duplicates=20))
    assert await ids(database) == [*range(100, 120), *range(200, 220)]
    assert parked.rejected == []
    assert store.available


async def test_a_commit_that_is_not_durable_is_not_taken_for_one(
    store: Store, database: Documents, parked: Parked
) -> None:
    async with failing(database, 50, failCommands=["commitTransaction"], writeConcernError=NOT_DURABLE):
        with pytest.raises(DatabaseUnavailable):
            await write(store, [event(1)], parked.park, abandoned=always)
    assert await write(store, [event(1)], parked.park, abandoned=never) == Outcome(duplicates=1)


async def test_a_batch_that_meets_nothing_but_conflicts_is_to_be_tried_in_parts_unless_it_has_none(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    conflict = {"failCommands": ["insert"], "errorCode": WRITE_CONFLICT, "errorLabels": ["TransientTransactionError"]}
    async with storing(stack.database.uri, database.name) as store:
        async with failing(database, 1_000_000, **conflict):
            with pytest.raises(NotAtOnce) as caught:
                await write(store, events(2), parked.park, abandoned=never)
            assert not caught.value.is_for_size
            trying = asyncio.create_task(write(store, events(1), parked.park, abandoned=never))
            await asyncio.wait([trying], timeout=2 * CONFLICT_PATIENCE)
            assert not trying.done()
            with pytest.raises(DatabaseUnavailable):
                await write(store, events(1), parked.park, abandoned=always)
        assert await trying == Outcome(stored=1)


async def test_a_conflict_is_parked_once_however_often_the_batch_is_redone(
    store: Store, database: Documents, parked: Parked
) -> None:
    await write(store, [event(1, "10")], parked.park, abandoned=never)
    async with failing(database, 4, failCommands=["insert"], closeConnection=True):
        outcome = await write(store, [event(1, "11"), event(2)], parked.park, abandoned=never)
    assert outcome == Outcome(stored=1, parked=1)
    assert parked.reasons == [Reason.CONFLICT]


async def test_two_workers_with_the_same_events_store_each_once(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    uri = stack.database.uri
    async with storing(uri, database.name) as one, storing(uri, database.name) as other:
        for round_number in range(10):
            batch = [event(1000 * round_number + n) for n in range(200)]
            outcomes = await asyncio.gather(
                *(
                    write(store, random.sample(batch, len(batch)), parked.park, abandoned=never)
                    for store in (one, other)
                )
            )
            assert sum(outcome.stored for outcome in outcomes) == 200
            assert sum(outcome.duplicates for outcome in outcomes) == 200
    assert len(await ids(database)) == 2000
    assert parked.rejected == []


async def test_two_workers_with_two_versions_of_an_event_store_one_and_park_the_other(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    uri = stack.database.uri
    async with storing(uri, database.name) as one, storing(uri, database.name) as other:
        await asyncio.gather(
            write(one, [event(n, "1") for n in range(50)], parked.park, abandoned=never),
            write(other, [event(n, "2") for n in range(50)], parked.park, abandoned=never),
        )
    assert await ids(database) == list(range(50))
    assert parked.reasons == [Reason.CONFLICT] * 50


@asynccontextmanager
async def hanging_transaction(uri: str, name: str, number: int, appname: str) -> AsyncIterator[None]:
    """Somebody who has inserted an event in a transaction, and says no more."""
    async with AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", appname=appname) as client:
        session = client.start_session()
        await session.start_transaction()
        await client[name].events.insert_one({"_id": UUID(int=number)}, session=session)
        yield
        with suppress(PyMongoError):
            await session.abort_transaction()
        await session.end_session()


async def test_what_a_killed_worker_left_open_delays_its_successor_by_seconds_only(
    stack: Devstack, store: Store, database: Documents, parked: Parked
) -> None:
    delays = []
    for first in (1, 11, 21):
        async with hanging_transaction(stack.database.uri, database.name, first + 4, APP_NAME):
            began = time.monotonic()
            batch = [event(number) for number in range(first, first + 10)]
            assert await write(store, batch, parked.park, abandoned=never) == Outcome(stored=10)
            delays.append(time.monotonic() - began)
            assert delays[-1] < 15  # the server itself waits for a minute
    assert min(delays) < 3  # what the others took longer is the machine's
    assert await ids(database) == list(range(1, 31))


async def test_what_another_program_holds_open_is_left_alone_and_waited_for(
    stack: Devstack, store: Store, database: Documents, parked: Parked
) -> None:
    async with hanging_transaction(stack.database.uri, database.name, 5, "somebody-else"):
        writing = asyncio.create_task(write(store, events(10), parked.park, abandoned=never))
        done, _ = await asyncio.wait([writing], timeout=2.5)
        assert not done
    assert await writing == Outcome(stored=10)
    assert await ids(database) == list(range(1, 11))


async def test_a_worker_at_work_is_no_victim_of_another_that_clears_up(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    cleaner = Database(stack.database.uri, database.name, timeout_seconds=5)
    await cleaner.prepare()
    try:
        async with storing(stack.database.uri, database.name) as store:
            writing = asyncio.create_task(write(store, events(2000), parked.park, abandoned=never))
            while not writing.done():
                await cleaner.kill_orphans()
            assert await writing == Outcome(stored=2000)
    finally:
        await cleaner.close()
    assert len(await ids(database)) == 2000


# When the database is away.


@asynccontextmanager
async def frozen(stack: Devstack) -> AsyncIterator[None]:
    await asyncio.to_thread(stack.database.freeze)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.database.thaw)


@asynccontextmanager
async def killed(stack: Devstack) -> AsyncIterator[None]:
    await asyncio.to_thread(stack.database.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.database.start)


Fault = Callable[[Devstack], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_a_batch_waits_for_the_database_to_come_back(
    stack: Devstack, database: Documents, parked: Parked, fault: Fault
) -> None:
    async with storing(stack.database.uri, database.name, timeout_seconds=2) as store:
        await write(store, [event(1)], parked.park, abandoned=never)
        async with fault(stack):
            writing = asyncio.create_task(write(store, events(10), parked.park, abandoned=never))
            await eventually(lambda: not store.available)
            assert not writing.done()
        async with asyncio.timeout(30):
            outcome = await writing
        assert store.available
    assert outcome.stored + outcome.duplicates == 10
    assert await ids(database) == list(range(1, 11))


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_an_abandoned_batch_is_given_up_after_a_failed_attempt(
    stack: Devstack, database: Documents, parked: Parked, fault: Fault
) -> None:
    async with storing(stack.database.uri, database.name, timeout_seconds=2) as store:
        await write(store, [event(1)], parked.park, abandoned=never)
        async with fault(stack):
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await write(store, events(10), parked.park, abandoned=always)
            assert time.monotonic() - began < 15
            assert not store.available
        # and the store can be used when the database is back
        async with asyncio.timeout(30):
            outcome = await write(store, events(10), parked.park, abandoned=never)
        assert outcome.stored + outcome.duplicates == 10
    assert await ids(database) == list(range(1, 11))


async def test_an_abandoned_batch_is_stored_all_the_same_when_nothing_fails(
    store: Store, database: Documents, parked: Parked
) -> None:
    assert await write(store, events(10), parked.park, abandoned=always) == Outcome(stored=10)
    assert await ids(database) == list(range(1, 11))


async def test_a_database_that_is_away_does_not_answer_a_ping(stack: Devstack, database: Documents) -> None:
    ours = Database(stack.database.uri, database.name, timeout_seconds=2)
    try:
        await ours.ping()
        async with frozen(stack):
            with pytest.raises(DatabaseUnavailable):
                await ours.ping()
        await ours.ping()
    finally:
        await ours.close()


async def test_a_database_that_hangs_holds_up_no_stop(stack: Devstack, database: Documents) -> None:
    closing = Database(stack.database.uri, database.name, timeout_seconds=5)
    await closing.prepare()
    async with frozen(stack):
        began = time.monotonic()
        end = asyncio.create_task(closing.close())
        await asyncio.sleep(0.1)
        assert time.monotonic() - began < 1  # nothing else waits for it
        await end
        assert time.monotonic() - began < 15  # the driver by itself waits for half a minute


# The first contact.


async def test_preparing_creates_the_index_and_can_be_repeated(
    stack: Devstack, database: Documents, parked: Parked
) -> None:
    ours = Database(stack.database.uri, database.name, timeout_seconds=5)
    try:
        await ours.prepare()
        await ours.prepare()
        assert await write(Store(ours), [event(1)], parked.park, abandoned=never) == Outcome(stored=1)
    finally:
        await ours.close()
    keys = [index["key"] for index in (await database.events.index_information()).values()]
    assert keys == [[("_id", 1)], [("projectId", 1), ("email", 1), ("metric", 1), ("timestamp", 1)]]


async def test_the_pages_of_the_events_indexes_are_small(stack: Devstack, database: Documents) -> None:
    ours = Database(stack.database.uri, database.name, timeout_seconds=5)
    try:
        await ours.prepare()
    finally:
        await ours.close()
    described = await database.client[database.name].command("collStats", "events", indexDetails=True)
    created = {name: index["creationString"] for name, index in described["indexDetails"].items()}
    assert len(created) == 2
    assert all("leaf_page_max=4KB" in options for options in created.values())


async def test_a_server_that_stores_in_another_way_creates_the_events_as_it_does(
    stack: Devstack, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: dict[str, Any] = {"indexOptionDefaults": {"storageEngine": {"another": {}}}}
    monkeypatch.setattr("worker.database.SMALL_LEAVES", other)
    ours = Database(stack.database.uri, database.name, timeout_seconds=5)
    try:
        await ours.prepare()
        await ours.prove_writes()
    finally:
        await ours.close()
    assert len(await database.events.index_information()) == 2


async def test_many_workers_can_prepare_at_once(stack: Devstack, database: Documents) -> None:
    ours = [Database(stack.database.uri, database.name, timeout_seconds=5) for _ in range(4)]
    try:
        await asyncio.gather(*(one.prepare() for one in ours))
    finally:
        for one in ours:
            await one.close()
    assert len(await database.events.index_information()) == 2


async def prepare(uri: str, *, timeout_seconds: float = 10) -> None:
    ours = Database(uri, "test", timeout_seconds=timeout_seconds)
    try:
        await ours.prepare()
    finally:
        await ours.close()


@pytest.mark.parametrize("options", ["w=1", "w=0", "journal=false", "w=majority&journal=false", "w=2"])
async def test_a_uri_that_asks_for_less_than_durable_writes_is_refused(stack: Devstack, options: str) -> None:
    with pytest.raises(DatabaseMisconfigured, match="write concern"):
        await prepare(f"{await asyncio.to_thread(lambda: stack.database.uri)}&{options}")


@pytest.mark.parametrize("options", ["w=majority", "journal=true", "w=majority&journal=true&retryWrites=false"])
async def test_a_uri_that_asks_for_durable_writes_will_do(stack: Devstack, options: str) -> None:
    await prepare(f"{await asyncio.to_thread(lambda: stack.database.uri)}&{options}")


async def test_credentials_that_the_server_refuses_are_said_without_the_password(stack: Devstack) -> None:
    uri = (await asyncio.to_thread(lambda: stack.database.uri)).replace("mongodb://", "mongodb://me:wr0ng@")
    with pytest.raises(DatabaseMisconfigured) as caught:
        await prepare(uri)
    assert "wr0ng" not in str(caught.value)


async def test_a_server_that_is_not_there_is_unavailable_not_misconfigured() -> None:
    with pytest.raises(DatabaseUnavailable):
        await prepare("mongodb://127.0.0.1:9/?replicaSet=rs0", timeout_seconds=1)


async def test_a_server_that_stands_alone_is_refused(tmp_path: Path) -> None:
    async with running(Lone(tmp_path, member=False)) as server:
        with pytest.raises(DatabaseMisconfigured, match="stands alone"):
            await prepare(f"mongodb://{LOOPBACK}:{server.port}/")


@pytest.mark.parametrize("option", ["directConnection=true", "replicaSet=rs0"])
async def test_a_server_that_is_in_no_replica_set_yet_is_waited_for(tmp_path: Path, option: str) -> None:
    async with running(Lone(tmp_path, member=True)) as server:  # as every member is for a moment when it starts
        with pytest.raises(DatabaseUnavailable):
            await prepare(f"mongodb://{LOOPBACK}:{server.port}/?{option}", timeout_seconds=2)
