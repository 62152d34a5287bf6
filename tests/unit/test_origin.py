from collections.abc import Iterator
from uuid import UUID

import pytest

from contract import origin
from contract.event import Reason, Rejected, Source
from contract.origin import MOST_CHARACTERS, UNKNOWN, Origin, ids, join, request_at, spell
from contract.stamp import Stamp
from worker.ledger import Entry, EntryId

STAMP = Stamp(UUID(int=7), 5, 4)


def header(*requests: tuple[str, int]) -> str:
    return join([spell(name, events) for name, events in requests])


def test_each_event_of_a_message_leads_to_the_request_that_brought_it() -> None:
    text = header(("a", 1), ("b-2.x_", 3), ("a", 1))
    assert text == "a,b-2.x_:3,a"
    assert [request_at(text, position) for position in range(6)] == ["a", "b-2.x_", "b-2.x_", "b-2.x_", "a", None]
    assert ids(text) == ["a", "b-2.x_", "a"]


def test_a_message_of_500_of_the_longest_ids_names_them_all() -> None:
    assert ids(header(*[("x" * 64, 1)] * 500)) == ["x" * 64] * 500


def test_of_more_than_fit_the_first_are_named_whole() -> None:
    text = header(*[(f"{number:064}", 2) for number in range(1000)])
    assert len(text) <= MOST_CHARACTERS
    assert ids(text) == [f"{number:064}" for number in range(len(ids(text)))]
    assert len(text) + len(f",{0:064}:2") > MOST_CHARACTERS
    assert request_at(text, 2 * len(ids(text))) is None


def test_a_header_is_read_once_for_all_events_of_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def reading(text: object) -> Iterator[tuple[str, int]]:
        read.append(text)
        return iter([("a", 5_000), ("b", 5_000)])

    monkeypatch.setattr(origin, "_read", reading)
    owners = [request_at("a:5000,b:5000", position) for position in (0, 4_999, 5_000, 9_999, 10_000)]
    assert owners == ["a", "a", "b", "b", None]
    assert read == ["a:5000,b:5000"]


@pytest.mark.parametrize(
    "text", [None, 5, b"a", "", "a,", ",a", "a b", "a:", "a:b", "a:1234567", "é", "x" * 65, "a\n", "a," * 40_000 + "a"]
)
def test_what_is_no_such_header_names_nobody(text: object) -> None:
    assert ids(text) == []
    assert request_at(text, 0) is None


def entry(events: int, rejected: int, *, stamp: Stamp | None = STAMP) -> Entry:
    event: object = None
    wrong = Rejected(b"?", Source.HTTP, Reason.INVALID, "email is required")
    return Entry(EntryId.new(), [event] * events, [wrong] * rejected, stamp, requests="a:2,b")  # type: ignore[list-item]


def test_where_an_event_came_from_is_known_when_all_or_none_were_rejected() -> None:
    for one in (entry(3, 0), entry(0, 3)):
        assert one.origin_of(1) == Origin(STAMP.name, "a")
        assert one.origin_of(2) == Origin(STAMP.name, "b")
    assert entry(2, 1).origin_of(0) == Origin(STAMP.name, None)
    assert entry(1, 0, stamp=None).origin_of(0) == Origin(None, "a")
    assert Rejected(b"?", Source.HTTP, Reason.INVALID, "").origin is UNKNOWN


def test_a_message_is_called_the_same_everywhere() -> None:
    assert str(EntryId.of_stamp(STAMP)) == STAMP.name == "00000000-0000-0000-0000-000000000007:5"
