from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.event import Decoded, Reason, Rejected, Source, UsageEvent
from worker.batching import Batch

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(number: int = 1) -> UsageEvent:
    return UsageEvent(
        id=UUID(int=number),
        project_id="p",
        email="a@example.com",
        metric="calls",
        quantity=Decimal(1),
        received_at=NOW,
        source=Source.HTTP,
    )


def rejected() -> Rejected:
    return Rejected(b"?", Source.QUEUE, Reason.UNDECODABLE, "not JSON")


def test_a_new_batch_holds_nothing() -> None:
    batch = Batch()
    assert (batch.events, batch.rejected, batch.messages, batch.size) == ([], [], 0, 0)
    assert batch.shape.events == 0
    assert batch.shape.bytes == 0


def test_a_batch_keeps_whole_messages_in_the_order_of_their_delivery() -> None:
    # given
    first, second, third, bad = event(1), event(2), event(3), rejected()
    batch = Batch()
    # when
    batch.add(7, 100, Decoded([first, second], []), earlier_deliveries=0, now=1.0)
    batch.add(8, 50, Decoded([], [bad]), earlier_deliveries=0, now=2.0)
    batch.add(9, 60, Decoded([third], []), earlier_deliveries=0, now=3.0)
    # then
    assert batch.events == [first, second, third]
    assert batch.rejected == [bad]
    assert (batch.messages, batch.size, batch.last_tag) == (3, 210, 9)


def test_the_time_of_a_batch_runs_from_its_first_message_on() -> None:
    batch = Batch()
    batch.add(1, 1, Decoded([event()], []), earlier_deliveries=0, now=10.0)
    batch.add(2, 1, Decoded([event()], []), earlier_deliveries=0, now=20.0)
    assert batch.opened_at == 10.0


def test_a_message_without_events_opens_a_batch_too_for_it_must_be_acknowledged() -> None:
    batch = Batch()
    batch.add(5, 2, Decoded([], []), earlier_deliveries=0, now=10.0)
    assert (batch.messages, batch.last_tag, batch.opened_at) == (1, 5, 10.0)


def test_a_batch_knows_how_often_its_last_message_was_delivered_before_and_how_many_were() -> None:
    batch = Batch()
    for tag, earlier in enumerate([3, 0, 1, 2], 1):
        batch.add(tag, 1, Decoded([event()], []), earlier_deliveries=earlier, now=0.0)
    assert batch.earlier_deliveries == 2
    assert batch.redelivered == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000)), min_size=1, max_size=20))
def test_the_shape_is_the_mean_over_messages_with_good_and_bad_events_alike(
    messages: list[tuple[int, int, int]],
) -> None:
    batch = Batch()
    for tag, (good, bad, size) in enumerate(messages, 1):
        decoded = Decoded([event()] * good, [rejected()] * bad)
        batch.add(tag, size, decoded, earlier_deliveries=0, now=0.0)
    assert batch.shape.events == pytest.approx(sum(good + bad for good, bad, _ in messages) / len(messages))
    assert batch.shape.bytes == pytest.approx(sum(size for _, _, size in messages) / len(messages))


def test_batches_share_nothing() -> None:
    one, other = Batch(), Batch()
    one.add(1, 1, Decoded([event()], [rejected()]), earlier_deliveries=0, now=0.0)
    assert other.events == []
    assert other.rejected == []
