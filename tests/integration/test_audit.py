"""The real command, on books that balance and on books that do not."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import aiohttp
import pytest
from bson import Decimal128
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.connection import connect
from contract.event import Reason, Rejected, Source
from contract.stamp import Stamp
from devstack import Devstack
from runtime.supervision import ExitCode
from tests.integration.test_store import event, storing
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Pair, Site, consuming
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.ledger import Entry, EntryId
from worker.parking import DeadLetters
from worker.store import Store

Documents = AsyncDatabase[dict[str, Any]]

PUBLISHER = UUID(int=77)


@dataclass
class Audit:
    """What one run of the command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.out)
        return content

    def wrong(self, kind: str) -> list[dict[str, str]]:
        return [one for one in self.document["wrong"] if one["kind"] == kind]


async def audit(site: Site, *arguments: str, **settings: str) -> Audit:
    environment = {
        "WORKER_AMQP_URL": site.amqp_url,
        "WORKER_MONGODB_URI": site.mongodb_uri,
        "WORKER_MONGODB_DATABASE": site.database,
        **{f"WORKER_{name.upper()}": value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "worker", "audit", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        out, err = await process.communicate()
    assert "Traceback" not in err.decode(), err.decode()
    return Audit(process.returncode or 0, out.decode(), err.decode())


async def findings(site: Site, *arguments: str) -> list[str]:
    """What a run names that does not balance: kinds, and the names of what is missing."""
    run = await audit(site, "--json", *arguments)
    assert run.code == 1, run
    return sorted(one["kind"] for one in run.document["wrong"])


@pytest.fixture
async def store(stack: Devstack, database: Documents) -> AsyncIterator[Store]:
    async with storing(stack.database.uri, database.name) as store:
        yield store


@dataclass
class Desk:
    """Writes books as a worker does, without one."""

    site: Site
    store: Store

    async def settle(self, entry: Entry) -> None:
        async with connect(self.site.amqp_url, name="test") as connection:
            dead_letters = DeadLetters(await connection.driver_channel())
            await self.store.write([entry], dead_letters.park, abandoned=lambda: False)

    async def settle_stamped(self, seq: int, numbers: Sequence[int], *, bad: int = 0, **stamp: Any) -> None:
        mark = Stamp(PUBLISHER, seq, len(numbers) + bad, **stamp)
        rejected = [Rejected(b"?", Source.HTTP, Reason.INVALID, "email is required")] * bad
        entry = Entry(EntryId.of_stamp(mark), [event(n) for n in numbers], rejected, mark, b"d" * 16)
        await self.settle(entry)

    async def settle_direct(self, numbers: Sequence[int]) -> None:
        await self.settle(Entry(EntryId.new(), [event(n) for n in numbers]))

    async def dead_letter(self, stamp: Stamp | None, body: bytes = b"[]") -> None:
        """As the broker does with a message that crashed too many workers."""
        connection = await aio_pika.connect(self.site.amqp_url)
        async with connection, connection.channel() as channel:
            exchange = await channel.get_exchange(topology.DEAD_EXCHANGE, ensure=False)
            await exchange.publish(aio_pika.Message(body, headers=stamp.to_headers() if stamp else {}), "")


@pytest.fixture
def desk(site: Site, store: Store) -> Desk:
    return Desk(site, store)


# What balances.


async def test_nothing_balances(site: Site) -> None:
    run = await audit(site)
    assert run.code == 0, run
    assert "The books balance." in run.out
    assert run.err == ""


async def test_every_way_in_and_out_balances(desk: Desk, database: Documents) -> None:
    # given 3 confirmed events, one of them rejected; 2 that were refused and arrived; a copy; a tail; direct ones
    await desk.settle_stamped(1, [1, 2], bad=1)
    await desk.settle_stamped(2, [3, 4])
    await desk.settle_stamped(4, [], floor=3, confirmed=3, void=((2, 3),))
    await desk.settle_stamped(5, [5])
    await desk.settle_stamped(5, [5])
    await desk.settle_direct([6, 1])
    # when
    run = await audit(desk.site, "--json")
    # then
    assert run.code == 0, run
    assert run.document["verdict"] == "balanced"
    assert run.document["came"] == {
        "confirmed": 3,
        "refused": 2,
        "unclaimed": 1,
        "direct": 2,
        "replayed": 0,
        "total": 8,
    }
    assert run.document["became"] == {
        "stored": 6,
        "duplicates": 1,
        "rejected": 1,
        "apart": 0,
        "open": 0,
        "total": 8,
    }
    assert run.document["deadLetters"]["depth"] == 1
    assert run.document["ids"] == {"ledger": 6, "events": 6}
    # and the letter is where it was
    assert (await audit(desk.site)).code == 0
    table = (await audit(desk.site, "--verbose")).out
    assert str(PUBLISHER) in table
    assert "Unclaimed:" in table
    assert await database.events.count_documents({}) == 6


async def test_a_whole_message_among_the_dead_letters_is_accounted_for(desk: Desk) -> None:
    await desk.settle_stamped(1, [1])
    await desk.dead_letter(Stamp(PUBLISHER, 2, 5))
    await desk.dead_letter(None)
    await desk.settle_stamped(3, [], floor=2, confirmed=6)
    run = await audit(desk.site, "--json")
    assert run.code == 0, run
    assert run.document["became"]["apart"] == 5
    assert run.document["deadLetters"]["whole"] == 2
    # and when it is replayed after all, the letter that a killed tool left is a copy
    await desk.settle_stamped(2, [2, 3, 4, 5, 6])
    run = await audit(desk.site, "--json")
    assert run.code == 0, run
    assert (run.document["deadLetters"]["whole"], run.document["deadLetters"]["copies"]) == (1, 1)


# What does not.


async def test_a_document_deleted_by_hand_is_named_with_its_customer_and_hour(desk: Desk, database: Documents) -> None:
    await desk.settle_stamped(1, range(1, 50))
    await desk.settle_stamped(2, [], floor=1, confirmed=49)
    await database.events.delete_one({"_id": UUID(int=7)})
    run = await audit(desk.site)
    assert run.code == 1
    assert f"event {UUID(int=7)} was stored, says the ledger's row {PUBLISHER}:1, and is not there" in run.out
    assert (
        "project p, customer a@example.com, metric calls, hour 2026-01-31T12:00Z: "
        "the events sum up to 48 in 48, the totals to 49 in 49" in run.out
    )
    assert "The books do not balance." in run.out


async def test_each_contradiction_in_the_database_is_named(desk: Desk, database: Documents) -> None:
    await desk.settle_stamped(1, range(1, 5), bad=1)
    await desk.settle_direct([5])
    stranger, nameless = UUID(int=99), "by hand"
    total = {"projectId": "p", "email": "b@example.com", "metric": "m", "hour": datetime(2026, 1, 1, 5, tzinfo=UTC)}
    event = {"projectId": "p", "email": "c@example.com", "metric": "m", "quantity": Decimal128("2")}
    await database.events.insert_many(
        [
            {**event, "_id": stranger, "timestamp": datetime(2026, 1, 1, 6, 59, tzinfo=UTC)},
            {**event, "_id": nameless, "timestamp": "yesterday"},
        ]
    )
    await database.totals.insert_one({"_id": {**total, "slot": 7}, "quantity": Decimal128("0.1"), "count": 1})
    row = await database.ledger.find_one({"stored": 1})
    assert row is not None
    await database.ledger.insert_one({**row, "_id": {"batch": uuid4()}, "duplicates": 3})
    await database.ledger.insert_one({"_id": "nonsense"})
    # when
    run = await audit(desk.site, "--json")
    # then
    assert run.code == 1
    assert {one["id"] for one in run.wrong("event-unentered")} == {str(stranger), nameless}
    assert [(one["id"], one["times"]) for one in run.wrong("event-repeated")] == [(str(UUID(int=5)), "2")]
    assert len(run.wrong("bad-row")) == 2
    assert {(one["customer"], one["hour"]) for one in run.wrong("total")} == {
        ("b@example.com", "2026-01-01T05:00Z"),
        ("c@example.com", "2026-01-01T06:00Z"),
        ("c@example.com", "yesterday"),
    }
    # and only what is a project's own, when asked for it
    await database.events.delete_one({"_id": UUID(int=1)})
    other = await audit(desk.site, "--json", "--project", "q")
    assert other.wrong("total") == other.wrong("event-unentered") == []
    assert [one["id"] for one in other.wrong("event-missing")] == [str(UUID(int=1))]
    same = await audit(desk.site, "--json", "--project", "q", "--project", "p")
    assert len(same.wrong("total")) == 4


async def test_a_message_that_is_nowhere_is_named_after_the_wait(desk: Desk) -> None:
    await desk.settle_stamped(1, [1])
    await desk.settle_stamped(5, [2], floor=4, confirmed=9)
    run = await audit(desk.site, "--wait", "1")
    assert run.code == 1
    assert f"{PUBLISHER}:2-4 was confirmed by the broker, and neither stored nor dead-lettered" in run.out
    assert "looking again" in run.err


async def test_a_dead_letter_that_was_thrown_away_is_named(desk: Desk, queue: Queue) -> None:
    await desk.settle_stamped(1, [1], bad=2)
    assert await queue.depth(topology.DEAD_QUEUE) == 2
    await queue.reset()
    assert await findings(desk.site, "--wait", "0.5") == ["missing-dead-letter"] * 2


async def test_dead_letters_that_were_replayed_or_purged_are_settled(
    desk: Desk, queue: Queue, database: Documents
) -> None:
    await desk.settle_stamped(1, [1], bad=3)
    await desk.dead_letter(Stamp(PUBLISHER, 2, 5, floor=1, confirmed=4))
    keys = [EntryId.of_stamp(Stamp(PUBLISHER, 1, 4)).letter_key(position) for position in range(3)]
    # given one replayed, and one purged; their letters left there by a tool that was killed
    await desk.settle(Entry(EntryId.of_replay(keys[0]), [event(9)], digest=b"d" * 16))
    await database.ledger.insert_one({"_id": {"purged": keys[1]}, "reason": "INVALID", "at": datetime.now(UTC)})
    run = await audit(desk.site, "--json")
    assert run.code == 0, run
    assert run.document["deadLetters"] == {
        "rejected": 3,
        "replayed": 1,
        "purged": 1,
        "missing": 0,
        "whole": 1,
        "copies": 2,
        "depth": 4,
    }
    # when all are purged
    purged = {"publisher": PUBLISHER, "seq": 2, "events": 5, "floor": 1, "confirmed": 4}
    await database.ledger.insert_one({"_id": {"purged": keys[2]}, "reason": "INVALID", "at": datetime.now(UTC)})
    await database.ledger.insert_one({"_id": {"purged": uuid4()}, "reason": "DELIVERY_LIMIT", **purged})
    await queue.reset()
    # then nothing is missing, though nothing is there
    await desk.settle_stamped(3, [], floor=2, confirmed=9)
    run = await audit(desk.site, "--json")
    assert run.code == 0, run
    assert run.document["became"]["apart"] == 5


# What is not decided.


async def test_messages_in_the_queue_are_under_way(desk: Desk, queue: Queue) -> None:
    await desk.settle_stamped(1, [1])
    await desk.settle_stamped(3, [2], floor=2, confirmed=2)
    await queue.send([b"[]"])
    run = await audit(desk.site, "--wait", "0.5")
    assert run.code == 75
    assert f"perhaps still under way: {PUBLISHER}:2 " in run.out
    assert "Not decided" in run.out


async def test_what_a_worker_may_hold_is_not_lost_without_a_wait(desk: Desk, site: Site) -> None:
    await desk.settle_stamped(3, [2], floor=2, confirmed=2)
    assert (await audit(site, "--wait", "0")).code == 1
    async with consuming(site):
        assert (await audit(site, "--wait", "0")).code == 75


async def test_a_second_reader_of_the_dead_letters_is_asked_to_wait(desk: Desk, site: Site) -> None:
    await desk.settle_stamped(1, [], bad=1)
    async with connect(site.amqp_url, name="test") as connection:
        channel = await connection.driver_channel()
        await channel.basic_consume(topology.DEAD_QUEUE, lambda _: asyncio.sleep(0))
        run = await audit(site, "--wait", "0.5")
        assert (run.code, run.out) == (75, "")
        assert "somebody else is reading the dead letters" in run.err


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ({"amqp_url": "amqp://guest:guest@127.0.0.1:9/"}, 75, "the broker is unavailable"),
        (
            {"mongodb_uri": "mongodb://127.0.0.1:9/?replicaSet=rs0", "mongodb_timeout": "1"},
            75,
            "the database is unavailable",
        ),
        ({"mongodb_uri": "nonsense"}, 78, "WORKER_MONGODB_URI is wrong"),
        ({"amqp_url": "http://x"}, 78, "WORKER_AMQP_URL is wrong"),
    ],
)
async def test_what_stands_in_the_way_is_said(site: Site, settings: dict[str, str], code: int, sentence: str) -> None:
    run = await audit(site, **settings)
    assert (run.code, run.out) == (code, "")
    assert sentence in run.err


# The real pair.


async def test_the_real_pair_keeps_books_that_balance(
    pair: Pair, http: aiohttp.ClientSession, queue: Queue, database: Documents
) -> None:
    # given events, copies, garbage, and a worker killed among them
    async def post(number: int) -> None:
        async with http.post(pair.usage_url(), json={**EXAMPLE, "idempotencyKey": str(number)}) as response:
            assert response.status == 200

    for number in range(3):
        await asyncio.gather(*map(post, range(50 * number, 50 * number + 100)))
        await pair.replace_worker()
    direct = json.dumps({"projectId": EXAMPLE_PROJECT, "idempotencyKey": "0", **EXAMPLE})
    await queue.send([b"garbage", direct.encode()])
    # then
    run = await eventually_audited(pair.site, stored=200, duplicates=101)
    assert run.code == 0, run
    assert run.document["deadLetters"]["depth"] == 1
    # and when one is deleted, it is named
    victim = await database.events.find_one_and_delete({})
    assert victim is not None
    run = await audit(pair.site, "--json", "--wait", "0")
    assert run.code == 1
    [missing], [total] = run.wrong("event-missing"), run.wrong("total")
    assert missing["id"] == str(victim["_id"])
    assert (total["customer"], total["hour"]) == (EXAMPLE["email"], f"{victim['timestamp']:%Y-%m-%dT%H:00Z}")


async def eventually_audited(site: Site, **became: int) -> Audit:
    """A run that finds this, and everything claimed: the mark of the last messages comes after a second of silence."""

    async def complete() -> Audit | None:
        run = await audit(site, "--json")
        if run.code == ExitCode.FORCED:  # not decided: the worker takes its time
            return None
        is_all = not run.document["came"]["unclaimed"] and became.items() <= run.document["became"].items()
        return run if run.code or is_all else None

    return await eventually(complete, seconds=60, what=f"books with {became}")
