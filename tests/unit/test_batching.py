from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.event import Decoded, Reason, Rejected, Source, UsageEvent
from contract.stamp import Stamp
from worker.batching import Batch
from worker.delivery import Delivery
from worker.ledger import STAMPED_EVENTS, EntryId

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PUBLISHER, KEY = UUID(int=77), UUID(int=78)


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


def delivery(
    tag: int, body: bytes = b"x", *, seq: int = 0, replay: UUID | None = None, earlier: int = 0, unreadable: str = ""
) -> Delivery:
    """A delivery; with a `seq` it is stamped."""
    return Delivery(
        tag=tag,
        body=body,
        source=Source.HTTP,
        earlier_deliveries=earlier,
        stamp=Stamp(PUBLISHER, seq, 1) if seq else None,
        replay=replay,
        unreadable=unreadable or None,
    )


def one(number: int = 1) -> Decoded:
    return Decoded([event(number)], [])


def test_a_new_batch_holds_nothing() -> None:
    batch = Batch()
    assert (batch.entries, batch.events, batch.messages, batch.size) == ([], 0, 0, 0)
    assert batch.shape.events == 0
    assert batch.shape.bytes == 0


def test_messages_without_a_name_share_an_entry_but_for_those_with_something_to_be_parked() -> None:
    # given
    first, second, third, fourth, bad = event(1), event(2), event(3), event(4), rejected()
    batch = Batch()
    # when
    batch.add(delivery(7, b"x" * 100), Decoded([first, second], []), 1.0)
    batch.add(delivery(8, b"x" * 50), Decoded([fourth], [bad]), 2.0)
    batch.add(delivery(9, b"x" * 60), Decoded([third], []), 3.0)
    # then
    single, shared = batch.entries
    assert (single.events, single.rejected) == ([fourth], [bad])
    assert (shared.events, shared.rejected) == ([first, second, third], [])
    assert (single.id.kind, shared.id.kind) == ("batch", "batch")
    assert (batch.tags, batch.events, batch.size) == ([7, 8, 9], 5, 210)


def test_a_stamped_message_and_a_replayed_dead_letter_are_entries_of_their_own() -> None:
    batch = Batch()
    batch.add(delivery(1, seq=5), one(1), 0.0)
    batch.add(delivery(2), one(2), 0.0)
    batch.add(delivery(3, replay=KEY), one(3), 0.0)
    batch.add(delivery(4, b"[]", seq=6), Decoded([], []), 0.0)
    assert [entry.id for entry in batch.entries][:3] == [
        EntryId("publisher", PUBLISHER, 5),
        EntryId("replay", KEY),
        EntryId("publisher", PUBLISHER, 6),
    ]
    assert [[event.id.int for event in entry.events] for entry in batch.entries] == [[1], [3], [], [2]]


def test_a_copy_of_a_stamped_message_is_counted_and_left_out() -> None:
    batch = Batch()
    for tag in (1, 2):
        batch.add(delivery(tag, seq=5), one(), 0.0)
    assert len(batch.entries) == 1
    assert (batch.copies, batch.tags) == (1, [1, 2])


def test_another_body_under_the_same_stamp_is_no_copy_and_is_stored_without_its_name() -> None:
    batch = Batch()
    batch.add(delivery(1, b"one", seq=5), one(1), 0.0)
    batch.add(delivery(2, b"other", seq=5), one(2), 0.0)
    assert batch.copies == 0
    assert [entry.id.kind for entry in batch.entries] == ["publisher", "batch"]
    assert batch.entries[1].events == [event(2)]


def test_a_stamp_on_more_events_than_a_publisher_sends_is_not_believed() -> None:
    batch = Batch()
    batch.add(delivery(1, seq=5), Decoded([event()] * (STAMPED_EVENTS + 1), []), 0.0)
    assert [entry.id.kind for entry in batch.entries] == ["batch"]


def test_a_stamp_beside_properties_that_cannot_be_read_is_not_believed() -> None:
    batch = Batch()
    batch.add(delivery(1, seq=5, unreadable="its timestamp"), Decoded([], [rejected()]), 0.0)
    assert [entry.id.kind for entry in batch.entries] == ["batch"]


def test_taken_apart_each_message_has_an_entry_of_its_own_and_keeps_its_name() -> None:
    batch = Batch()
    batch.add(delivery(1), one(1), 0.0)
    batch.add(delivery(2, seq=5), one(2), 0.0)
    batch.add(delivery(3), one(3), 0.0)
    batch.add(delivery(4, seq=5), one(2), 0.0)
    messages = batch.apart()
    assert [message.tag for message in messages] == [1, 2, 3, 4]
    assert [[event.id.int for event in message.entry.events] for message in messages] == [[1], [2], [3], [2]]
    assert messages[1].entry is messages[3].entry is batch.entries[0]
    assert len({message.entry.id for message in messages}) == 3


def test_the_time_of_a_batch_runs_from_its_first_message_on() -> None:
    batch = Batch()
    batch.add(delivery(1), one(), 10.0)
    batch.add(delivery(2), one(), 20.0)
    assert batch.opened_at == 10.0


def test_a_message_without_events_opens_a_batch_too_for_it_must_be_acknowledged() -> None:
    batch = Batch()
    batch.add(delivery(5, b"[]"), Decoded([], []), 10.0)
    assert (batch.messages, batch.tags, batch.opened_at) == (1, [5], 10.0)
    assert batch.entries == []


def test_a_batch_knows_how_often_its_last_message_was_delivered_before_and_how_many_were() -> None:
    batch = Batch()
    for tag, earlier in enumerate([3, 0, 1, 2], 1):
        batch.add(delivery(tag, earlier=earlier), one(), 0.0)
    assert batch.earlier_deliveries == 2
    assert batch.redelivered == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000)), min_size=1, max_size=20))
def test_the_shape_is_the_mean_over_messages_with_good_and_bad_events_alike(
    messages: list[tuple[int, int, int]],
) -> None:
    batch = Batch()
    for tag, (good, bad, size) in enumerate(messages, 1):
        batch.add(delivery(tag, b"x" * size), Decoded([event()] * good, [rejected()] * bad), 0.0)
    assert batch.shape.events == pytest.approx(sum(good + bad for good, bad, _ in messages) / len(messages))
    assert batch.shape.bytes == pytest.approx(sum(size for _, _, size in messages) / len(messages))


def test_batches_share_nothing() -> None:
    one_batch, other = Batch(), Batch()
    one_batch.add(delivery(1), Decoded([event()], [rejected()]), 0.0)
    assert other.entries == []
    assert one_batch.shared.id != other.shared.id
