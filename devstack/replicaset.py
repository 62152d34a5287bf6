"""Make one mongod the primary of a replica set of its own."""

import socket
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from devstack.database import REPLICA_SET

NOT_YET_INITIALIZED = 94


def becomes_primary(host: str, port: int, *, member: str) -> bool:
    """Whether it is primary by now; initiates the set when nobody has.

    member: the address the set knows it by. host, port: the way to it from here.
    """
    if not _listens(host, port):
        return False  # the driver would take half a second to say so
    client: MongoClient[dict[str, Any]] = MongoClient(
        host, port, directConnection=True, serverSelectionTimeoutMS=500, socketTimeoutMS=5_000
    )
    with client:
        try:
            _initiate(client, member)
            return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _initiate(client: MongoClient[dict[str, Any]], member: str) -> None:
    try:
        client.admin.command("replSetGetStatus")
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member}]})
