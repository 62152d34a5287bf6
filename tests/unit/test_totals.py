from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.event import Source, UsageEvent
from worker.totals import SLOTS, draw_slot, to_additions, totals_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVENT = UsageEvent(
    id=UUID(int=1),
    project_id="p",
    email="a@example.com",
    metric="calls",
    quantity=Decimal(1),
    received_at=NOON,
    source=Source.HTTP,
)


def test_events_are_summed_by_customer_metric_and_hour() -> None:
    totals = totals_of(
        [
            replace(EVENT, quantity=Decimal("1.5")),
            replace(EVENT, quantity=Decimal("2.25"), received_at=NOON + timedelta(minutes=59, seconds=59.999)),
            replace(EVENT, received_at=NOON + timedelta(hours=1)),
            replace(EVENT, email="b@example.com"),
            replace(EVENT, metric="other"),
            replace(EVENT, project_id="q"),
        ]
    )
    assert {key: (total.quantity, total.count) for key, total in totals.items()} == {
        ("p", "a@example.com", "calls", NOON): (Decimal("3.75"), 2),
        ("p", "a@example.com", "calls", NOON + timedelta(hours=1)): (Decimal(1), 1),
        ("p", "b@example.com", "calls", NOON): (Decimal(1), 1),
        ("p", "a@example.com", "other", NOON): (Decimal(1), 1),
        ("q", "a@example.com", "calls", NOON): (Decimal(1), 1),
    }


def test_the_hour_is_that_of_the_usage_and_not_of_the_receipt() -> None:
    [(_, _, _, hour)] = totals_of([replace(EVENT, timestamp=NOON - timedelta(days=3, minutes=1))])
    assert hour == datetime(2026, 1, 28, 11, tzinfo=UTC)


@given(st.lists(st.decimals(Decimal("-99999999999999999.999999999"), Decimal("99999999999999999.999999999"), places=9)))
def test_sums_are_exact(quantities: list[Decimal]) -> None:
    totals = totals_of([replace(EVENT, quantity=quantity) for quantity in quantities])
    nanos = sum(int(quantity.scaleb(9)) for quantity in quantities)
    assert [int(total.quantity.scaleb(9)) for total in totals.values()] == ([nanos] if quantities else [])


def test_a_total_is_identified_by_all_it_is_of_in_this_order_and_carries_the_slot() -> None:
    totals = totals_of([replace(EVENT, project_id="507f1f77bcf86cd799439011"), EVENT])
    additions = to_additions(totals, 7)
    assert [list(key) for key, _ in additions] == [["projectId", "email", "metric", "hour", "slot"]] * 2
    assert [key["projectId"] for key, _ in additions] == [ObjectId("507f1f77bcf86cd799439011"), "p"]
    assert {key["slot"] for key, _ in additions} == {7}
    assert additions[0][1]["count"] == 1
    assert additions[0][1]["quantity"].to_decimal() == 1


def test_slots_are_drawn_from_all_of_them() -> None:
    assert {draw_slot() for _ in range(5000)} == set(range(SLOTS))
