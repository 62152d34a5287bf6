"""Bugs that somebody might make, each put in by a function."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiormq.abc import AbstractChannel
from pymongo.write_concern import WriteConcern

import contract.publisher
import worker.database
from contract.connection import BrokerConnection, translated
from tests.faults.steps import replace
from worker.batching import Batch
from worker.database import Transaction
from worker.documents import DocumentRefused
from worker.plan import Work
from worker.settling import Settler
from worker.store import Store


def acknowledge_what_is_in_memory() -> None:
    """Take the server's word before it has written anything down."""
    transaction = {**worker.database._TRANSACTION, "write_concern": WriteConcern(w=1, j=False)}
    replace(worker.database, "_TRANSACTION", transaction)


def let_returns_pass() -> None:
    """Take a message that came back as unroutable for confirmed."""

    async def driver_channel(self: BrokerConnection) -> AbstractChannel:
        return await self._driver.channel(publisher_confirms=True, on_return_raises=False)

    replace(BrokerConnection, "driver_channel", driver_channel)


def acknowledge_first() -> None:
    """Settle messages before their events are stored."""

    async def write(self: Settler, batch: Batch) -> None:
        await self._acknowledge_up_to(batch.tags[-1])
        await self._store_all(batch.entries, self._park_soon)

    replace(Settler, "write", write)


def add_outside_the_transaction() -> None:
    """Commit totals by themselves."""
    add = Transaction.add_to_totals

    async def add_to_totals(self: Transaction, additions: Sequence[tuple[Any, Any]]) -> None:
        session = self._session
        replace(self, "_session", None)
        try:
            await add(self, additions)
        finally:
            self._session = session

    replace(Transaction, "add_to_totals", add_to_totals)


def swallow_cancellation() -> None:
    """Go on after a CancelledError as if nothing had happened."""

    @contextmanager
    def swallowing() -> Iterator[None]:
        try:
            with translated():
                yield
        except asyncio.CancelledError:
            return

    replace(contract.publisher, "translated", swallowing)


def refuse_the_whole_batch() -> None:
    """Have a document that the server refuses take along all that are inserted with it."""

    async def all_refused(self: Store, work: Work, first: DocumentRefused) -> dict[int, str]:
        del self
        return dict.fromkeys(range(len(work.fresh)), str(first))

    replace(Store, "_all_refused", all_refused)


def none() -> None:
    """As it is."""


BUGS = {
    bug.__name__: bug
    for bug in (
        none,
        acknowledge_what_is_in_memory,
        let_returns_pass,
        acknowledge_first,
        add_outside_the_transaction,
        swallow_cancellation,
        refuse_the_whole_batch,
    )
}
