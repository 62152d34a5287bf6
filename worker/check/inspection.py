"""Asking MongoDB for what a check has to know, without changing anything."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from preflight.check import Check
from preflight.clock import check_difference
from worker.check.judging import (
    COLLECTIONS,
    RIGHTS,
    check_indexes,
    check_members,
    check_rights,
    check_storage,
    check_version,
)
from worker.database import Database
from worker.database_errors import DatabaseMisconfigured, DatabaseUnavailable
from worker.documents import Document

NAME: Final = "database"
_LOGIN: Final = (
    "give WORKER_MONGODB_URI a user with the role readWrite on WORKER_MONGODB_DATABASE, its password, and authSource"
)
_START: Final = "start it, or set WORKER_MONGODB_URI to where it is; the worker waits for it"


def _now() -> datetime:
    return datetime.now(UTC)


async def check_database(uri: str, name: str, *, seconds: float, clock: Callable[[], datetime] = _now) -> list[Check]:
    """Look at it; no question, nor all of them together, take much longer than so many seconds."""
    found: list[Check] = []
    try:
        database = Database(uri, name, timeout_seconds=seconds)
    except DatabaseMisconfigured as exc:
        return [Check.wrong(NAME, exc.found, "correct WORKER_MONGODB_URI")]
    try:
        # Later than the driver's own limit, which tells more.
        async with asyncio.timeout(seconds + 1), aclosing(_inspect(database, name, clock)) as checks:
            async for check in checks:
                found.append(check)  # noqa: PERF401 - each counts, should the next one fail
    except DatabaseMisconfigured as exc:
        # A server answers anybody who asks what it is; only then it asks who that may be.
        found.append(Check.wrong(RIGHTS if found else NAME, exc.found, exc.mend or _LOGIN))
    except TimeoutError:
        found.append(Check.away(NAME, f"it did not answer within {seconds:g} s", _START))
    except DatabaseUnavailable as exc:
        found.append(await _explain(uri, name, seconds, exc))
    finally:
        await database.close()
    return found


async def _inspect(database: Database, name: str, clock: Callable[[], datetime]) -> AsyncGenerator[Check]:
    await database.check()
    before = clock()
    hello = await database.ask("hello", of_server=True)
    ours = before + (clock() - before) / 2
    yield Check.ok(NAME, f"{hello.get('me') or 'a router'} answers, of {_set_of(hello)}")
    build = await database.ask("buildInfo", of_server=True)
    yield check_version(build["version"], await _feature_version(database))
    yield check_members(await _if_allowed(database, "replSetGetStatus"))
    yield check_storage(await _if_allowed(database, "serverStatus"))
    await database.rehearse()
    yield Check.ok("transactions", "one was begun, read in, and undone")
    status = await database.ask("connectionStatus", of_server=True, showPrivileges=True)
    yield check_rights(status, name)
    for collection in COLLECTIONS:
        async for check in _inspect_collection(database, collection):
            yield check
    yield check_difference(ours, hello["localTime"], of="MongoDB's")


def _set_of(hello: Document) -> str:
    return f"the replica set {hello['setName']}" if "setName" in hello else "a sharded cluster"


async def _inspect_collection(database: Database, collection: str) -> AsyncIterator[Check]:
    listed = await database.ask("listCollections", filter={"name": collection}, nameOnly=True)
    if not listed["cursor"]["firstBatch"]:
        yield Check.ok(f"collection {collection}", "is not there yet; the worker makes it when it starts")
        return
    indexes = await database.ask("listIndexes", collection)
    for check in check_indexes(collection, indexes["cursor"]["firstBatch"]):
        yield check


async def _feature_version(database: Database) -> str | None:
    answer = await _if_allowed(database, "getParameter", featureCompatibilityVersion=1)
    return answer["featureCompatibilityVersion"]["version"] if answer else None


async def _if_allowed(database: Database, command: str, **options: Any) -> Document | None:
    """What only some users may see, and a router does not know; when it was an outage, the next question tells."""
    try:
        return await database.ask(command, of_server=True, **options)
    except (DatabaseMisconfigured, DatabaseUnavailable):
        return None


async def _explain(uri: str, name: str, seconds: float, why: DatabaseUnavailable) -> Check:
    """Tell a server that is away from one that is no member of the set that the URI names.

    To the driver they are the same; with the only server of a URI one can speak without the set.
    """
    away = Check.away(NAME, f"it cannot be used: {why}", _START)
    if (direct := _direct(uri)) is None:
        return away
    database = Database(direct, name, timeout_seconds=seconds)
    try:
        hello = await database.ask("hello", of_server=True)
    except (DatabaseUnavailable, DatabaseMisconfigured):
        return away
    finally:
        await database.close()
    return _explain_by(hello) or away


def _explain_by(hello: Document) -> Check | None:
    if hello.get("isreplicaset"):
        return Check.wrong(NAME, "the server's replica set was never initiated", "`rs.initiate()`, once, in mongosh")
    if "setName" not in hello:
        mend = "start it with --replSet and initiate it, one member is enough"
        return Check.wrong(NAME, "the server stands alone, and has no transactions", mend)
    if not hello.get("primary"):
        mend = "bring its members back: `rs.status()` says which; the worker waits for it"
        return Check.away(NAME, f"the replica set {hello['setName']} has no primary", mend)
    mend = "set replicaSet in WORKER_MONGODB_URI to that, and its hosts to names that this machine can reach"
    return Check.wrong(NAME, f"the server is of the set {hello['setName']}, with the primary {hello['primary']}", mend)


def _direct(uri: str) -> str | None:
    """The URI of its only server, whatever set that is of; None when there are several, or a name stands for them."""
    parts = urlsplit(uri)
    if parts.scheme != "mongodb" or "," in parts.netloc:
        return None
    options = [one for one in parts.query.split("&") if one and not one.lower().startswith("replicaset=")]
    kept = [one for one in options if not one.lower().startswith("directconnection=")]
    return urlunsplit(parts._replace(path=parts.path or "/", query="&".join([*kept, "directConnection=true"])))
