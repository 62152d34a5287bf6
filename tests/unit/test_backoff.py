from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.backoff import Backoff

backoffs = st.builds(Backoff, first=st.floats(0.001, 10), cap=st.floats(0.001, 60))


@given(backoffs, st.integers(1, 10_000))
def test_a_delay_is_positive_and_never_above_the_cap(backoff: Backoff, failures: int) -> None:
    assert 0 < backoff.delay(failures) <= backoff.cap


@given(backoffs, st.integers(1, 31))
def test_each_failure_doubles_the_step_until_the_cap(backoff: Backoff, failures: int) -> None:
    step = min(backoff.cap, backoff.first * 2 ** (failures - 1))
    assert step / 2 <= backoff.delay(failures) <= step


@pytest.mark.parametrize("failures", [33, 1_000, 10**9])
def test_an_outage_may_last_for_ever(failures: int) -> None:
    assert 1.0 <= Backoff(first=0.05, cap=2.0).delay(failures) <= 2.0


def test_delays_differ_so_that_many_processes_do_not_return_in_step() -> None:
    delays = [Backoff(first=1.0, cap=1.0).delay(1) for _ in range(200)]
    assert len(set(delays)) > 100
    assert 0.65 < mean(delays) < 0.85


def test_without_a_failure_the_delay_is_at_most_the_first_step() -> None:
    assert Backoff(first=0.05, cap=2.0).delay(0) <= 0.05
