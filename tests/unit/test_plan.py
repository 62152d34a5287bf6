from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.event import Source, UsageEvent
from worker.plan import plan

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(number: int, quantity: int = 1) -> UsageEvent:
    return UsageEvent(
        id=UUID(int=number),
        project_id="p",
        email="a@example.com",
        metric="calls",
        quantity=Decimal(quantity),
        received_at=NOON,
        source=Source.HTTP,
    )


# Few ids with few contents, so that they meet.
events = st.builds(event, st.integers(1, 4), st.integers(1, 2))
stores = st.dictionaries(st.integers(1, 4), st.integers(1, 2)).map(
    lambda contents: {UUID(int=number): event(number, quantity) for number, quantity in contents.items()}
)


def test_events_never_seen_are_fresh_in_their_order() -> None:
    batch = [event(2), event(1), event(3)]
    planned = plan(batch, {})
    assert planned.fresh == batch
    assert (planned.duplicates, planned.conflicts) == (0, [])


def test_an_event_stored_before_is_a_duplicate() -> None:
    stored = event(1)
    again = replace(stored, received_at=NOON + timedelta(days=1), source=Source.QUEUE, idempotency_key="k")
    planned = plan([again], {stored.id: stored})
    assert (planned.fresh, planned.duplicates, planned.conflicts) == ([], 1, [])


def test_other_content_under_a_stored_id_is_a_conflict_with_what_is_stored() -> None:
    stored, sent = event(1, 1), event(1, 2)
    planned = plan([sent], {stored.id: stored})
    assert (planned.fresh, planned.duplicates, planned.conflicts) == ([], 0, [(sent, stored)])


def test_within_a_batch_the_first_of_an_id_stands() -> None:
    first, other, copy = event(1, 1), event(1, 2), event(1, 1)
    planned = plan([first, other, copy], {})
    assert planned.fresh == [first]
    assert planned.fresh[0] is first
    assert planned.duplicates == 1
    assert planned.conflicts == [(other, first)]


def test_what_is_fresh_is_known_from_then_on() -> None:
    known: dict[UUID, UsageEvent] = {}
    first = event(1)
    assert plan([first], known).fresh == [first]
    assert known == {first.id: first}
    assert plan([event(1), event(1, 2)], known).conflicts == [(event(1, 2), first)]


@given(st.lists(events, max_size=12), stores)
def test_every_event_is_exactly_one_of_fresh_duplicate_or_conflict(
    batch: list[UsageEvent], stored: dict[UUID, UsageEvent]
) -> None:
    planned = plan(batch, dict(stored))
    # each event of the batch is accounted for once
    assert len(planned.fresh) + planned.duplicates + len(planned.conflicts) == len(batch)
    # what is to be inserted cannot meet itself, or what is there
    fresh = {event.id: event for event in planned.fresh}
    assert len(fresh) == len(planned.fresh)
    assert not fresh.keys() & stored.keys()
    # every id of the batch stands once in the end, and the first one does
    standing = {**fresh, **stored}
    assert standing.keys() == {event.id for event in batch} | stored.keys()
    for one in planned.fresh:
        assert one is next(event for event in batch if event.id == one.id)
    # a conflict differs from what stands, and what is neither differs in nothing
    for sent, first in planned.conflicts:
        assert sent.content != first.content
        assert first is standing[sent.id]
    same = sum(event.content == standing[event.id].content for event in batch)
    assert planned.duplicates == same - len(planned.fresh)


@given(st.lists(events, max_size=12), stores)
def test_planning_again_after_the_first_plan_was_carried_out_finds_nothing_fresh(
    batch: list[UsageEvent], stored: dict[UUID, UsageEvent]
) -> None:
    once = plan(batch, dict(stored))
    again = plan(batch, {**stored, **{event.id: replace(event) for event in once.fresh}})
    assert again.fresh == []
    assert again.duplicates == once.duplicates + len(once.fresh)
    assert [sent for sent, _ in again.conflicts] == [sent for sent, _ in once.conflicts]
