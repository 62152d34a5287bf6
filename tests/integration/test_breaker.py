"""A worker that finds invalid what ingest has validated stops consuming; one that is sent garbage does not."""

import json
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.stamp import Stamp
from tests.support.pair import EXAMPLE, Site
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
INVALID = json.dumps([{**EXAMPLE, "projectId": "p", "id": str(uuid4()), "email": "no address"}]).encode()


async def publish_as_ingest(url: str, count: int, *, exchange: str = topology.EXCHANGE) -> None:
    """Send what an ingest of another version might: stamped messages that are invalid to this worker."""
    publisher = uuid4()
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        target = await channel.get_exchange(exchange, ensure=False)
        for seq in range(1, count + 1):
            headers = Stamp(publisher, seq, 1).to_headers()
            message = aio_pika.Message(INVALID, headers=headers, delivery_mode=2)
            await target.publish(message, topology.ROUTING_KEY)


async def readiness(worker: Process, http: aiohttp.ClientSession) -> tuple[int, dict[str, str]]:
    port = (await worker.logged(r'"port": (\d+)'))[1]
    async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
        return response.status, await response.json()


async def test_twenty_invalid_messages_of_ingest_in_a_row_stop_a_worker_that_stays_up(
    site: Site, database: Database, queue: Queue, http: aiohttp.ClientSession
) -> None:
    await publish_as_ingest(site.amqp_url, 60)
    worker = await site.worker().start()
    try:
        # when it has seen enough
        await worker.logged("breaker open")
        # then it is unready, says why, and goes on living without a session
        status, body = await readiness(worker, http)
        assert status == 503
        assert "update this worker" in body["breaker"]
        assert worker.text.count('"event": "consuming"') == 1
        # and what it held is on the queue again: at most those before the last are parked

        async def kept() -> bool:
            return await queue.depth() + await queue.depth(topology.DEAD_QUEUE) == 60

        await eventually(kept)
        assert await queue.depth(topology.DEAD_QUEUE) < 20
        assert await worker.stop() == 0
    finally:
        await worker.close()
    assert await database.events.count_documents({}) == 0


async def test_garbage_of_other_producers_never_stops_a_worker(site: Site, database: Database, queue: Queue) -> None:
    await publish_as_ingest(site.amqp_url, 30, exchange=topology.DIRECT_EXCHANGE)
    await queue.send([b"not json"] * 30)
    await queue.send([json.dumps({**EXAMPLE, "projectId": "p", "idempotencyKey": "k"}).encode()])
    worker = await site.worker().start()
    try:
        await eventually(lambda: database.events.count_documents({}))

        async def parked() -> bool:
            return await queue.depth(topology.DEAD_QUEUE) == 60

        await eventually(parked)
        assert await worker.stop() == 0
    finally:
        await worker.close()
    assert "breaker" not in worker.text
