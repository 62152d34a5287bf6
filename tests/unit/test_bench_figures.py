"""What the benchmark makes of what it has measured."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import tables
from bench.arrivals import Plan
from bench.load import body_of
from bench.offer import Offered, Request, ids_of
from bench.overload import recovery
from bench.pipeline import capacity_of
from bench.report import BEGIN, END, embed
from bench.results import Part
from bench.stats import median_ratio, percentile
from bench.subjects import PROJECT
from bench.sweep import SETTINGS
from bench.tables import cell, table
from bench.targets import Target, batch_rate, growth, storing_ratio, taking_ratio
from contract.event import event_id

PLAN = Plan(port=1, path="/", records=1, phases=[(10, 1), (100, 0.5)], key="k", output="")


def taken(subject: str, per_second: float, *, records: int = 1, p99: float = 1.0) -> dict[str, Any]:
    load = {"per_second": per_second, "p50": 0.5, "p99": p99, "refused": 0}
    cpu = {"service": 40.0, "broker": 10.0}
    return {"subject": subject, "records": records, "load": load, "cpu": cpu, "memory": 60.0}


def stored(case: str, per_second: float, **more: object) -> dict[str, Any]:
    return {"case": case, "per_second": per_second, "cpu": {"worker": 9.0, "database": 14.0}, "memory": {}, **more}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5], 0.99, 5), ([3, 1, 2], 0.5, 2), (range(1, 101), 0.99, 99), (range(1, 101), 1.0, 100), ([1, 2], 0.0, 1)],
    ids=str,
)
def test_a_percentile_is_a_value_that_was_seen(values: Any, share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_ratio_compares_what_was_measured_in_the_same_round() -> None:
    # given a machine that was twice as slow in the second round
    assert median_ratio([60, 30, 66], [100, 50, 100]) == 0.6


@pytest.mark.parametrize(
    ("target", "measured", "verdict"),
    [
        (Target("", "", growth, at_least=0.6), 0.6, "met"),
        (Target("", "", growth, at_least=0.6), 0.54, "missed by 10.0%"),
        (Target("", "", growth, at_most=500.0), 499.0, "met"),
        (Target("", "", growth, at_most=500.0), 550.0, "missed by 10.0%"),
        (Target("", "", growth, at_most=500.0), math.nan, "not measured"),
    ],
    ids=["least met", "least missed", "most met", "most missed", "nothing"],
)
def test_a_verdict_says_how_much_is_missing(target: Target, measured: float, verdict: str) -> None:
    assert target.verdict(measured) == verdict


def test_single_records_and_batches_are_told_apart() -> None:
    data = {
        "taken": [
            taken("bare", 20_000),
            taken("ingest", 13_000),
            taken("ingest", 1_200, records=100),
            taken("bare", 10_000),
            taken("ingest", 7_000),
            taken("ingest", 1_400, records=100),
        ]
    }
    assert taking_ratio("bare", "per_second")(data) == pytest.approx(0.675)
    assert batch_rate(data) == 130_000


def test_a_peer_that_was_not_there_is_not_measured() -> None:
    assert math.isnan(taking_ratio("node", "p99")({"taken": [taken("ingest", 13_000)]}))


def test_storing_is_compared_with_the_inserts_of_its_round() -> None:
    inserts, ours = (80_000, 40_000, 80_000), (48_000, 26_000, 40_000)
    runs = [stored("insert_many alone", rate) for rate in inserts] + [stored("ours", rate) for rate in ours]
    assert storing_ratio("ours")({"stored": runs}) == 0.6


def test_growth_compares_the_most_stored_with_the_fewest() -> None:
    costs = {100_000: 10.0, 1_000_000: 11.0, 5_000_000: 14.0}
    runs = [stored("", 1, stored=size) | {"cpu": {"worker": 4.0, "database": cost - 4}} for size, cost in costs.items()]
    assert growth({"stored": runs}) == 1.4


def test_the_capacity_is_the_largest_load_that_was_kept_up_with() -> None:
    class Level:
        def __init__(self, offered: float, *, kept_up: bool) -> None:
            self.offered, self.kept_up = offered, kept_up

    levels: Any = [Level(10, kept_up=True), Level(20, kept_up=True), Level(30, kept_up=False)]
    assert capacity_of(levels) == 20
    assert capacity_of(levels[2:]) == 30


def test_requests_are_due_at_their_phases_rates() -> None:
    due = list(PLAN.due_times())
    assert len(due) == 10 + 50
    assert due[:3] == pytest.approx([0, 0.1, 0.2])
    assert due[10:12] == pytest.approx([1.0, 1.01])


def test_a_plan_survives_the_command_line() -> None:
    assert Plan.from_json(PLAN.to_json()).due_times() == PLAN.due_times()


def test_the_ids_that_are_looked_for_are_those_that_ingest_gives() -> None:
    assert list(ids_of(PLAN, 7)) == [event_id(PROJECT, "k-7")]
    assert list(ids_of(replace(PLAN, records=2), 7)) == [event_id(PROJECT, "k-7:0"), event_id(PROJECT, "k-7:1")]


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = Request(0, due=1.0, sent=1.5, done=1.6, status=200)
    assert late.since_due == pytest.approx(600)
    assert late.since_sent == pytest.approx(100)


def test_only_what_was_answered_with_200_is_looked_for() -> None:
    requests = [Request(0, 0, 0, 1, 200), Request(1, 0, 0, 1, 503), Request(2, 0, 0, 1, 0)]
    offered = Offered(PLAN, requests, unsent=1, began=0, cpu=0, without_retry_after=0)
    assert list(offered.ids()) == [event_id(PROJECT, "k-0")]
    assert offered.statuses == {200: 1, 503: 1, 0: 1}


def seconds(*values: float) -> list[tuple[float, float]]:
    """A value ten times a second, from the start."""
    return [(place / 10, value) for place, value in enumerate(values)]


def test_recovered_is_what_becomes_normal_and_stays_so() -> None:
    before, during = [10.0] * 20, [900.0] * 20
    relapse = [900.0] * 3 + [10.0] * 5 + [900.0] + [10.0] * 20
    assert recovery(seconds(*before, *during, *relapse), 2.0, 4.0, least=50) == pytest.approx(0.9)


def test_what_is_never_normal_again_has_not_recovered() -> None:
    assert recovery(seconds(*[10.0] * 20, *[900.0] * 40), 2.0, 4.0, least=50) is None


def test_what_was_slow_before_may_be_slow_afterwards() -> None:
    assert recovery(seconds(*[100.0] * 20, *[900.0] * 20, *[190.0] * 20), 2.0, 4.0, least=50) == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,234,567"), (12345.6, "12,346"), (0.61234, "0.612"), (None, "-"), ("a", "a")],
    ids=str,
)
def test_three_digits_are_shown(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_figures_stand_to_the_right() -> None:
    assert table([{"what": "a", "figure": 1.0}]).splitlines() == ["| what | figure |", "| --- | ---: |", "| a | 1 |"]


def test_the_table_of_subjects_has_medians_and_ratios_to_bare() -> None:
    rates = (20_000, 10_000, 30_000)
    data = {"taken": [taken(name, rate * part) for rate in rates for name, part in (("bare", 1), ("ingest", 0.7))]}
    rows = {row["subject"]: row for row in tables.taking(data)}
    assert rows["bare"]["requests/s"] == 20_000
    assert rows["ingest"]["of bare"] == pytest.approx(0.7)


def test_every_target_has_a_row_before_anything_is_measured() -> None:
    rows = tables.targets({})
    assert len(rows) == len({row["figure"] for row in rows}) > 10
    assert {row["verdict"] for row in rows} == {"not measured"}


def test_a_part_is_read_back_as_it_was_measured(tmp_path: Path) -> None:
    part = Part("taking", "python -m bench taking", "2026-01-31 12:00", 61.5, {"cores": "2"}, {"taken": []})
    part.write(tmp_path)
    assert Part.read("taking", tmp_path) == part
    assert Part.read("storing", tmp_path) is None


def test_figures_are_kept_with_as_many_digits_as_were_measured(tmp_path: Path) -> None:
    Part("growth", "", "", 1 / 3, {}, {"a": [12345.678912, 8388608.0]}).write(tmp_path)
    assert '"seconds": 0.333333' in (tmp_path / "growth.json").read_text()
    assert "12345.7" in (tmp_path / "growth.json").read_text()
    assert "8388608.0" in (tmp_path / "growth.json").read_text()


def test_a_report_replaces_the_one_before_and_nothing_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert embed(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["", BEGIN, END], ids=["neither", "no end", "no beginning"])
def test_a_report_without_its_place_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        embed(text, "new")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_default_of_a_setting_is_among_the_values_that_are_tried(setting: Any) -> None:
    assert setting.default in setting.values


def test_a_batch_holds_as_many_records_as_it_says() -> None:
    assert body_of(1).count(b"email") == 1
    assert body_of(100).count(b"email") == 100
