"""The broker, the database or a worker breaks under load; what was answered with 200 is stored once all the same."""

import asyncio
import json
import re
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from tests.support.load import PROJECT, check_books, clients
from tests.support.pair import Pair
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]


async def test_a_killed_broker_costs_503s_but_no_event(
    pair: Pair, stack: Devstack, database: Database, queue: Queue
) -> None:
    # given load
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.answered) > 1000)
        # when the broker is killed, and stays away for longer than a request may wait
        await asyncio.to_thread(stack.broker.kill)
        await eventually(lambda: books.statuses[503] > 10, seconds=10)
        await asyncio.to_thread(stack.broker.start)
        # then posts are taken again without a restart
        before = len(books.answered)
        await eventually(lambda: len(books.answered) > before + 500, seconds=30)
    await check_books(books, database)
    assert books.slowest < 5
    assert await queue.dead_letters() == []


async def test_a_worker_killed_in_the_middle_of_batches_stores_each_event_once(
    pair: Pair, database: Database, queue: Queue
) -> None:
    async with clients(pair.url, count=40) as books:
        # when workers are killed, again and again, each soon after it has taken up work
        for round_number in range(8):
            await pair.worker.logged('"event": "batch"')
            await asyncio.sleep(0.01 * round_number)
            await pair.replace_worker()
    await check_books(books, database)
    # then some kills did hit a batch: its messages came again
    logs = "".join(path.read_text() for path in pair.site.directory.glob("worker*.log"))
    assert re.search(r'"redelivered": [1-9]', logs)
    assert await queue.dead_letters() == []


async def test_a_frozen_database_delays_what_is_answered_but_loses_nothing(
    pair: Pair, stack: Devstack, database: Database, queue: Queue
) -> None:
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.answered) > 200)
        await asyncio.to_thread(stack.database.freeze)
        try:
            before = len(books.answered)
            await asyncio.sleep(5)  # the length of the fault
            # then ingest does not notice
            assert len(books.answered) > before + 100
            assert set(books.statuses) == {200}
        finally:
            await asyncio.to_thread(stack.database.thaw)
    await check_books(books, database)
    assert await queue.dead_letters() == []


async def test_garbage_between_good_messages_under_load_stops_nothing(
    pair: Pair, database: Database, queue: Queue
) -> None:
    garbage = [b"", b"{", b"\xff", b"null", json.dumps({"projectId": PROJECT}).encode()]
    async with clients(pair.url) as books:
        for _ in range(20):
            await queue.send(garbage)
    await check_books(books, database)
    await eventually_parked(queue, 100)


async def eventually_parked(queue: Queue, count: int) -> None:
    async def parked() -> bool:
        return await queue.depth("usage.dead-letters") == count

    await eventually(parked, what=f"{count} dead letters")


@pytest.mark.parametrize("fault", ["frozen", "alarm", "queue deleted"])
async def test_a_broker_that_does_not_confirm_is_answered_for_with_503_in_time(
    fault: str, pair: Pair, stack: Devstack, database: Database, queue: Queue
) -> None:
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.answered) > 500)
        if fault == "queue deleted":
            await queue.delete()
        else:
            await _break(stack, fault)
            try:
                await eventually(lambda: books.statuses[503] > 10, seconds=10)
            finally:
                await _mend(stack, fault)
        before = len(books.answered)
        await eventually(lambda: len(books.answered) > before + 500, seconds=30)
    assert books.slowest < 5
    if fault != "queue deleted":  # an operator's own deed: what was in the queue is gone with it
        await check_books(books, database, seconds=60)


async def _break(stack: Devstack, fault: str) -> None:
    if fault == "frozen":
        await asyncio.to_thread(stack.broker.freeze)
    else:
        await asyncio.to_thread(stack.broker.ctl, "set_vm_memory_high_watermark", "0.00001")


async def _mend(stack: Devstack, fault: str) -> None:
    if fault == "frozen":
        await asyncio.to_thread(stack.broker.thaw)
    else:
        await asyncio.to_thread(stack.broker.ctl, "set_vm_memory_high_watermark", "0.4")


async def test_a_worker_that_cannot_park_for_an_alarm_still_stops_when_told(
    pair: Pair, stack: Devstack, database: Database, queue: Queue
) -> None:
    await pair.worker.stop()
    await queue.send([b"not json"])
    await _break(stack, "alarm")
    try:
        worker = await pair.site.worker("stopped").start()
        await worker.logged("consuming")
        assert await worker.stop() == 0
    finally:
        await _mend(stack, "alarm")
    # and the next one parks it, once
    pair.worker = await pair.site.worker("next").start()
    await eventually_parked(queue, 1)
    assert await database.events.count_documents({}) == 0
