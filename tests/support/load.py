"""Clients that post until each record is answered with 200, and the books they keep."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import event_id
from tests.support.waiting import eventually

PROJECT = "load"


@dataclass
class Books:
    """What the clients were told, kept outside of every process that a test breaks."""

    answered: dict[UUID, tuple[str, Decimal]] = field(default_factory=dict)
    """Event id -> customer, quantity; what was answered with 200."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How often each status came; 0 stands for a connection that broke."""
    slowest: float = 0.0
    """Seconds of the slowest answer."""

    @property
    def totals(self) -> dict[str, Decimal]:
        totals: Counter[str] = Counter()
        for customer, quantity in self.answered.values():
            totals[customer] += quantity  # type: ignore[assignment]
        return dict(totals)  # type: ignore[arg-type]


@asynccontextmanager
async def clients(url: str, *, count: int = 20) -> AsyncIterator[Books]:
    """Post keyed records with this many clients at once; on leaving, each goes on until its last one is answered."""
    books, stopping, numbers = Books(), asyncio.Event(), itertools.count()
    address = f"{url}/api/billing/public/projects/{PROJECT}/usage"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:

        async def client() -> None:
            while not stopping.is_set():
                number = next(numbers)
                await _record(http, address, number, books)

        tasks = [asyncio.create_task(client()) for _ in range(count)]
        try:
            yield books
        finally:
            stopping.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)


async def _record(http: aiohttp.ClientSession, address: str, number: int, books: Books) -> None:
    """Post one record until it is answered with 200, as a client that wants to be billed right would."""
    key, customer, quantity = (
        f"key-{number}",
        f"customer{number % 7}@example.com",
        Decimal(number) + Decimal("0.000000001"),
    )
    record = {"email": customer, "metric": "api_calls", "quantity": str(quantity), "idempotencyKey": key}
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            async with http.post(address, json=record) as response:
                await response.read()
                status = response.status
        except aiohttp.ClientConnectionError:
            status = 0
        books.statuses[status] += 1
        books.slowest = max(books.slowest, loop.time() - begun)
        if status == 200:
            books.answered[event_id(PROJECT, key)] = (customer, quantity)
            return
        assert status in {0, 503}, status
        await asyncio.sleep(0.02)


async def check_books(books: Books, database: AsyncDatabase[dict[str, Any]], *, seconds: float = 30) -> None:
    """Assert that exactly what was answered is stored: no id missing, none besides, every customer's sum exact."""

    async def all_there() -> bool:
        return await database.events.count_documents({"projectId": PROJECT}) >= len(books.answered)

    await eventually(all_there, seconds=seconds, what=f"{len(books.answered)} events", every=0.2)
    documents = await database.events.find({"projectId": PROJECT}).to_list()
    assert {document["_id"] for document in documents} == set(books.answered)
    groups = await database.events.aggregate(
        [{"$match": {"projectId": PROJECT}}, {"$group": {"_id": "$email", "sum": {"$sum": "$quantity"}}}]
    )
    assert {group["_id"]: group["sum"].to_decimal() async for group in groups} == books.totals
