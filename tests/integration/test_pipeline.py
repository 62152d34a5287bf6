import asyncio
import json
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import event_id
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Pair, Site, public_url
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]


async def stored(database: Database, count: int) -> list[dict[str, Any]]:
    async def all_there() -> bool:
        return await database.events.count_documents({}) >= count

    await eventually(all_there, what=f"{count} stored events")
    return await database.events.find().to_list()


async def test_a_posted_record_is_stored_as_it_was_sent(
    pair: Pair, http: aiohttp.ClientSession, database: Database
) -> None:
    async with http.post(pair.usage_url(), json=EXAMPLE) as response:
        assert response.status == 200
        assert await response.read() == b'{"message": "Usage recorded successfully"}'
        usage_id = response.headers["Usage-Id"]
    [document] = await stored(database, 1)
    assert document["_id"] == UUID(usage_id)
    assert document["projectId"] == EXAMPLE_PROJECT
    assert document["email"] == "amari_koss69@northwind.dev"
    assert document["metric"] == "program quantify"
    assert str(document["quantity"]) == "195.84"
    assert document["source"] == "http"
    assert document["timestamp"] == document["receivedAt"]


async def test_posts_and_queue_records_are_each_stored_once_with_exact_sums(
    pair: Pair, http: aiohttp.ClientSession, database: Database, queue: Queue
) -> None:
    # given 200 posts, and 150 events of a queue producer that sends a third of them twice
    posted: list[dict[str, Any]] = [{**EXAMPLE, "quantity": f"{n}.000000001"} for n in range(200)]
    sent: list[dict[str, Any]] = [
        {**EXAMPLE, "projectId": EXAMPLE_PROJECT, "idempotencyKey": f"order-{n}", "quantity": "12345678901234567.89"}
        for n in range(150)
    ]
    bodies = [json.dumps(record).encode() for record in sent]

    # when both go in at the same time
    async def post(record: dict[str, Any]) -> str:
        async with http.post(pair.usage_url(), json=record) as response:
            assert response.status == 200
            return response.headers["Usage-Id"]

    answers, _ = await asyncio.gather(
        asyncio.gather(*map(post, posted)), queue.send([*bodies, *bodies[::3], json.dumps(sent[:50]).encode()])
    )

    # then there is one document each, and not a digit is lost
    documents = await stored(database, 350)
    await eventually(queue_is_empty(queue))
    assert len(documents) == 350
    ids = {document["_id"] for document in documents}
    assert ids == {UUID(answer) for answer in answers} | {event_id(EXAMPLE_PROJECT, f"order-{n}") for n in range(150)}
    quantities = [document["quantity"].to_decimal() for document in documents]
    assert sum(quantities) == sum(Decimal(record["quantity"]) for record in [*posted, *sent])
    assert await queue.dead_letters() == []


def queue_is_empty(queue: Queue) -> Any:
    async def empty() -> bool:
        return await queue.depth() == 0

    return empty


async def test_garbage_on_the_queue_is_parked_with_its_reason_and_stops_nothing(
    pair: Pair, database: Database, queue: Queue
) -> None:
    good = json.dumps({**EXAMPLE, "projectId": "p", "idempotencyKey": "good"}).encode()
    garbage = {
        b"": "UNDECODABLE",
        b"not json": "UNDECODABLE",
        good + b"x": "UNDECODABLE",
        json.dumps({"projectId": 1, "email": [], "metric": None, "quantity": {}}).encode(): "INVALID",
        b'{"email": "\xff"}': "UNDECODABLE",
        b"[" * 5000 + b"]" * 5000: "UNDECODABLE",
        b"null": "INVALID",
        b'{"quantity": NaN}': "UNDECODABLE",
    }
    await queue.send([*garbage, good])
    await stored(database, 1)

    async def parked() -> bool:
        return await queue.depth("usage.dead-letters") == len(garbage)

    await eventually(parked)
    assert {letter.body: letter.reason for letter in await queue.dead_letters()} == garbage
    assert all(letter.detail for letter in await queue.dead_letters())
    assert pair.worker.running


async def test_several_ingest_processes_share_a_port(site: Site, http: aiohttp.ClientSession, queue: Queue) -> None:
    del queue
    one = await site.ingest("one", reuse_port="true").start()
    other = None
    try:
        url = await public_url(one)
        other = await site.ingest("other", reuse_port="true", port=url.rpartition(":")[2]).start()
        assert await public_url(other) == url
        # when records come on connections of their own, then each process takes some of them
        for number in range(40):
            async with http.post(
                f"{url}/api/billing/public/projects/p/usage", json=EXAMPLE, headers={"Connection": "close"}
            ) as response:
                assert response.status == 200, number
        taken = [await accepted(http, process) for process in (one, other)]
        assert sum(taken) == 40
        assert min(taken) > 0
        # and when one ends, the other goes on
        assert await one.stop() == 0
        async with http.post(f"{url}/api/billing/public/projects/p/usage", json=EXAMPLE) as response:
            assert response.status == 200
    finally:
        await one.close()
        if other is not None:
            await other.close()


async def accepted(http: aiohttp.ClientSession, ingest: Process) -> int:
    """How many events a process has answered for."""
    port = (await ingest.logged(r'"port": (\d+)'))[1]
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        return int(float(re.findall(r"^usage_events_accepted_total (\S+)", await response.text(), re.MULTILINE)[0]))
