"""What an event costs on top of what is stored already, and for how many customers."""

import asyncio
from dataclasses import asdict, replace
from typing import Any, Final

from bench.checks import audited
from bench.history import History
from bench.ids import Ids
from bench.options import Options
from bench.storing import THOUSAND, Case, store
from bench.workers import Database, database, working
from devstack import Devstack

SIZES: Final = (100_000, 1_000_000, 5_000_000)
CUSTOMERS: Final = (1, 1_000, 100_000)
EVENTS: Final = 40_000
"""Stored in one measurement: a few batches, and not much beside the least that is stored already."""
FOR_CUSTOMERS: Final = 120_000
"""The same where customers are what matters: each has an event."""


async def measure(stack: Devstack, options: Options) -> dict[str, Any]:
    """Store events on top of more and more of them, with ids of each kind; then for more customers. Raises Lost."""
    case = replace(THOUSAND, events=EVENTS)
    return {
        "stored": [one for ids in Ids for one in await _on_top(stack, replace(case, ids=ids), options)],
        "customers": [
            await _for_customers(stack, replace(case, events=FOR_CUSTOMERS, customers=customers), number)
            for number in range(options.rounds)
            for customers in CUSTOMERS
        ],
    }


async def _on_top(stack: Devstack, case: Case, options: Options) -> list[dict[str, Any]]:
    measured: list[dict[str, Any]] = []
    async with database(stack) as found:
        with working(stack, found.name):
            await _prepared(found)
        history = History(stack.database.uri, found.name, case.customers, case.ids)
        for size in [size for size in SIZES if size <= options.stored]:
            # What is measured adds to it, and so does the round before: the size is that in the middle.
            wanted = size - case.events * (options.rounds + 2) // 2
            await asyncio.to_thread(history.grow, max(0, wanted - await _count(found)))
            await store(stack, found, case, -1)  # what the growth has left behind is not its cost
            rounds = [await store(stack, found, case, number) for number in range(options.rounds)]
            measured += [{"ids": case.ids, "stored": size, **asdict(one)} for one in rounds]
        await audited(stack, found.name)
    return measured


async def _prepared(found: Database) -> None:
    """Wait until a worker has made the collections and their indexes."""
    while len(await found.list_collection_names()) < 3:  # noqa: PLR2004 - events, totals, ledger
        await asyncio.sleep(0.05)
    while len(await found["events"].index_information()) < 2:  # noqa: PLR2004 - by id, and ours
        await asyncio.sleep(0.05)


async def _count(found: Database) -> int:
    return int(await found["events"].estimated_document_count())


async def _for_customers(stack: Devstack, case: Case, number: int) -> dict[str, Any]:
    async with database(stack) as found:
        stored = await store(stack, found, case, number)
        return {"customers": case.customers, **asdict(stored)}
