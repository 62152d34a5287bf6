from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.stamp import Ranges, Stamp, Stamper

PUBLISHER = UUID(int=77)

counts = st.integers(0, 2**63 - 1)


@st.composite
def ranges(draw: st.DrawFn) -> Ranges:
    bounds = sorted(draw(st.sets(st.integers(1, 10**6), max_size=20)))
    return tuple(zip(bounds[::2], bounds[1::2], strict=False))


stamps = st.builds(
    Stamp,
    publisher=st.uuids(),
    seq=st.integers(1, 2**63 - 1),
    events=counts,
    floor=counts,
    confirmed=counts,
    void=ranges(),
)


@given(stamps)
def test_a_stamp_survives_the_headers_of_its_message(stamp: Stamp) -> None:
    assert Stamp.from_headers(stamp.to_headers()) == stamp


def test_a_stamp_is_spelt_for_people_too() -> None:
    stamp = Stamp(PUBLISHER, seq=30, events=2, floor=25, confirmed=400, void=((3, 17), (20, 20)))
    assert stamp.to_headers() == {
        "usage-publisher": "00000000-0000-0000-0000-00000000004d",
        "usage-seq": 30,
        "usage-events": 2,
        "usage-floor": 25,
        "usage-confirmed": 400,
        "usage-void": "3-17,20",
    }
    assert "usage-void" not in Stamp(PUBLISHER, 1, 1).to_headers()


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage-publisher": "me"},
        {"usage-publisher": 7},
        {"usage-publisher": None},
        {"usage-seq": 0},
        {"usage-seq": -1},
        {"usage-seq": "1"},
        {"usage-seq": True},
        {"usage-seq": 2**63},
        {"usage-events": -1},
        {"usage-floor": None},
        {"usage-confirmed": 1.5},
        {"usage-void": ""},
        {"usage-void": "1-"},
        {"usage-void": "0"},
        {"usage-void": "5-3"},
        {"usage-void": "5,3"},
        {"usage-void": "1,,2"},
        {"usage-void": "١"},
        {"usage-void": "9999999999999999999"},
        {"usage-void": [1]},
    ],
)
def test_what_is_not_quite_a_stamp_is_none(wrong: dict[str, Any]) -> None:
    whole = Stamp(PUBLISHER, 1, 1).to_headers()
    assert Stamp.from_headers(whole) is not None
    assert Stamp.from_headers({**whole, **wrong}) is None


@pytest.mark.parametrize("missing", ["usage-publisher", "usage-seq", "usage-events", "usage-floor", "usage-confirmed"])
def test_half_a_stamp_is_none(missing: str) -> None:
    headers = Stamp(PUBLISHER, 1, 1).to_headers()
    del headers[missing]
    assert Stamp.from_headers(headers) is None
    assert Stamp.from_headers(None) is None
    assert Stamp.from_headers({}) is None


def test_messages_are_numbered_from_one_and_tell_what_was_decided_before_them() -> None:
    stamper = Stamper(PUBLISHER)
    first, second = stamper.stamp(10), stamper.stamp(20)
    assert (first.seq, first.floor, first.confirmed) == (1, 0, 0)
    assert (second.seq, second.floor, second.confirmed) == (2, 0, 0)
    # when the second is decided first, the floor waits for the first
    stamper.confirm(second)
    assert (stamper.stamp(1).floor, stamper.stamp(1).confirmed) == (0, 0)
    stamper.confirm(first)
    fifth = stamper.stamp(1)
    assert (fifth.seq, fifth.floor, fifth.confirmed) == (5, 2, 30)


def test_a_number_that_was_given_up_is_told_until_a_message_that_tells_it_is_confirmed() -> None:
    stamper = Stamper(PUBLISHER)
    first, second, third = stamper.stamp(1), stamper.stamp(1), stamper.stamp(1)
    for stamp in (first, second):
        stamper.give_up(stamp)
    stamper.confirm(third)
    carrier, late = stamper.stamp(1), stamper.stamp(1)
    assert carrier.void == late.void == ((1, 2),)
    assert (carrier.floor, carrier.confirmed) == (3, 1)
    stamper.confirm(carrier)
    assert stamper.stamp(1).void == ()


def test_a_range_that_grew_since_it_was_told_is_told_again() -> None:
    stamper = Stamper(PUBLISHER)
    stamper.give_up(stamper.stamp(1))
    carrier = stamper.stamp(1)
    assert carrier.void == ((1, 1),)
    other = stamper.stamp(1)
    stamper.give_up(other)
    stamper.confirm(carrier)
    assert stamper.stamp(1).void == ((3, 3),)


def test_a_mark_is_owed_for_what_became_of_events_and_not_for_marks() -> None:
    stamper = Stamper(PUBLISHER)

    def owes() -> bool:
        return stamper.owes_mark

    assert owes() is False
    first = stamper.stamp(1)
    assert owes() is False
    stamper.confirm(first)
    assert owes() is True
    mark = stamper.stamp(0)
    assert owes() is True  # it is not there yet
    stamper.confirm(mark)
    assert owes() is False
    stamper.give_up(stamper.stamp(0))
    assert owes() is False
    stamper.give_up(stamper.stamp(1))
    assert owes() is True


def test_a_stamp_stays_small_however_strange_the_outage() -> None:
    stamper = Stamper(PUBLISHER)
    sent = [stamper.stamp(1) for _ in range(10_000)]
    for stamp in sent:
        (stamper.confirm if stamp.seq % 2 else stamper.give_up)(stamp)
    carrier = stamper.stamp(1)
    assert len(carrier.void) <= 500
    # and the rest is told by the next ones, with nothing left out
    told = list(carrier.void)
    while carrier.floor < 10_000:
        stamper.confirm(carrier)
        carrier = stamper.stamp(0)
        assert len(carrier.void) <= 500
        told += carrier.void
    assert {seq for first, last in told for seq in range(first, last + 1)} >= set(range(2, 10_001, 2))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["confirm", "give up", "wait"])), max_size=40), st.randoms()
)
def test_floor_confirmed_and_void_say_what_happened(messages: list[tuple[int, str]], random: Any) -> None:
    stamper = Stamper(PUBLISHER)
    sent = [(stamper.stamp(events), fate) for events, fate in messages]
    fates = {stamp.seq: (stamp.events, fate) for stamp, fate in sent}
    random.shuffle(sent)
    for stamp, fate in sent:
        if fate == "confirm":
            stamper.confirm(stamp)
        elif fate == "give up":
            stamper.give_up(stamp)
    carrier = stamper.stamp(0)
    decided = [seq for seq, (_, fate) in fates.items() if fate != "wait"]
    assert carrier.floor == next((seq - 1 for seq in range(1, len(fates) + 2) if seq not in decided), 0)
    covered = [fates[seq] for seq in range(1, carrier.floor + 1)]
    assert carrier.confirmed == sum(events for events, fate in covered if fate == "confirm")
    void = {seq for first, last in carrier.void for seq in range(first, last + 1)}
    assert void == {seq for seq in range(1, carrier.floor + 1) if fates[seq][1] == "give up"}
