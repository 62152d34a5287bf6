import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from contract.connection import BrokerUnavailable
from contract.event import Unacceptable, event_id
from contract.producer import UsageProducer
from devstack import Devstack
from tests.support.pair import Pair, Site
from tests.support.processes import ROOT
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]


async def test_what_a_producer_records_is_stored_with_all_its_fields(pair: Pair, database: Database) -> None:
    used_at = datetime(2020, 5, 17, 12, 30, 0, 123456, tzinfo=UTC)
    async with UsageProducer(pair.site.amqp_url) as usage:
        recorded = await usage.record(
            "proj_nCBo0AB7UWpj",
            "Name@Example.com",
            "api_calls",
            Decimal("-12345678901234567.89"),
            idempotency_key="order-42",
            timestamp=used_at,
            properties={"region": "eu", "retries": 3, "ratio": Decimal("0.1"), "free": True},
        )
    assert recorded == event_id("proj_nCBo0AB7UWpj", "order-42")

    document = await eventually(lambda: database.events.find_one({"_id": recorded}))
    assert document["email"] == "name@example.com"
    assert str(document["quantity"]) == "-12345678901234567.89"
    assert document["timestamp"] == used_at.replace(microsecond=123000)
    assert document["source"] == "queue"
    assert document["properties"]["ratio"].to_decimal() == Decimal("0.1")
    assert (document["properties"]["retries"], document["properties"]["free"]) == (3, True)


async def test_records_of_many_tasks_travel_together_and_count_once_each(
    site: Site, queue: Queue, pair: Pair, database: Database
) -> None:
    await pair.worker.stop()
    async with UsageProducer(site.amqp_url) as usage:
        await usage.record("p", "a@example.com", "api_calls", 1)
        before = await queue.depth()
        ids = await asyncio.gather(*(usage.record("p", "a@example.com", "api_calls", 1) for _ in range(999)))
    assert len(set(ids)) == 999
    assert await queue.depth() - before < 100
    pair.worker = await site.worker("second").start()

    async def all_stored() -> bool:
        return await database.events.count_documents({}) == 1000

    await eventually(all_stored)


NAIVE = datetime(2026, 1, 31)  # noqa: DTZ001 - what it must not take for local time


@pytest.mark.parametrize(
    "wrong", [{"quantity": 0.1}, {"email": "nobody"}, {"metric": ""}, {"idempotency_key": ""}, {"timestamp": NAIVE}]
)
async def test_a_wrong_record_is_refused_before_anything_is_sent(
    wrong: dict[str, Any], site: Site, queue: Queue
) -> None:
    fields = {"project_id": "p", "email": "a@example.com", "metric": "api_calls", "quantity": 1, **wrong}
    async with UsageProducer(site.amqp_url) as usage:
        with pytest.raises(Unacceptable):
            await usage.record(**fields)
    assert await queue.depth() == 0


async def test_a_deleted_queue_is_declared_again_and_the_record_arrives(site: Site, queue: Queue) -> None:
    async with UsageProducer(site.amqp_url) as usage:
        await usage.record("p", "a@example.com", "api_calls", 1)
        await queue.delete()
        await usage.record("p", "a@example.com", "api_calls", 2, idempotency_key="survivor")
    assert [event["idempotencyKey"] for event in await queue.events()] == ["survivor"]


async def test_a_broker_that_stays_away_is_an_error_when_patience_ends(stack: Devstack, site: Site) -> None:
    await asyncio.to_thread(stack.broker.kill)
    try:
        async with UsageProducer(site.amqp_url, patience=1) as usage:
            with pytest.raises(BrokerUnavailable):
                await usage.record("p", "a@example.com", "api_calls", 1)
    finally:
        await asyncio.to_thread(stack.broker.start)


async def test_a_producer_that_is_closed_says_so_at_once(site: Site) -> None:
    producer = UsageProducer(site.amqp_url)
    with pytest.raises(RuntimeError, match="async with"):
        await producer.record("p", "a@example.com", "api_calls", 1)
    async with producer:
        await producer.record("p", "a@example.com", "api_calls", 1)
    with pytest.raises(RuntimeError, match="async with"):
        await producer.record("p", "a@example.com", "api_calls", 1)


PROGRAM = """
import asyncio, sys
from contract.producer import UsageProducer

async def main():
    async with UsageProducer(sys.argv[1], patience=float(sys.argv[2])) as usage:
        await usage.record("p", "a@example.com", "api_calls", 1)

asyncio.run(main())
"""


async def run_program(url: str, *, patience: float) -> subprocess.CompletedProcess[str]:
    """A program that records once, and has set up neither structlog nor logging."""
    command = [sys.executable, "-c", PROGRAM, url, str(patience)]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_producer_writes_nothing_in_a_program_that_sets_up_no_logs(site: Site, queue: Queue) -> None:
    ended = await run_program(site.amqp_url, patience=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert len(await queue.events()) == 1


async def test_such_a_program_is_warned_on_stderr_once_of_a_broker_that_is_away() -> None:
    ended = await run_program("amqp://me:hunter2-geheim@127.0.0.1:9/", patience=1)
    assert "BrokerUnavailable" in ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("broker lost") == 1
    assert "hunter2-geheim" not in ended.stderr
