"""MongoDB, as far as the worker knows it: the only module that imports the driver."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import bson
import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from worker.database_errors import (
    DatabaseMisconfigured,
    DatabaseUnavailable,
    TotalsConflict,
    TransactionTooLarge,
    WriteConflict,
    counted_from,
    of_our_own,
    raise_write_errors,
    refusals,
    translated,
)
from worker.documents import CODEC, Document
from worker.operations import OPERATION_DOCUMENTS, in_commands, in_parts
from worker.schema import EVENTS, INDEX, LEDGER, SMALL_LEAVES, TOTALS

APP_NAME: Final = "usage-worker"
_DURABLE: Final = WriteConcern(w="majority", j=True)
_TRANSACTION: Final[Mapping[str, Any]] = {
    "read_concern": ReadConcern("snapshot"),
    "write_concern": _DURABLE,
    "read_preference": ReadPreference.PRIMARY,
}
_ORPHAN_MICROS: Final = 1_000_000
_FAREWELL: Final = 1.0
"""Seconds for telling the server which sessions are over; it ends by itself those that it is not told of."""

_NAMESPACE_EXISTS: Final = 48
_INVALID_OPTIONS: Final = 72

_AS_BYTES: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    uuid_representation=bson.binary.UuidRepresentation.UNSPECIFIED, tz_aware=True
)


class Transaction:
    """What can be done within one transaction."""

    def __init__(self, database: AsyncIOMotorDatabase[dict[str, Any]], session: AsyncIOMotorClientSession) -> None:
        self._database = database
        self._events = database[EVENTS]
        self._ledger = database[LEDGER]
        self._session = session

    async def find_entries(self, ids: Sequence[Document]) -> list[Document]:
        """The rows of the ledger that have one of these ids: without what they list."""
        without = {"ids": 0, "parked": 0, "void": 0}
        return await self._find(self._ledger, ids, without)

    async def find_events(self, ids: Sequence[UUID]) -> list[Document]:
        """The documents among `events` that have one of these ids."""
        return await self._find(self._events, ids, None)

    async def _find(
        self, collection: AsyncIOMotorCollection[dict[str, Any]], ids: Sequence[Any], fields: Document | None
    ) -> list[Document]:
        found: list[Document] = []
        for part in in_parts(ids):
            found += await collection.find({"_id": {"$in": part}}, fields, session=self._session).to_list(None)
        return found

    async def insert_events(self, documents: Sequence[RawBSONDocument]) -> None:
        """Insert all of them; raises DocumentRefused for the first that will never do."""
        start = 0
        for part in in_commands(documents):
            with counted_from(start):
                # Not by insert_many, which keeps a list of operations of its own.
                raise_write_errors(await self._command({"insert": EVENTS, "documents": part, "ordered": True}))
            start += len(part)

    async def add_to_totals(self, additions: Sequence[tuple[Document, Document]]) -> None:
        """Add to each total, given by its `_id`, what stands in its `$inc`; raises TotalsConflict."""
        try:
            with of_our_own():
                updates = [{"q": {"_id": key}, "u": {"$inc": added}, "upsert": True} for key, added in additions]
                for part in in_parts(updates):
                    # Not by bulk_write, which makes objects of its own of each: half of the cost.
                    raise_write_errors(await self._command({"update": TOTALS, "updates": part, "ordered": True}))
        except TransactionTooLarge:
            raise
        except WriteConflict as exc:
            raise TotalsConflict(str(exc)) from exc

    async def insert_entries(self, rows: Sequence[dict[str, Any]]) -> None:
        """Enter these rows into the ledger; WriteConflict for one that is there."""
        with of_our_own():
            await self._ledger.insert_many(rows, ordered=True, session=self._session)

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        return await self._database.command(command, session=self._session)

    async def abort(self) -> None:
        """Undo everything; nothing is committed on leaving."""
        await self._session.abort_transaction()


class Snapshot:
    """The whole database as it was at one moment."""

    def __init__(self, database: AsyncIOMotorDatabase[dict[str, Any]], session: AsyncIOMotorClientSession) -> None:
        self._database = database
        self._session = session

    async def find(self, collection: str, query: Document) -> AsyncIterator[dict[str, Any]]:
        """Yield the documents of a collection that match."""
        with translated():
            async for document in self._database[collection].find(query, session=self._session):
                yield document

    async def batches(
        self, collection: str, query: Document, fields: Document | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield many documents at a time, in the order of their ids; UUIDs are left as their 16 bytes.

        Several times as fast as one by one.
        """
        cursor = self._database[collection].find_raw_batches(query, fields, session=self._session)
        with translated():
            async for raw in cursor.sort("_id", 1).batch_size(OPERATION_DOCUMENTS):
                yield bson.decode_all(raw, _AS_BYTES)

    async def aggregate(self, collection: str, pipeline: Sequence[Document]) -> AsyncIterator[dict[str, Any]]:
        """Yield what a pipeline makes of a collection."""
        with translated():
            async for document in self._database[collection].aggregate(
                list(pipeline), session=self._session, allowDiskUse=True
            ):
                yield document


class Database:
    """A client with one session for its whole life.

    A retry on the same session ends the transaction that the attempt before left open on the server; with a session
    for each attempt, the abandoned transaction would block its successor until the server's own timeout, a minute
    or more.
    """

    def __init__(self, uri: str, name: str, *, timeout_seconds: float) -> None:
        """Prepare the client; `prepare` is the first to talk to the server. Raises DatabaseMisconfigured."""
        try:
            self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
                uri,
                appname=APP_NAME,
                timeoutMS=int(timeout_seconds * 1000),
                tz_aware=True,
                uuidRepresentation="standard",
            )
        except (ConfigurationError, ValueError, OSError) as exc:
            # The driver quotes what it cannot read, and with it a password.
            why = type(exc).__name__ if "@" in uri else str(exc)
            raise DatabaseMisconfigured(f"the driver cannot use it: {why}") from exc
        self._database = self._client.get_database(name, codec_options=CODEC, write_concern=_DURABLE)
        self._session: AsyncIOMotorClientSession | None = None

    async def prepare(self) -> None:
        """Check that writes can be kept, create what is missing, open the session.

        Raises DatabaseUnavailable, DatabaseMisconfigured.
        """
        await self.check()
        with translated(), refusals():
            await self._create(EVENTS, SMALL_LEAVES)
            await self._create(TOTALS)
            await self._create(LEDGER)
            await self._database[EVENTS].create_indexes([INDEX])
            self._session = await self._client.start_session()

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has succeeded: until then nothing can be written."""
        return self._session is not None

    async def check(self) -> None:
        """Check that the server is of the kind that is needed, and lets us in; nothing is created.

        Raises DatabaseUnavailable, DatabaseMisconfigured.
        """
        self.check_write_concern()
        with translated(), refusals():
            hello = await self._client.admin.command("hello")
            if hello.get("isreplicaset"):  # which it says while it starts, too, and only to who connects to it directly
                raise DatabaseUnavailable("the MongoDB server is in no replica set yet: rs.initiate() makes one")
            if "setName" not in hello and hello.get("msg") != "isdbgrid":
                raise DatabaseMisconfigured(
                    "the MongoDB server stands alone, and has no transactions",
                    "start it with --replSet and initiate it, one member is enough",
                )

    def check_write_concern(self) -> None:
        """Raise DatabaseMisconfigured when the URI asks for one that can lose what was acknowledged."""
        asked = self._client.write_concern.document
        if asked.get("w", "majority") != "majority" or asked.get("j", True) is not True:
            raise DatabaseMisconfigured(
                f"the URI asks for the write concern {asked}, which can lose what was stored",
                "leave w and journal out of it, or set w=majority",
            )

    async def _create(self, name: str, options: Document | None = None) -> None:
        # Outside of transactions, which would fail on a collection that is being created.
        try:
            await self._database.create_collection(name, check_exists=False, **(options or {}))
        except OperationFailure as exc:
            if exc.code == _INVALID_OPTIONS and options:  # of a server that stores in another way
                await self._create(name)
            elif exc.code != _NAMESPACE_EXISTS:
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit on leaving, durably on a majority; abort on an exception.

        Raises WriteConflict, DocumentRefused, DatabaseUnavailable. After DatabaseUnavailable the transaction may
        have been committed all the same.
        """
        if self._session is None:
            raise RuntimeError("prepare comes first")
        with translated():
            async with self._session.start_transaction(**_TRANSACTION):
                yield Transaction(self._database, self._session)

    async def rehearse(self) -> None:
        """Begin a transaction, read in it, undo it: nothing is changed, or created.

        Raises DatabaseUnavailable, DatabaseMisconfigured.
        """
        with translated(), refusals():
            async with await self._client.start_session() as session:
                session.start_transaction(**_TRANSACTION)
                await self._database[EVENTS].find_one({}, {"_id": 1}, session=session)
                await session.abort_transaction()

    async def ask(self, command: str, value: Any = 1, *, of_server: bool = False, **options: Any) -> Document:
        """Return what the database, or its server, answers to a command, which must be one that changes nothing.

        Raises DatabaseUnavailable, DatabaseMisconfigured.
        """
        with translated(), refusals():
            asked = self._client.admin if of_server else self._database
            return dict(await asked.command(command, value, codec_options=CODEC, **options))

    async def kill_orphans(self) -> int:
        """End the transactions that killed workers left open, and say how many there were.

        An idle transaction of a live worker may be among them; that worker repeats it.
        """
        with translated():
            admin = self._client.admin
            cursor = admin.aggregate(
                [
                    {"$currentOp": {"allUsers": False, "idleSessions": True}},
                    {
                        "$match": {
                            "type": "idleSession",
                            "appName": APP_NAME,
                            "transaction.timeInactiveMicros": {"$gt": _ORPHAN_MICROS},
                        }
                    },
                ]
            )
            orphans = [{"id": operation["lsid"]["id"]} for operation in await cursor.to_list(None)]
            if orphans:
                await admin.command("killSessions", orphans, codec_options=CODEC)
            return len(orphans)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Look at one moment, for as long as the server keeps it: five minutes by default.

        Raises DatabaseUnavailable.
        """
        with translated():
            async with await self._client.start_session(snapshot=True) as session:
                yield Snapshot(self._database.with_options(write_concern=_DURABLE), session)

    async def enter(self, rows: Sequence[Document]) -> None:
        """Put rows into the ledger, durably and outside of any transaction; one that is there stays as it is.

        Raises DatabaseUnavailable.
        """
        with translated():
            for row in rows:
                await self._database[LEDGER].update_one({"_id": row["_id"]}, {"$setOnInsert": row}, upsert=True)

    async def prove_writes(self) -> None:
        """Raise DatabaseUnavailable unless a write, which changes nothing, is acknowledged by a majority."""
        with translated():
            await self._database[TOTALS].update_one({"_id": None}, {"$set": {"_id": None}})

    async def ping(self) -> None:
        """Raise DatabaseUnavailable unless the primary answers."""
        with translated():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        """Close all connections, whether or not the server answers."""
        if self._session is not None:
            await self._session.end_session()
        # In a thread, for there the driver waits: without a limit of ours, half a minute for a server that hangs.
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with pymongo.timeout(_FAREWELL):
            self._client.close()
