"""Holding the stored events against the ledger, and against the totals."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from worker.audit.books import name_ids, spell_row
from worker.audit.findings import Finding, Kind
from worker.audit.fingerprint import ID_BYTES, Fingerprint, within
from worker.database import Snapshot
from worker.schema import EVENTS, LEDGER, TOTALS

Document = Mapping[str, Any]

_AT_ONCE: Final = 5000

_HOUR: Final = {
    "$cond": [
        {"$eq": [{"$type": "$timestamp"}, "date"]},
        {"$dateTrunc": {"date": "$timestamp", "unit": "hour"}},
        "$timestamp",
    ]
}
_EVENT: Final = {
    "_id": {"projectId": "$projectId", "email": "$email", "metric": "$metric", "hour": _HOUR},
    "expected": "$quantity",
    "expectedCount": {"$literal": 1},
}
_TOTAL: Final = {
    "_id": {
        "projectId": "$_id.projectId",
        "email": "$_id.email",
        "metric": "$_id.metric",
        "hour": "$_id.hour",
    },
    "found": "$quantity",
    "foundCount": "$count",
}
_FIGURES: Final = ("expected", "expectedCount", "found", "foundCount")
_DIFFER: Final = {"$or": [{"$ne": ["$expected", "$found"]}, {"$ne": ["$expectedCount", "$foundCount"]}]}


class Events:
    """The events of one snapshot; where there are `projects`, only what is theirs is named."""

    def __init__(self, snapshot: Snapshot, projects: Sequence[Any]) -> None:
        self._snapshot = snapshot
        self._projects = projects
        self._stored = Fingerprint()

    @property
    def count(self) -> int:
        """How many are stored; to be asked when their ids are compared."""
        return self._stored.count

    async def compare_ids(self, listed: Fingerprint) -> list[Finding]:
        """Find the events that are not in the ledger exactly once, and the other way round."""
        nameless = [one async for ids in self._ids() for one in self._take(ids)]
        findings = await self._unentered(nameless)
        for buckets in listed.differences(self._stored):
            rows = await self._rows_by_id(buckets)
            there = {one async for ids in self._ids() for one in within(_join(ids), buckets)}
            findings += name_ids(rows, there)
            findings += await self._unentered([UUID(bytes=one) for one in there - rows.keys()])
        return findings

    def _take(self, ids: Sequence[Any]) -> Iterator[Any]:
        """Note the ids that are UUIDs, and yield the others: somebody put them there by hand."""
        self._stored.add(_join(ids))
        return (one for one in ids if not _is_id(one))

    async def _ids(self) -> AsyncIterator[list[Any]]:
        async for documents in self._snapshot.batches(EVENTS, {}, {"_id": 1}):
            yield [document["_id"] for document in documents]

    async def _rows_by_id(self, buckets: frozenset[int]) -> dict[bytes, list[str]]:
        """The ids that the ledger lists, with the rows that do."""
        rows: dict[bytes, list[str]] = {}
        async for batch in self._snapshot.batches(LEDGER, {"ids": {"$type": "binData"}}, {"ids": 1}):
            for row in batch:
                for one in within(row["ids"], buckets):
                    rows.setdefault(one, []).append(spell_row(row))
        return rows

    async def _unentered(self, ids: Sequence[Any]) -> list[Finding]:
        """Name those of these events that are to be named."""
        findings = []
        for start in range(0, len(ids), _AT_ONCE):
            query = {"_id": {"$in": ids[start : start + _AT_ONCE]}, **self._of("projectId")}
            async for document in self._snapshot.find(EVENTS, query):
                total = _spell_total({**document, "hour": document.get("timestamp")})
                findings.append(Finding.of(Kind.UNENTERED, id=document["_id"], **total))
        return findings

    async def compare_totals(self) -> list[Finding]:
        """Find the totals that are not the sums of the events; the server adds, exactly."""
        pipeline = [
            {"$match": self._of("projectId")},
            {"$project": _EVENT},
            {
                "$unionWith": {
                    "coll": TOTALS,
                    "pipeline": [{"$match": self._of("_id.projectId")}, {"$project": _TOTAL}],
                }
            },
            {"$group": {"_id": "$_id", **{name: {"$sum": f"${name}"} for name in _FIGURES}}},
            {"$match": {"$expr": _DIFFER}},
            {"$sort": {"_id": 1}},
        ]
        return [_total_finding(one) async for one in self._snapshot.aggregate(EVENTS, pipeline)]

    def _of(self, name: str) -> dict[str, Any]:
        return {name: {"$in": self._projects}} if self._projects else {}


def _total_finding(found: Document) -> Finding:
    expected, expected_count, total, count = (found[name] for name in _FIGURES)
    figures = {"expected": expected, "expected_count": expected_count, "found": total, "found_count": count}
    return Finding.of(Kind.TOTAL, figures=figures, **_spell_total(found["_id"]))


def _spell_total(total: Document) -> dict[str, Any]:
    hour = total.get("hour")
    return {
        "project": total.get("projectId"),
        "customer": total.get("email"),
        "metric": total.get("metric"),
        "hour": f"{hour:%Y-%m-%dT%H:00Z}" if isinstance(hour, datetime) else hour,
    }


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == ID_BYTES


def _join(ids: Collection[Any]) -> bytes:
    return b"".join(one for one in ids if _is_id(one))
