"""The soak driver, in a dose that a test may take."""

from dataclasses import replace
from pathlib import Path

import pytest

from devstack import Devstack
from tests.faults.doses import DOSES, Dose, Slice, table
from tests.faults.soak import State, parse, soak

SLICE = Slice(
    kind="worker",
    seed=1,
    at="2026-01-01T00:00:00+00:00",
    seconds=240.0,
    kills=400,
    hits=300,
    redelivered=1,
    duplicates=1,
    events=100_000,
    lost=0,
    doubled=0,
    violations=(),
)


def test_a_dose_is_reached_over_several_slices() -> None:
    dose = Dose("worker", kills=1000)
    assert not dose.is_reached([SLICE, SLICE])
    assert not dose.is_reached([SLICE, SLICE, replace(SLICE, kind="ingest")])
    assert dose.is_reached([SLICE, SLICE, SLICE])


def test_time_and_events_of_a_dose_must_both_be_reached() -> None:
    dose = Dose("worker", seconds=480, events=250_000)
    assert not dose.is_reached([SLICE, SLICE])
    assert dose.is_reached([SLICE, SLICE, SLICE])


def test_the_table_adds_up_the_slices_of_each_kind() -> None:
    rows = table([SLICE, replace(SLICE, lost=2), replace(SLICE, kind="ingest")]).splitlines()
    assert rows[2].startswith("| worker | 800 | 600 | 8 | 200,000 | 2 | 0 |")
    assert len(rows) == 2 + len(DOSES)


async def test_a_slice_of_worker_kills_loses_nothing_and_is_remembered(stack: Devstack, tmp_path: Path) -> None:
    options = ["--state", str(tmp_path), "--only", "worker", "--kills", "6", "--slices", "1", "--seed", "7"]
    # when a first slice is run
    assert await soak(stack, parse(options))
    # then the next run finds it, and nothing else
    (done,) = State(tmp_path).slices
    assert (done.kind, done.seed, done.kills, done.lost, done.doubled) == ("worker", 7, 6, 0, 0)
    assert done.events > 0
    assert [path.name for path in tmp_path.iterdir()] == ["slices.jsonl"]


async def test_nothing_is_run_when_every_dose_is_reached(
    stack: Devstack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    State(tmp_path).append(replace(SLICE, kills=1000))
    assert await soak(stack, parse(["--state", str(tmp_path), "--only", "worker"]))
    assert "every dose is reached" in capsys.readouterr().out
