"""One event, found by the real command wherever it is."""

import json
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract.connection import connect
from contract.event import event_id
from tests.support.letters import Post, Tool, event, parked, post, settled_depth
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Pair, Site
from tests.support.queue import Queue
from tests.support.waiting import eventually
from worker.dead_letters.browsing import Browser

__all__ = ["post"]  # a fixture

Documents = AsyncDatabase[dict[str, Any]]

ORDER_42 = event_id(EXAMPLE_PROJECT, "order-42")
NAMED = ("--project", EXAMPLE_PROJECT, "--key", "order-42")


@pytest.fixture
def tool(site: Site) -> Tool:
    return Tool(site, command="find")


async def test_an_event_is_followed_from_the_queue_to_its_document_and_its_contradiction(
    pair: Pair, tool: Tool, http: aiohttp.ClientSession, queue: Queue, database: Documents
) -> None:
    record = {**EXAMPLE, "quantity": "12345678901234567.890", "idempotencyKey": "order-42", "properties": {"n": 7}}
    await pair.worker.stop()
    async with http.post(pair.usage_url(), json=record) as answer:
        assert answer.headers["Usage-Id"] == str(ORDER_42)

    waiting = await tool(*NAMED, code=1)
    assert waiting.text.splitlines()[0] == "unknown"
    assert "still in the queue" in waiting.text

    pair.worker = await pair.site.worker("second").start()
    await eventually(lambda: database.events.find_one({"_id": ORDER_42}))
    await pair.worker.logged('"event": "prefetch"')  # until then it may be between two subscriptions
    stored = json.loads((await tool(str(ORDER_42), "--json", "--ledger")).stdout)
    assert stored["state"] == "stored"
    assert {name: stored["event"][name] for name in ("_id", "quantity", "properties", "source")} == {
        "_id": str(ORDER_42),
        "quantity": "12345678901234567.890",
        "properties": {"n": 7},
        "source": "http",
    }
    assert (stored["deadLetters"], stored["queue"]) == ([], {"ready": 0, "consumers": 1})
    row = await database.ledger.find_one({"ids": ORDER_42.bytes})
    assert row is not None
    assert [one["message"] for one in stored["ledger"]] == [f"{row['_id']['publisher']}:{row['_id']['seq']}"]

    async with http.post(pair.usage_url(), json={**record, "quantity": 2}) as answer:
        assert answer.status == 200
    await settled_depth(queue, 1)
    both = await tool(*NAMED)
    assert both.text.splitlines()[0] == "stored and dead-lettered"
    assert "  quantity:        12345678901234567.890" in both.text
    assert " CONFLICT " in both.text
    await settled_depth(queue, 1)


async def test_all_dead_letters_of_an_event_are_told_and_stay_where_they_are(
    tool: Tool, post: Post, queue: Queue
) -> None:
    by_key, by_id = parked(event(7, "p"), "REFUSED"), parked(event(8, "p", id=str(event_id("p", "key-7"))), "INVALID")
    await post.park([parked(event(1, "p")), by_key, parked(b"?", "UNDECODABLE"), by_id])
    await post.strand(b"[" + event(6, "p") + b"," + event(7, "p") + b"]")

    told = json.loads((await tool("--project", "p", "--key", "key-7", "--json", code=1)).stdout)
    assert (told["state"], told["event"]) == ("dead-lettered", None)
    assert [letter["key"] for letter in told["deadLetters"][:2]] == [by_key.key, by_id.key]
    assert [letter["reason"] for letter in told["deadLetters"]] == ["REFUSED", "INVALID", "UNROUTED"]
    await settled_depth(queue, 5)


async def test_an_event_that_nobody_has_heard_of_is_unknown(tool: Tool) -> None:
    assert (await tool(str(UUID(int=1)), code=1)).text.splitlines() == [
        "unknown",
        "No message is in the queue; what workers hold at this moment cannot be seen.",
    ]


async def test_who_reads_the_dead_letters_is_waited_for_by_hand(tool: Tool, site: Site) -> None:
    async with connect(site.amqp_url, name="test") as connection:
        await Browser.open(connection)
        assert "try again" in (await tool(str(ORDER_42), code=75)).stderr
