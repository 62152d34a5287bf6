"""The broker, the database or a worker breaks under load; what was answered with 200 is stored once all the same."""

import asyncio
import json
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from tests.support.checker import Scene, check
from tests.support.load import clients
from tests.support.pair import Pair
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]

IN_TIME = 8.0
"""Seconds: what cannot be confirmed is answered after four, by a machine under load somewhat later. Whoever is never
answered hangs up after ten."""


async def test_a_killed_broker_costs_503s_but_no_event(pair: Pair, stack: Devstack, scene: Scene) -> None:
    # given load
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.confirmed) > 1000)
        # when the broker is killed, and stays away for longer than a request may wait
        await asyncio.to_thread(stack.broker.kill)
        await eventually(lambda: books.statuses[503] > 10, seconds=30)
        await asyncio.to_thread(stack.broker.start)
        # then posts are taken again without a restart
        before = len(books.confirmed)
        await eventually(lambda: len(books.confirmed) > before + 500, seconds=30)
    (await check(books, scene)).assert_balanced()
    assert books.slowest < IN_TIME


async def test_a_frozen_database_delays_what_is_answered_but_loses_nothing(
    pair: Pair, stack: Devstack, scene: Scene
) -> None:
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.confirmed) > 200)
        await asyncio.to_thread(stack.database.freeze)
        try:
            before = len(books.confirmed)
            await asyncio.sleep(5)  # the length of the fault
            # then ingest does not notice
            assert len(books.confirmed) > before + 100
            assert set(books.statuses) == {200}
        finally:
            await asyncio.to_thread(stack.database.thaw)
    (await check(books, scene)).assert_balanced()


async def test_garbage_between_good_messages_under_load_stops_nothing(pair: Pair, scene: Scene, queue: Queue) -> None:
    garbage = [b"", b"{", b"\xff", b"null", json.dumps({"projectId": "load"}).encode()]
    async with clients(pair.url) as books:
        for _ in range(20):
            await queue.send(garbage)
    (await check(books, scene)).assert_balanced()
    await eventually_parked(queue, 100)


async def eventually_parked(queue: Queue, count: int) -> None:
    async def parked() -> bool:
        return await queue.depth("usage.dead-letters") == count

    await eventually(parked, what=f"{count} dead letters")


@pytest.mark.parametrize("fault", ["frozen", "alarm", "queue deleted"])
async def test_a_broker_that_does_not_confirm_is_answered_for_with_503_in_time(
    fault: str, pair: Pair, stack: Devstack, scene: Scene, queue: Queue
) -> None:
    async with clients(pair.url) as books:
        await eventually(lambda: len(books.confirmed) > 500)
        if fault == "queue deleted":
            await queue.delete()
        else:
            await _break(stack, fault)
            try:
                await eventually(lambda: books.statuses[503] > 10, seconds=30)
            finally:
                await _mend(stack, fault)
        before = len(books.confirmed)
        await eventually(lambda: len(books.confirmed) > before + 500, seconds=30)
    assert books.slowest < IN_TIME
    if fault != "queue deleted":  # an operator's own deed: what was in the queue is gone with it
        (await check(books, scene)).assert_balanced()


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
        await worker.logged("dead letters blocked")
        assert await worker.stop() == 0
    finally:
        await _mend(stack, "alarm")
    # and the next one parks it, once
    pair.worker = await pair.site.worker("next").start()
    await eventually_parked(queue, 1)
    assert await database.events.count_documents({}) == 0
