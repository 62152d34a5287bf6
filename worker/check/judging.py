"""What a check says of MongoDB, from what it answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from preflight.check import Check
from worker.schema import EVENTS, INDEX, LEDGER, TOTALS

OLDEST: Final = (5, 0)
"""The first MongoDB with snapshots outside of transactions, which `audit` and `totals` read."""

RIGHTS: Final = "rights"
COLLECTIONS: Final = (EVENTS, TOTALS, LEDGER)

_NEEDED: Final = ("createCollection", "createIndex", "find", "insert", "update")
_INDEX_NAME: Final = INDEX.document["name"]
_INDEX_KEY: Final = dict(INDEX.document["key"])
_CHANGES_MEANING: Final = frozenset({"unique", "sparse", "partialFilterExpression", "collation", "expireAfterSeconds"})
_AT_WORK: Final = frozenset({"PRIMARY", "SECONDARY"})
_SEEN_BY: Final = "the role clusterMonitor lets a user see them"


def check_version(version: str, feature_version: str | None) -> Check:
    """Judge the server's version, and the one whose features it uses: None when the user may not see that."""
    name, told = (
        "MongoDB's version",
        version + (f", featureCompatibilityVersion {feature_version}" if feature_version else ""),
    )
    if _numbers(version) < OLDEST:
        return Check.wrong(name, f"{told} is too old", "update it to MongoDB 5.0 or later")
    if feature_version and _numbers(feature_version) < OLDEST:
        return Check.wrong(name, f"{told} is too old", _raise_to(version))
    if feature_version and _numbers(feature_version) < _numbers(version):
        return Check.warning(name, f"{told}: an update was not finished", _raise_to(version))
    return Check.ok(name, told)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _raise_to(version: str) -> str:
    feature_version = ".".join(map(str, _numbers(version)))
    return f'`db.adminCommand({{setFeatureCompatibilityVersion: "{feature_version}"}})`'


def check_members(status: Mapping[str, Any] | None) -> Check:
    """Judge whether a majority can acknowledge, from replSetGetStatus; None when the user may not see that."""
    name = "replica set"
    if status is None:
        return Check.ok(name, f"it has a primary; its members are not told to this user, or by a router: {_SEEN_BY}")
    members = [(member["name"], member["stateStr"]) for member in status["members"]]
    down = [f"{member} is {state}" for member, state in members if state not in {*_AT_WORK, "ARBITER"}]
    told = f"{len(members) - len(down)} of {len(members)} members up" + (f": {', '.join(down)}" if down else "")
    at_work = sum(state in _AT_WORK for _, state in members)
    if at_work < status.get("writeMajorityCount", 0):
        return Check.away(name, f"{told}; that is no majority, so no write is acknowledged", "bring back the members")
    if down:
        return Check.warning(name, told, "bring them back: with fewer members up writes may stop")
    return Check.ok(name, told)


def check_storage(status: Mapping[str, Any] | None) -> Check:
    """Judge whether what is acknowledged is kept, from serverStatus; None when the user may not see that."""
    name, told = "write concern", "majority, journaled"
    engine = (status or {}).get("storageEngine")
    if engine is None:
        return Check.ok(name, f"{told}; the storage engine is not told to this user, or by a router: {_SEEN_BY}")
    if not engine["persistent"]:
        found = f"{told}, but the storage engine {engine['name']} keeps nothing over a restart"
        return Check.wrong(name, found, "start mongod with --storageEngine wiredTiger, on an empty directory")
    return Check.ok(name, f"{told}, by {engine['name']}")


def check_rights(status: Mapping[str, Any], database: str) -> Check:
    """Judge what the user may do, from connectionStatus with its privileges."""
    name, info = RIGHTS, status["authInfo"]
    if not info["authenticatedUsers"]:
        return Check.ok(name, "the server lets everybody do everything")
    user = info["authenticatedUsers"][0]["user"]
    lacking = [
        f"{action} on {database}.{collection}"
        for collection in COLLECTIONS
        for action in _NEEDED
        if not any(_grants(one, action, database, collection) for one in info["authenticatedUserPrivileges"])
    ]
    if lacking:
        mend = f'`db.grantRolesToUser("{user}", [{{role: "readWrite", db: "{database}"}}])`, where the user was made'
        return Check.wrong(name, f"the user {user} lacks {', '.join(lacking)}", mend)
    return Check.ok(name, f"the user {user} may do what is needed")


def _grants(privilege: Mapping[str, Any], action: str, database: str, collection: str) -> bool:
    resource = privilege["resource"]
    is_meant = resource.get("anyResource", False) or (
        resource.get("db") in {"", database} and resource.get("collection") in {"", collection}
    )
    return bool(is_meant) and not {action, "anyAction"}.isdisjoint(privilege["actions"])


def check_indexes(collection: str, indexes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Judge the indexes of a collection that exists: one that is ours may be missing, others must do no harm."""
    name = f"indexes of {collection}"
    harmful = [(index["name"], harm) for index in indexes if (harm := _harm_of(collection, index))]
    for index_name, harm in harmful:
        yield Check.wrong(name, f"{index_name} {harm}", f'`db.{collection}.dropIndex("{index_name}")`')
    if harmful:
        return
    if collection == EVENTS and all(index["name"] != _INDEX_NAME for index in indexes):
        yield Check.ok(name, f"{_INDEX_NAME} is not there yet; the worker makes it when it starts")
    else:
        yield Check.ok(name, ", ".join(index["name"] for index in indexes))


def _harm_of(collection: str, index: Mapping[str, Any]) -> str:
    if index["name"] == "_id_":
        return ""
    if "expireAfterSeconds" in index:
        return "makes documents vanish, and with them what was used"
    if index.get("unique"):
        return "refuses documents: an event's only identity is its _id"
    key = dict(index["key"])
    is_ours = collection == EVENTS and (index["name"] == _INDEX_NAME or key == _INDEX_KEY)
    if is_ours and (key != _INDEX_KEY or index["name"] != _INDEX_NAME or _CHANGES_MEANING & index.keys()):
        return "stands where the worker's own index must be, and is another"
    return ""
