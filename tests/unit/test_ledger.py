"""What is written in one transaction, when not all can be."""

from collections.abc import Callable, Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from contract.event import Reason, Rejected, Source
from contract.origin import Origin
from contract.stamp import Stamp
from tests.unit.test_batching import event
from worker.ledger import Entry, EntryId, is_divisible, split, weigh

PUBLISHER = UUID(int=77)


def unstamped(events: int, rejected: int) -> Entry:
    requests = ",".join(f"{number:x}" for number in range(events + rejected))
    return Entry(EntryId.new(), [event() for _ in range(events)], [bad() for _ in range(rejected)], requests=requests)


def stamped(events: int, rejected: int) -> Entry:
    stamp = Stamp(PUBLISHER, 1, events + rejected)
    return Entry(EntryId.of_stamp(stamp), [event() for _ in range(events)], [bad() for _ in range(rejected)], stamp)


def bad() -> Rejected:
    return Rejected(b"?", Source.QUEUE, Reason.UNDECODABLE, "not JSON")


makers: st.SearchStrategy[Callable[[int, int], Entry]] = st.sampled_from([stamped, unstamped])
counts = st.integers(0, 12)
batches = st.lists(makers.flatmap(lambda make: st.builds(make, counts, counts)), max_size=6)
limits = st.integers(1, 15)


@given(batches, limits)
def test_all_is_written_once_in_order_and_what_has_an_identity_whole(entries: list[Entry], most: int) -> None:
    written = [entry for part in split(entries, most) for entry in part]
    for kind in ("events", "rejected"):
        before, after = ([id(item) for entry in some for item in getattr(entry, kind)] for some in (entries, written))
        assert before == after
    assert [entry for entry in written if entry.stamp] == [entry for entry in entries if entry.stamp]
    unnamed = [entry.id for entry in written if not entry.stamp]
    assert len(set(unnamed)) == len(unnamed)


@given(batches, limits)
def test_more_than_so_many_are_together_only_when_they_have_one_identity(entries: list[Entry], most: int) -> None:
    for part in split(entries, most):
        assert weigh(part) <= most or (len(part) == 1 and part[0].stamp)


@given(batches)
def test_half_as_many_make_several_transactions_of_what_is_divisible(entries: list[Entry]) -> None:
    assert is_divisible(entries) == (len(list(split(entries, max(1, weigh(entries) // 2)))) > 1)


@given(counts, counts, st.lists(limits, max_size=3))
def test_each_item_keeps_the_key_and_the_origin_that_its_letter_has(
    events: int, rejected: int, cuts: list[int]
) -> None:
    entry = unstamped(events, rejected)
    parts = [entry]
    for most in cuts:
        parts = [part for together in split(parts, most) for part in together]
    assert letters([entry]) == letters(parts)


def letters(entries: Sequence[Entry]) -> dict[int, tuple[UUID, Origin]]:
    """By the item: the letter that it would become."""
    return {
        id(item): (key, entry.origin_of(position))
        for entry in entries
        for position, (item, key) in enumerate(zip([*entry.rejected, *entry.events], entry.letter_keys(), strict=True))
    }
