"""MongoDB, as far as the worker knows it: the only module that imports the driver."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import UUID

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
from pymongo import IndexModel, ReadPreference
from pymongo.errors import BulkWriteError, ConfigurationError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

APP_NAME: Final = "usage-worker"
EVENTS: Final = "events"
INDEX: Final = IndexModel([("projectId", 1), ("email", 1), ("metric", 1), ("timestamp", 1)])

_DURABLE: Final = WriteConcern(w="majority", j=True)
_SNAPSHOT: Final = ReadConcern("snapshot")
_ORPHAN_MICROS: Final = 1_000_000

OPERATION_DOCUMENTS: Final = 5000
"""Documents in one command: a producer's largest message must not exceed the time that a single operation has."""

_DUPLICATE_KEY: Final = 11000
_WRITE_CONFLICT: Final = 112
_NAMESPACE_EXISTS: Final = 48
_REFUSED_DOCUMENT: Final = frozenset({2, 15, 53, 121})
"""BadValue, Overflow, InvalidIdField, DocumentValidationFailure: the document will never do. All else may pass."""
_REFUSED_US: Final = frozenset({8000, 13, 18, 85, 86})
"""AtlasError, Unauthorized, AuthenticationFailed, IndexOptionsConflict, IndexKeySpecsConflict."""

_CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    uuid_representation=bson.binary.UuidRepresentation.STANDARD, tz_aware=True
)

Document = Mapping[str, Any]


class DatabaseUnavailable(Exception):
    """MongoDB did not do what it was asked, and may do it later: the transaction can be repeated."""


class DatabaseMisconfigured(Exception):
    """MongoDB as it is set up cannot keep the worker's promises, or does not let the worker in."""


class WriteConflict(Exception):
    """Another transaction holds, or has just written, a document of this one: repeat it, lookup included."""


class DocumentRefused(Exception):
    """The server, or the encoder, will never take the document at `index` of an insert."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class Transaction:
    """What can be done within one transaction."""

    def __init__(self, database: AsyncIOMotorDatabase[dict[str, Any]], session: AsyncIOMotorClientSession) -> None:
        self._events = database[EVENTS]
        self._session = session

    async def find_events(self, ids: Sequence[UUID]) -> list[Document]:
        """The documents among `events` that have one of these ids."""
        found: list[Document] = []
        for start in range(0, len(ids), OPERATION_DOCUMENTS):
            part = list(ids[start : start + OPERATION_DOCUMENTS])
            found += await self._events.find({"_id": {"$in": part}}, session=self._session).to_list(None)
        return found

    async def insert_events(self, documents: Sequence[Document]) -> None:
        """Insert all of them; raises DocumentRefused for the first that will never do."""
        for start in range(0, len(documents), OPERATION_DOCUMENTS):
            with _counted_from(start):
                part = _encode(documents[start : start + OPERATION_DOCUMENTS])
                await self._events.insert_many(part, ordered=True, session=self._session)


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
        self._database = self._client.get_database(name, codec_options=_CODEC, write_concern=_DURABLE)
        self._session: AsyncIOMotorClientSession | None = None

    async def prepare(self) -> None:
        """Check that writes can be kept, create what is missing, open the session.

        Raises DatabaseUnavailable, DatabaseMisconfigured.
        """
        self._check_write_concern()
        with _translated(), _refusals():
            hello = await self._client.admin.command("hello")
            if "setName" not in hello and hello.get("msg") != "isdbgrid":
                raise DatabaseMisconfigured(
                    "the MongoDB server stands alone, and has no transactions: "
                    "start it with --replSet and initiate it, one member is enough"
                )
            await self._create_events()
            self._session = await self._client.start_session()

    def _check_write_concern(self) -> None:
        asked = self._client.write_concern.document
        if asked.get("w", "majority") != "majority" or asked.get("j", True) is not True:
            raise DatabaseMisconfigured(
                f"the URI asks for the write concern {asked}, which can lose what was stored: "
                "leave w and journal out of it, or set w=majority"
            )

    async def _create_events(self) -> None:
        # Outside of transactions, which would fail on a collection that is being created.
        try:
            await self._database.create_collection(EVENTS, check_exists=False)
        except OperationFailure as exc:
            if exc.code != _NAMESPACE_EXISTS:
                raise
        await self._database[EVENTS].create_indexes([INDEX])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit on leaving, durably on a majority; abort on an exception.

        Raises WriteConflict, DocumentRefused, DatabaseUnavailable. After DatabaseUnavailable the transaction may
        have been committed all the same.
        """
        if self._session is None:
            raise RuntimeError("prepare comes first")
        with _translated():
            async with self._session.start_transaction(
                read_concern=_SNAPSHOT, write_concern=_DURABLE, read_preference=ReadPreference.PRIMARY
            ):
                yield Transaction(self._database, self._session)

    async def kill_orphans(self) -> int:
        """End the transactions that killed workers left open, and say how many there were.

        An idle transaction of a live worker may be among them; that worker repeats it.
        """
        with _translated():
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
                await admin.command("killSessions", orphans, codec_options=_CODEC)
            return len(orphans)

    async def ping(self) -> None:
        """Raise DatabaseUnavailable unless the primary answers."""
        with _translated():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.end_session()
        self._client.close()


def _encode(documents: Sequence[Document]) -> list[RawBSONDocument]:
    # One by one: the driver would raise for the whole batch, sometimes after it has written a part.
    encoded = []
    for index, document in enumerate(documents):
        try:
            encoded.append(RawBSONDocument(bson.encode(document, codec_options=_CODEC)))
        except (bson.errors.BSONError, OverflowError, UnicodeError, ValueError) as exc:
            raise DocumentRefused(index, str(exc)) from exc
    return encoded


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what the driver raises as one of ours."""
    try:
        yield
    except BulkWriteError as exc:
        raise _of_write_errors(exc) from exc
    except OperationFailure as exc:
        if exc.code == _WRITE_CONFLICT:
            raise WriteConflict(str(exc)) from exc
        raise DatabaseUnavailable(_short(exc)) from exc
    except PyMongoError as exc:
        raise DatabaseUnavailable(_short(exc)) from exc


@contextmanager
def _counted_from(start: int) -> Iterator[None]:
    """Give the index of a refused document within all of them, not within its part."""
    try:
        with _translated():
            yield
    except DocumentRefused as exc:
        raise DocumentRefused(start + exc.index, str(exc)) from exc


def _of_write_errors(exc: BulkWriteError) -> Exception:
    # Never the exception's own text: it carries every document of the batch.
    errors = exc.details.get("writeErrors") or [{}]
    code, message = errors[0].get("code"), str(errors[0].get("errmsg"))
    if code in {_DUPLICATE_KEY, _WRITE_CONFLICT}:
        return WriteConflict(f"error {code}")
    if code in _REFUSED_DOCUMENT:
        return DocumentRefused(errors[0]["index"], message)
    return DatabaseUnavailable(f"error {code}")


def _short(exc: PyMongoError) -> str:
    return f"{type(exc).__name__}: {str(exc)[:200]}"


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OperationFailure as exc:
        if exc.code in _REFUSED_US:
            raise DatabaseMisconfigured(f"MongoDB refuses: {_short(exc)}") from exc
        raise
