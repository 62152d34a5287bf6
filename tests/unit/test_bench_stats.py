import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import _read
from bench.results import Part
from bench.stats import median_ratio, percentile


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)],
    ids=["50", "99", "99.1", "all", "0"],
)
def test_percentile_of_the_numbers_up_to_a_hundred(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_nothing_has_no_percentile_and_no_ratio() -> None:
    assert math.isnan(percentile([], 0.99))
    assert math.isnan(median_ratio([], []))


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was twice as busy in the second round, for both.
    assert median_ratio([100, 50, 30], [50, 25, 10]) == 2
    # One round in which only the other was hit does not count.
    assert median_ratio([100, 100, 100], [50, 1, 50]) == 2


def test_rounds_without_a_neighbour_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1, 2], [1])


WRK = """Running 2s test @ http://127.0.0.1:20001/usage
  1 threads and 64 connections
  Latency Distribution
     50%  980.00us
     75%   10.80ms
     90%   17.00ms
     99%    1.02s\x20
  11211 requests in 2.01s, 3.45MB read
  Non-2xx or 3xx responses: 11
Requests/sec:   5513.50
"""  # it pads the units of one letter


def test_what_wrk_prints_is_read() -> None:
    load = _read(WRK)
    assert (load.answered, load.refused) == (11200, 11)
    assert load.per_second == 5513.5
    assert (load.p50, load.p99) == (0.98, 1020)


def test_what_is_not_from_wrk_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="wrk printed no"):
        _read("unable to connect to 127.0.0.1:20001 Connection refused")


def test_what_was_measured_is_read_back_with_as_many_digits_as_are_known(tmp_path: Path) -> None:
    part = Part("taking", "python -m bench taking", "2026-01-31 12:00", 1.25, {"Python": "3.11"}, {"p99": [1 / 3]})
    part.write(tmp_path / "results")
    read = Part.read("taking", tmp_path / "results")
    assert read is not None
    assert read.data == {"p99": [0.333333]}
    assert (read.command, read.seconds, read.machine) == (part.command, part.seconds, part.machine)
    assert Part.read("storing", tmp_path / "results") is None
