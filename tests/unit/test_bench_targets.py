import math
from collections.abc import Sequence
from typing import Any

import pytest

from bench import tables
from bench.ids import Ids
from bench.report import BEGIN, END, embed
from bench.sweep import SETTINGS
from bench.targets import TARGETS, Target, batch_rate, growth, storing_rate, storing_ratio, sustained_rate, taking_ratio


def taken(subject: str, per_second: float, *, records: int = 1, p99: float = 1.0) -> dict[str, Any]:
    load = {"per_second": per_second, "p50": 0.5, "p99": p99, "refused": 0}
    return {"subject": subject, "records": records, "load": load, "cpu": {"service": 100.0}, "memory": 50.0}


def stored(case: str, per_second: float) -> dict[str, Any]:
    return {"case": case, "per_second": per_second, "cpu": {"worker": 10.0}, "memory": {"worker": 90.0}}


TAKING = {
    "taken": [
        *(taken("bare", rate) for rate in (10_000, 8_000, 9_000)),
        *(taken("ingest", rate, p99=4.0) for rate in (6_000, 5_600, 4_500)),
        *(taken("node", rate, p99=16.0) for rate in (5_000, 5_000, 5_000)),
        *(taken("ingest", rate, records=100) for rate in (900, 1_100, 1_000)),
    ]
}


@pytest.mark.parametrize(
    ("target", "measured", "verdict"),
    [
        (Target("", "taking", batch_rate, at_least=0.6), 0.6, "met"),
        (Target("", "taking", batch_rate, at_least=0.6), 0.54, "missed by 10.0%"),
        (Target("", "taking", batch_rate, at_most=500), 500, "met"),
        (Target("", "taking", batch_rate, at_most=500), 510, "missed by 2.0%"),
        (Target("", "taking", batch_rate, at_most=500), math.nan, "not measured"),
    ],
    ids=["just enough", "too little", "just low enough", "too much", "nothing"],
)
def test_verdict_says_by_how_much_a_target_is_missed(target: Target, measured: float, verdict: str) -> None:
    assert target.verdict(measured) == verdict


def test_each_target_is_bounded_on_one_side_and_named_once() -> None:
    assert all((target.at_least is None) != (target.at_most is None) for target in TARGETS)
    assert len({target.what for target in TARGETS}) == len(TARGETS)


def test_a_peer_is_compared_round_by_round_for_single_records() -> None:
    assert taking_ratio("bare", "per_second")(TAKING) == 0.6
    assert taking_ratio("node", "p99")(TAKING) == 0.25
    assert batch_rate(TAKING) == 100_000


def test_a_peer_that_was_not_there_is_not_compared() -> None:
    assert math.isnan(taking_ratio("faststream", "per_second")(TAKING))


def test_a_worker_is_compared_with_inserts_of_its_round() -> None:
    data = {"stored": [stored("insert_many alone", 40_000), stored("1,000 customers", 30_000)]}
    assert storing_ratio("1,000 customers")(data) == 0.75
    assert storing_rate("1,000 customers")(data) == 30_000
    assert math.isnan(storing_rate("one event a message")(data))


def test_what_counts_as_sustained_is_what_got_through_of_the_batches() -> None:
    kinds = [{"records": 1, "sustained": {"through": 6_000}}, {"records": 100, "sustained": {"through": 20_000}}]
    assert sustained_rate({"kinds": kinds}) == 20_000


def test_growth_compares_the_most_stored_with_the_fewest() -> None:
    runs = [(100_000, 20), (100_000, 22), (100_000, 40), (1_000_000, 90), (5_000_000, 24), (5_000_000, 33)]
    assert growth(Ids.KEYED)({"stored": stored_on_top(Ids.KEYED, runs)}) == pytest.approx(28.5 / 22)


def test_growth_is_that_of_one_kind_of_ids() -> None:
    keyed = stored_on_top(Ids.KEYED, [(100_000, 20), (5_000_000, 60)])
    own = stored_on_top(Ids.OWN, [(100_000, 10), (5_000_000, 11)])
    data = {"stored": [*keyed, *own]}
    assert growth(Ids.KEYED)(data) == 3
    assert growth(Ids.OWN)(data) == 1.1
    assert [(row["ids"], row["stored"], row["both µs"]) for row in tables.growth(data)] == [
        ("idempotency keys", 100_000, 20),
        ("idempotency keys", 5_000_000, 60),
        ("ids of ingest's own", 100_000, 10),
        ("ids of ingest's own", 5_000_000, 11),
    ]


def stored_on_top(ids: Ids, runs: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    return [
        {
            "ids": ids.value,
            "stored": size,
            "per_second": 1.0,
            "cpu": {"worker": cost - 5.0, "database": 5.0},
            "memory": {"worker": 90.0, "database": 900.0},
        }
        for size, cost in runs
    ]


def test_the_table_of_targets_says_what_was_not_measured() -> None:
    rows = tables.targets({"taking": TAKING})
    assert [row["verdict"] for row in rows[:4]] == ["met", "not measured", "not measured", "met"]
    assert rows[0] == {"figure": TARGETS[0].what, "wanted": "≥ 0.6", "measured": "0.6", "verdict": "met"}
    assert {row["measured"] for row in rows if row["verdict"] == "not measured"} == {"-"}


def test_medians_of_the_rounds_stand_in_the_table_of_taking() -> None:
    rows = {(row["subject"], row["records"]): row for row in tables.taking({"taken": [*TAKING["taken"], BARE_BATCH]})}
    assert rows["ingest", 1]["requests/s"] == 5_600
    assert rows["ingest", 1]["of bare"] == pytest.approx(5_600 / 9_000)
    assert rows["ingest", 100]["records/s"] == 100_000
    assert rows["ingest", 100]["of bare"] == 0.5


BARE_BATCH = taken("bare", 2_000, records=100)


def test_cells_show_three_digits_and_align_numbers_to_the_right() -> None:
    text = tables.table([{"name": "a", "rate": 12_345.6, "ratio": 0.61234, "none": None, "count": 5_000_000}])
    assert text.splitlines() == [
        "| name | rate | ratio | none | count |",
        "| --- | ---: | ---: | --- | ---: |",
        "| a | 12,346 | 0.612 | - | 5,000,000 |",
    ]


def test_what_stands_between_the_markers_is_replaced_again_and_again() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = embed(text, "new")
    assert once == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert embed(once, "new") == once


def test_a_text_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no"):
        embed("before\nafter\n", "new")


def test_each_value_of_a_setting_stands_beside_the_default() -> None:
    runs = [(5000, 20.0), (1000, 10.0), (5000, 22.0), (1000, 12.0), (5000, 90.0), (1000, 11.0)]
    sweep = {
        "setting": "WORKER_BATCH_EVENTS",
        "default": 5000,
        "load": "all",
        "runs": [{"value": value, "per_second": rate, "latency": None, "cpu": 1.0} for value, rate in runs],
    }
    rows = {row["value"]: row for row in tables.sweep({"settings": [sweep]})}
    assert (rows["**5,000**"]["events/s"], rows["1,000"]["events/s"]) == (22, 11)
    assert rows["1,000"]["of the default's"] == 0.5
    assert rows["1,000"]["p99 ms"] is None


def test_every_setting_of_the_sweep_exists_and_is_tried_at_its_default() -> None:
    assert all(setting.default in setting.values for setting in SETTINGS)
