import math
from array import array
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.arrivals import Plan
from bench.history import PER_HOUR, PER_MESSAGE, History
from bench.ids import Ids
from bench.levels import Level, _level
from bench.offer import Offered, Request, ids_of
from bench.overload import _latencies, recovery
from bench.pipeline import capacity_of
from bench.subjects import PROJECT
from contract.event import event_id

PLAN = Plan(port=1, path="/", records=1, phases=[(100, 0.5), (1000, 0.2), (10, 1)], key="k", output="")


def test_requests_are_due_at_the_rate_of_their_phase() -> None:
    due = PLAN.due_times()
    assert len(due) == 50 + 200 + 10
    assert [due[0], due[49], due[50], due[250]] == pytest.approx([0.0, 0.49, 0.5, 0.7])
    assert all(earlier < later for earlier, later in pairwise(due))


def test_a_plan_travels_as_an_argument() -> None:
    assert list(Plan.from_json(PLAN.to_json()).due_times()) == list(PLAN.due_times())


def test_ids_are_those_that_ingest_makes_of_the_key() -> None:
    assert list(ids_of(PLAN, 7)) == [event_id(PROJECT, "k-7")]
    batch = list(ids_of(replace(PLAN, records=3), 7))
    assert batch == [event_id(PROJECT, f"k-7:{index}") for index in range(3)]


def test_latency_counts_from_when_a_request_was_due(tmp_path: Path) -> None:
    plan = replace(PLAN, phases=[(1, 3)], output=str(tmp_path / "requests"))
    columns = (
        array("d", [0, 1, 2]),
        array("d", [0.001, 1.5, 0]),
        array("d", [0.003, 1.75, 0]),
        array("h", [200, 503, 0]),
    )
    with (tmp_path / "requests").open("wb") as file:
        for column in columns:
            column.tofile(file)
    offered = Offered.read(plan, {"began": 5.0, "cpu": 0.1, "bare_503": 1})
    assert [one.since_due for one in offered.requests] == pytest.approx([3.0, 750.0])
    assert [one.since_sent for one in offered.requests] == pytest.approx([2.0, 250.0])
    assert (list(offered.unsent), offered.statuses, offered.without_retry_after) == ([2.0], {200: 1, 503: 1}, 1)
    assert (offered.events, list(offered.ids())) == (1, [event_id(PROJECT, "k-0")])


def answered(plan: Plan, statuses: list[int], unsent: list[float]) -> Offered:
    requests = [Request(number, number, number, number + 0.01, status) for number, status in enumerate(statuses)]
    return Offered(plan, requests, unsent, began=0.0, cpu=0.1, without_retry_after=0)


@pytest.mark.parametrize(
    ("statuses", "unsent", "ended", "kept_up"),
    [
        ([200] * 10, [], 10.9, True),
        ([200] * 10, [], 11.1, False),
        ([200] * 10, [9.5], 10.1, False),
        ([200] * 9 + [503], [], 10.1, False),
        ([200] * 9 + [0], [], 10.1, False),
    ],
    ids=["all well", "stored late", "not sent", "refused", "not answered"],
)
def test_a_load_is_kept_up_with_when_nothing_is_left_over(
    statuses: list[int], unsent: list[float], ended: float, *, kept_up: bool
) -> None:
    plan = replace(PLAN, records=100, phases=[(1, 10)])
    level = _level(answered(plan, statuses, unsent), [0.1, 0.3], {"worker": 0.2}, {"worker": 90.0}, ended=ended)
    assert level.kept_up is kept_up
    assert (level.offered, level.accepted) == (100, 100 * statuses.count(200))
    assert level.behind == pytest.approx(ended - 10)
    assert level.through == pytest.approx(level.accepted / ended)
    assert level.cpu["worker"] == pytest.approx(0.2e6 / level.accepted)


def test_capacity_is_the_largest_load_that_was_kept_up_with() -> None:
    def level(rate: float, ended: float) -> Level:
        plan = replace(PLAN, phases=[(rate, 1)])
        return _level(answered(plan, [200], []), [], {}, {}, ended=ended)

    assert capacity_of([level(100, 1), level(300, 1.5), level(200, 1), level(400, 3)]) == 300
    assert capacity_of([level(100, 3), level(300, 4)]) == 100


def steady(start: float, end: float, value: float) -> list[tuple[float, float]]:
    return [(start + 0.01 * number, value) for number in range(round((end - start) / 0.01))]


NORMAL = steady(0, 5, 10.0)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (steady(10, 15, 10.0), 0.0),
        (steady(10, 12, 900.0) + steady(12, 15, 20.0), 2.0),
        (steady(10, 12, 900.0) + steady(12, 15, 21.0), None),
        (steady(10, 10.5, 10.0) + steady(10.5, 12, math.inf) + steady(12, 15, 10.0), 2.0),
        (steady(10, 15, 900.0), None),
        (steady(10, 14.5, 900.0) + steady(14.5, 15, 10.0), None),
        ([], None),
    ],
    ids=["at once", "after a while", "not quite", "relapse", "never", "not seen for long enough", "nothing came"],
)
def test_recovered_is_what_stays_as_it_was_before(after: list[tuple[float, float]], expected: float | None) -> None:
    found = recovery([*NORMAL, *steady(5, 10, 900.0), *after], 5, 10, least=1.0)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.02))


def test_what_was_shed_or_never_sent_counts_as_slow_for_ever() -> None:
    points = _latencies(answered(PLAN, [200, 503], unsent=[7.0]))
    assert points == [(0, pytest.approx(10)), (1, math.inf), (7.0, math.inf)]


def test_a_history_adds_up_as_that_of_a_worker_does() -> None:
    history = History("mongodb://nowhere", "nowhere", customers=10, ids=Ids.KEYED)
    count = PER_HOUR + 2 * PER_MESSAGE + 1
    written: dict[str, list[Any]] = {"events": [], "totals": [], "ledger": []}
    for collection, documents in history._documents(count):
        written[collection] += documents
    assert len({one["_id"] for one in written["events"]}) == history.events == count
    assert sum(one["count"] for one in written["totals"]) == count
    assert sum(one["quantity"].to_decimal() for one in written["totals"]) == sum(
        one["quantity"].to_decimal() for one in written["events"]
    )
    assert len(written["totals"]) == 2 * 10
    assert [row["stored"] for row in written["ledger"]] == [PER_MESSAGE] * 16 + [1]
    assert b"".join(row["ids"] for row in written["ledger"]) == b"".join(bytes(one["_id"]) for one in written["events"])


def test_ids_of_ingests_own_lie_in_order_of_time_and_those_of_keys_do_not() -> None:
    began = datetime(2026, 1, 31, 12, tzinfo=UTC)
    times = [began + timedelta(milliseconds=number) for number in range(100)]
    own, keyed = ([ids.new(at) for at in times] for ids in (Ids.OWN, Ids.KEYED))
    assert own == sorted(own)
    assert {one.version for one in own} == {7}
    assert {one.int >> 80 for one in own} == {round(at.timestamp() * 1000) for at in times}
    assert keyed != sorted(keyed)
    assert keyed != [Ids.KEYED.new(at) for at in times]
