import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.policies import BatchPolicy, MessageShape, PrefetchPolicy

shapes = st.builds(MessageShape, events=st.floats(0, 1e6), bytes=st.floats(0, 1e9))
policies = st.builds(
    PrefetchPolicy,
    batch=st.builds(BatchPolicy, events=st.integers(1, 100_000), bytes=st.integers(1, 2**30)),
    least=st.integers(1, 100),
    most=st.integers(100, 10_000),
)


@pytest.mark.parametrize(
    ("events", "size", "full"),
    [(0, 0, False), (9, 99, False), (10, 0, True), (11, 0, True), (0, 100, True), (0, 101, True)],
)
def test_a_batch_is_full_when_it_has_reached_either_of_its_limits(events: int, size: int, full: bool) -> None:  # noqa: FBT001
    assert BatchPolicy(events=10, bytes=100).is_full(events, size) is full


@given(shapes, shapes)
def test_a_blend_goes_from_one_shape_to_the_other(one: MessageShape, other: MessageShape) -> None:
    assert one.blend(other, 0.0) == one
    assert one.blend(other, 1.0).events == pytest.approx(other.events, rel=1e-6, abs=1e-6)
    half = one.blend(other, 0.5)
    assert half.bytes == pytest.approx((one.bytes + other.bytes) / 2)


def test_a_session_starts_with_a_single_message() -> None:
    assert PrefetchPolicy().first() == 1


@pytest.mark.parametrize(
    ("shape", "prefetch"),
    [
        pytest.param(MessageShape(1, 200), 5000, id="small messages: the most"),
        pytest.param(MessageShape(500, 100_000), 40, id="packed messages: two batches of events"),
        pytest.param(MessageShape(50, 10_000), 320, id="in between: so little less than fits is kept"),
        pytest.param(MessageShape(5000, 1_000_000), 20, id="one message is a batch: the least"),
        pytest.param(MessageShape(1, 8 * 1024 * 1024), 4, id="large messages: bytes overrule the least"),
        pytest.param(MessageShape(1, 1e9), 1, id="huge messages: one at a time"),
        pytest.param(MessageShape(0, 2), 5000, id="empty messages"),
    ],
)
def test_the_prefetch_comes_to_fit_what_the_messages_look_like(shape: MessageShape, prefetch: int) -> None:
    policy = PrefetchPolicy()
    current = policy.first()
    for _ in range(5):
        current = policy.next(current, shape, suspect=False)
    assert current == prefetch


def test_a_few_small_messages_do_not_bring_thousands_that_may_be_large() -> None:
    policy, small = PrefetchPolicy(), MessageShape(1, 200)
    steps = [1]
    for _ in range(4):
        steps.append(policy.next(steps[-1], small, suspect=False))
    assert steps == [1, 20, 320, 5000, 5000]


@given(policies, shapes)
def test_what_may_be_in_memory_is_bounded_for_any_shape(policy: PrefetchPolicy, shape: MessageShape) -> None:
    prefetch = policy.next(1, shape, suspect=False)
    assert 1 <= prefetch <= policy.most
    assert prefetch == 1 or prefetch * shape.bytes <= 4 * policy.batch.bytes


@given(policies, shapes, st.integers(2, 10_000))
def test_a_prefetch_is_kept_or_changed_by_more_than_its_factor(
    policy: PrefetchPolicy, shape: MessageShape, now: int
) -> None:
    chosen = policy.next(now, shape, suspect=False)
    assert chosen == now or chosen >= policy.grow_factor * now or chosen <= now / policy.shrink_factor
    assert chosen <= max(now, policy.least, policy.growth * now)


@given(policies, shapes, st.integers(2, 10_000))
def test_retuning_settles_soon_for_an_unchanging_shape(policy: PrefetchPolicy, shape: MessageShape, now: int) -> None:
    for _ in range(5):
        now = policy.next(now, shape, suspect=False)
    assume(now != 1)  # from 1 it always looks anew
    assert policy.next(now, shape, suspect=False) == now


@pytest.mark.parametrize(("earlier", "suspect"), [(0, False), (1, False), (2, True), (19, True)])
def test_a_message_is_suspect_after_two_earlier_deliveries(earlier: int, suspect: bool) -> None:  # noqa: FBT001
    assert PrefetchPolicy().is_suspect(earlier) is suspect


def test_suspects_are_taken_one_at_a_time_until_one_is_not() -> None:
    policy, shape = PrefetchPolicy(), MessageShape(1, 200)
    assert policy.next(1, shape, suspect=True) == 1
    assert policy.next(1, shape, suspect=False) == 20
