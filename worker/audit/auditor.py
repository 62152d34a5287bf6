"""Gathering the books, from the database as it was at one moment and from the queues."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from contract import topology
from contract.connection import BrokerConnection
from worker.audit.books import Balance, Books
from worker.audit.compare import Events
from worker.audit.findings import Finding
from worker.audit.verdict import Conclusion, Sight, Watch
from worker.database import Database
from worker.documents import to_project_id
from worker.glance import DeadLettersBusy, Depth, depth_of, see_letters
from worker.schema import LEDGER

PAUSE_SECONDS: Final = 0.5
"""Between two looks."""

_ROW_FIELDS: Final = {"digest": 0, "at": 0, "reason": 0}


@dataclass(frozen=True, slots=True)
class Look:
    """All that one look has found."""

    balance: Balance
    listed: int
    """Events in the ledger."""
    stored: int
    """Events among the documents."""
    findings: tuple[Finding, ...]
    queue: Depth


class Auditor:
    """Looks at the books, and again where they do not balance."""

    def __init__(self, database: Database, connection: BrokerConnection, projects: Sequence[str]) -> None:
        """Prepare; where there are `projects`, only their events and totals are named."""
        self._database = database
        self._connection = connection
        self._projects = [to_project_id(one) for one in projects]

    async def conclude(self, wait: float, tell: Callable[[str], None]) -> tuple[Look, Conclusion]:
        """Look for up to `wait` seconds until the books balance; `tell` hears what it is waiting for.

        Raises DatabaseUnavailable, BrokerUnavailable, DeadLettersBusy.
        """
        watch = Watch(wait)
        while True:
            began = time.monotonic()
            look = await self._look_in_peace(began + wait)
            conclusion = watch.note(Sight(began, look.findings, look.queue.ready, look.queue.consumers))
            if conclusion is not None:
                return look, conclusion
            tell(f"{len(look.findings)} open points, {look.queue.ready} messages in the queue: looking again")
            await self._pause(watch)

    async def _pause(self, watch: Watch) -> None:
        """Until another look is worth its while: not before the queue is empty, unless the wait is over."""
        await asyncio.sleep(PAUSE_SECONDS)
        while not watch.is_alarmed and watch.deadline is not None and time.monotonic() < watch.deadline:
            if not (await depth_of(self._connection, topology.QUEUE)).ready:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look_in_peace(self, deadline: float) -> Look:
        while True:
            try:
                return await self._look()
            except DeadLettersBusy:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self) -> Look:
        # In this order: what the ledger says was parked lies among the dead letters by then.
        before = await depth_of(self._connection, topology.QUEUE)
        books = Books()
        async with self._database.snapshot() as snapshot:
            async for rows in snapshot.batches(LEDGER, {}, _ROW_FIELDS):
                for row in rows:
                    books.enter(row)
            events = Events(snapshot, self._projects)
            findings = [*await events.compare_ids(books.ids), *await events.compare_totals()]
        await see_letters(
            self._connection, lambda letter: books.note_letter(letter.key, letter.stamp, is_whole=letter.is_whole)
        )
        after = await depth_of(self._connection, topology.QUEUE)
        balance = books.balance()
        queue = Depth(max(before.ready, after.ready), after.consumers)
        return Look(balance, books.ids.count, events.count, (*balance.findings, *findings), queue)
