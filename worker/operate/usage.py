"""Reading how much was used: the hourly totals, added up by the server, to the last decimal."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from itertools import product
from typing import Any, Final

from bson import MaxKey

from worker.database import Snapshot
from worker.documents import to_project_id
from worker.operate.periods import Period
from worker.schema import TOTALS

_EXACT: Final = Context(prec=80, traps=[Inexact])


class Per(StrEnum):
    """Whose usage is one sum."""

    CUSTOMER = "customer"
    PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage is meant, and how it is to be added up."""

    projects: tuple[str, ...]
    emails: tuple[str, ...] = ()
    """All, when there is none; likewise the metrics."""
    metrics: tuple[str, ...] = ()
    since: datetime | None = None
    """A full hour, which is in."""
    until: datetime | None = None
    """A full hour, which is out."""
    by: Period | None = None
    """None: the whole time is one sum."""
    per: Per = Per.CUSTOMER


@dataclass(frozen=True, slots=True)
class Usage:
    """So much of one metric."""

    project_id: str
    email: str | None
    """None for all customers together."""
    metric: str
    start: datetime | None
    """Of the period; None for the whole time."""
    quantity: Decimal
    events: int


async def read_usage(snapshot: Snapshot, question: Question) -> AsyncIterator[Usage]:
    """Yield the sums, by project, customer, metric and time in this order. Raises DatabaseUnavailable."""
    async for group in snapshot.aggregate(TOTALS, pipeline(question)):
        yield _from_group(group)


def pipeline(question: Question) -> list[Mapping[str, Any]]:
    """Return what the server is to do."""
    # It rounds a sum to 34 digits. What stands before the point and what stands behind, each summed by itself, stay
    # below that for any usage there is.
    whole = {"$trunc": "$quantity"}
    return [
        {"$match": _matches(question)},
        {
            "$group": {
                "_id": _group(question),
                "whole": {"$sum": whole},
                "fraction": {"$sum": {"$subtract": ["$quantity", whole]}},
                "events": {"$sum": "$count"},
            }
        },
        {"$sort": {"_id": 1}},
    ]


def _matches(question: Question) -> dict[str, Any]:
    matches: dict[str, Any] = {"$or": [{"_id": one} for one in _ranges(question)]}
    if question.metrics:
        matches["_id.metric"] = {"$in": question.metrics}
    hours = {"$gte": question.since, "$lt": question.until}
    if hours := {operator: hour for operator, hour in hours.items() if hour is not None}:
        matches["_id.hour"] = hours
    return matches


def _ranges(question: Question) -> Iterator[dict[str, Any]]:
    """The parts of the index that hold it all: a total's `_id` is project, customer, metric, hour and slot."""
    names = [[("projectId", to_project_id(one)) for one in question.projects]]
    if question.emails:
        names.append([("email", one) for one in question.emails])
    if question.emails and question.metrics:
        names.append([("metric", one) for one in question.metrics])
    following = ("projectId", "email", "metric", "hour")[len(names)]
    for pairs in product(*names):
        prefix = dict(pairs)
        yield {"$gte": prefix, "$lt": {**prefix, following: MaxKey()}}


def _group(question: Question) -> dict[str, Any]:
    names = ("projectId", "email", "metric") if question.per is Per.CUSTOMER else ("projectId", "metric")
    group: dict[str, Any] = {name: f"$_id.{name}" for name in names}
    if question.by is not None:
        group["start"] = {"$dateTrunc": {"date": "$_id.hour", "unit": question.by.value}}
    return group


def _from_group(group: Mapping[str, Any]) -> Usage:
    names = group["_id"]
    return Usage(
        project_id=str(names["projectId"]),
        email=names.get("email"),
        metric=names["metric"],
        start=names.get("start"),
        quantity=_EXACT.add(group["whole"].to_decimal(), group["fraction"].to_decimal()),
        events=int(group["events"]),
    )
