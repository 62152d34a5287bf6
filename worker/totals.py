"""What a batch adds to the hourly totals."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any, Final

from contract.event import UsageEvent
from worker.documents import to_decimal128, to_project_id

SLOTS: Final = 64
"""Each total is spread over so many documents, so that workers that store the same customer's usage do not collide."""

_EXACT: Final = Context(prec=34, traps=[Inexact])
"""A batch's sum is far below the 34 digits of a Decimal128, but not below the 28 of the default context."""

Key = tuple[str, str, str, datetime]
"""Project, customer, metric, hour."""


def draw_slot() -> int:
    """Choose the slot that a worker adds to, until it collides with another."""
    return random.randrange(SLOTS)  # noqa: S311 - spreads load, hides nothing


@dataclass(slots=True)
class Total:
    """So much of one metric, by one customer, in one hour."""

    quantity: Decimal = field(default_factory=Decimal)
    count: int = 0


def totals_of(events: Iterable[UsageEvent]) -> dict[Key, Total]:
    """Sum events by customer, metric and hour."""
    totals: dict[Key, Total] = {}
    for event in events:
        key = (event.project_id, event.email, event.metric, _hour_of(event.used_at))
        total = totals.get(key)
        if total is None:
            total = totals[key] = Total()
        total.quantity = _EXACT.add(total.quantity, event.quantity)
        total.count += 1
    return totals


# What is stored together was used at much the same time.
@lru_cache(maxsize=1024)
def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def to_additions(totals: dict[Key, Total], slot: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return for each total the `_id` of its document, and what is to be added to it."""
    # In one order for all workers: two that add to the same totals then collide at the first one.
    return [
        (
            {
                "projectId": to_project_id(project_id),
                "email": email,
                "metric": metric,
                "hour": hour,
                "slot": slot,
            },
            {"quantity": to_decimal128(total.quantity), "count": total.count},
        )
        for (project_id, email, metric, hour), total in sorted(totals.items(), key=lambda item: item[0])
    ]
