from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import limits
from ingest.limits import RateLimit, RateLimited, RatePolicy


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


POLICY = RatePolicy("project", rate=10, burst=20)


def drained(limit: RateLimit, sender: str) -> int:
    """How many records pass now."""
    count = 0
    while True:
        try:
            limit.take(sender, 1)
        except RateLimited:
            return count
        count += 1


def test_a_burst_passes_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(POLICY, clock=clock)
    assert drained(limit, "a") == 20
    clock.now += 0.5
    assert drained(limit, "a") == 5
    clock.now += 3600
    assert drained(limit, "a") == 20


def test_senders_do_not_share_a_bucket() -> None:
    limit = RateLimit(POLICY, clock=Clock())
    drained(limit, "a")
    assert drained(limit, "b") == 20


def test_a_refusal_says_when_to_try_again_and_that_is_true() -> None:
    clock = Clock()
    limit = RateLimit(POLICY, clock=clock)
    drained(limit, "a")
    with pytest.raises(RateLimited, match="10 records a second for this project") as caught:
        limit.take("a", 15)
    assert caught.value.headers == {
        "Retry-After": "2",
        "RateLimit-Policy": '"project";q=20;w=2',
        "RateLimit": '"project";r=0;t=2',
    }
    clock.now += 2
    limit.take("a", 15)


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(POLICY, clock=clock)
    limit.take("a", 15)
    for _ in range(100):
        with pytest.raises(RateLimited):
            limit.take("a", 6)
    limit.take("a", 5)


def test_a_batch_larger_than_the_bucket_passes_when_it_is_full_and_empties_it() -> None:
    limit = RateLimit(POLICY, clock=Clock())
    limit.take("a", 1000)
    assert drained(limit, "a") == 0


def test_memory_is_bounded_whatever_senders_are_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 100)
    limit = RateLimit(POLICY, clock=Clock())
    for number in range(1000):
        limit.take(f"invented-{number}", 1)
    assert len(limit._full_at) == 100
    # and who was seen last is still known
    assert drained(limit, "invented-999") == 19


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 20)), max_size=50))
def test_never_more_than_the_burst_and_the_rate_pass(arrivals: list[tuple[float, int]]) -> None:
    clock = Clock()
    limit = RateLimit(POLICY, clock=clock)
    begun, passed = clock.now, 0
    for pause, records in arrivals:
        clock.now += pause
        try:
            limit.take("a", records)
            passed += records
        except RateLimited:
            pass
        assert passed <= POLICY.burst + POLICY.rate * (clock.now - begun) + 1e-6
