"""Sums per customer, by every way to them: they must all be the same."""

from collections.abc import AsyncIterator, Mapping
from decimal import Context, Decimal, Inexact
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from tests.support.books import Books
from tests.support.verdict import Kind, Verdict

_EXACT = Context(prec=60, traps=[Inexact])

Sums = dict[tuple[str, str], tuple[Decimal, int]]
"""(Customer, metric) -> quantity, events."""


async def check_sums(books: Books, stored: set[int], database: AsyncDatabase[dict[str, Any]], verdict: Verdict) -> None:
    expected = _sums_of(books, stored)
    match = {"$match": {"projectId": books.project}}
    events = [match, _group({"a": "$email", "b": "$metric"}, {"$sum": "$quantity"}, {"$sum": 1})]
    slots = [
        {"$match": {"_id.projectId": books.project}},
        _group({"a": "$_id.email", "b": "$_id.metric"}, {"$sum": "$quantity"}, {"$sum": "$count"}),
    ]
    by_events = {key: sums async for key, sums in _sums(database, "events", events)}
    by_totals = {key: sums async for key, sums in _sums(database, "totals", slots)}
    if by_events != expected:
        verdict.add(
            Kind.SUMS,
            f"the customers' sums over events are not those of what was sent: {_first_difference(by_events, expected)}",
        )
    if by_totals != expected:
        verdict.add(
            Kind.TOTALS,
            f"the customers' totals are not the sums of what is stored: {_first_difference(by_totals, expected)}",
        )
    verdict.doubled = sum(max(0, count - expected.get(key, (Decimal(), 0))[1]) for key, (_, count) in by_totals.items())
    await _check_hours(books.project, database, verdict)


def _sums_of(books: Books, numbers: set[int]) -> Sums:
    sums: Sums = {}
    for record in books.records(numbers):
        key = record.customer, record.metric
        quantity, count = sums.get(key, (Decimal(), 0))
        sums[key] = _EXACT.add(quantity, record.quantity), count + 1
    return sums


def _group(key: dict[str, Any], quantity: dict[str, Any], count: dict[str, Any]) -> dict[str, Any]:
    return {"$group": {"_id": key, "quantity": quantity, "count": count}}


async def _sums(
    database: AsyncDatabase[dict[str, Any]], collection: str, pipeline: list[dict[str, Any]]
) -> AsyncIterator[tuple[Any, tuple[Decimal, int]]]:
    async for row in await database[collection].aggregate(pipeline, allowDiskUse=True):
        yield tuple(row["_id"].values()), (row["quantity"].to_decimal(), row["count"])


async def _check_hours(project: str, database: AsyncDatabase[dict[str, Any]], verdict: Verdict) -> None:
    """Every row of `totals`, over its slots, is the sum of the events of its hour."""
    hour = {"$dateTrunc": {"date": "$timestamp", "unit": "hour"}}
    events = [
        {"$match": {"projectId": project}},
        _group({"a": "$email", "b": "$metric", "c": hour}, {"$sum": "$quantity"}, {"$sum": 1}),
    ]
    slots = [
        {"$match": {"_id.projectId": project}},
        _group({"a": "$_id.email", "b": "$_id.metric", "c": "$_id.hour"}, {"$sum": "$quantity"}, {"$sum": "$count"}),
    ]
    by_events = {key: sums async for key, sums in _sums(database, "events", events)}
    by_totals = {key: sums async for key, sums in _sums(database, "totals", slots)}
    if by_events != by_totals:
        verdict.add(
            Kind.TOTALS, f"totals by the hour are not the sums of events: {_first_difference(by_totals, by_events)}"
        )


def _first_difference(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> str:
    key = next(key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key))
    return f"{key} has {found.get(key)} instead of {expected.get(key)}"
