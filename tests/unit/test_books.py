from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from contract.stamp import Ranges, Stamp
from worker.audit.auditor import Look
from worker.audit.books import Balance, Books, Letters, name_ids
from worker.audit.claims import Claims, merge
from worker.audit.findings import Finding, Kind
from worker.audit.fingerprint import AT_ONCE, BUCKETS, Fingerprint, within
from worker.audit.report import to_lines
from worker.audit.verdict import LATE_LOOKS, Conclusion, Sight, Verdict, Watch
from worker.commands import app
from worker.glance import Depth
from worker.ledger import pack

PUBLISHER = UUID(int=77)


def ids(*numbers: int) -> bytes:
    return pack(UUID(int=number) for number in numbers)


def row(
    identity: Mapping[str, Any],
    stored: Iterable[int] = (),
    duplicates: int = 0,
    parked: Iterable[int] = (),
    **more: Any,
) -> dict[str, Any]:
    stored, parked = list(stored), list(parked)
    return {
        "_id": identity,
        "events": len(stored) + duplicates + len(parked),
        "stored": len(stored),
        "duplicates": duplicates,
        "rejected": len(parked),
        "ids": ids(*stored),
        "parked": ids(*parked),
        **more,
    }


def stamped(seq: int, stored: Iterable[int] = (), floor: int = 0, confirmed: int = 0, **more: Any) -> dict[str, Any]:
    return row({"publisher": PUBLISHER, "seq": seq}, stored, floor=floor, confirmed=confirmed, **more)


def balance_of(*rows: Mapping[str, Any], letters: Iterable[tuple[int, Stamp | None, bool]] = ()) -> Balance:
    books = Books()
    for one in rows:
        books.enter(one)
    for key, stamp, is_whole in letters:
        books.note_letter(UUID(int=key), stamp, is_whole=is_whole)
    return books.balance()


def names(balance: Balance) -> list[str]:
    return [str(one) for one in balance.findings]


# Claims.


def holes(seqs: Iterable[int], floor: int, void: Ranges = (), apart: Iterable[int] = ()) -> Ranges:
    claims = Claims()
    claims.tell(floor, 0, void)
    for seq in seqs:
        claims.settle(seq, 1)
    for seq in apart:
        claims.set_apart(seq, 1)
    return claims.account().holes


@pytest.mark.parametrize(
    ("seqs", "floor", "void", "apart", "expected"),
    [
        ((), 0, (), (), ()),
        ((1, 2, 3), 3, (), (), ()),
        ((1, 2, 3, 9), 3, (), (), ()),
        ((1, 3), 3, (), (), ((2, 2),)),
        ((3,), 3, (), (), ((1, 2),)),
        ((1,), 5, (), (), ((2, 5),)),
        ((9,), 5, (), (), ((1, 5),)),
        ((1, 5), 5, ((2, 3),), (4,), ()),
        ((1, 5), 5, ((2, 3),), (), ((4, 4),)),
        ((3, 1, 2), 3, (), (), ()),
        ((1, 2), 3, (), (2, 3), ()),
        ((1,), 2**63 - 1, (), (), ((2, 2**63 - 1),)),
        ((1,), 10, ((3, 4), (2, 6), (9, 12)), (), ((7, 8),)),
    ],
)
def test_a_hole_is_what_the_floor_covers_and_nobody_has_seen(
    seqs: tuple[int, ...], floor: int, void: Ranges, apart: tuple[int, ...], expected: Ranges
) -> None:
    assert holes(seqs, floor, void, apart) == expected


numbers = st.sets(st.integers(1, 60))


@given(st.lists(st.integers(1, 60), unique=True), st.integers(0, 60), numbers, numbers)
def test_holes_are_a_difference_of_sets(seqs: list[int], floor: int, void: set[int], apart: set[int]) -> None:
    found = holes(seqs, floor, tuple((one, one) for one in void), apart)
    assert {seq for first, last in found for seq in range(first, last + 1)} == {*range(1, floor + 1)} - {
        *seqs
    } - void - apart
    assert found == merge(found)


def test_each_event_of_a_publisher_is_counted_once() -> None:
    claims = Claims()
    for seq, events in [(1, 10), (2, 20), (3, 40), (6, 80)]:
        claims.settle(seq, events)
    claims.set_apart(2, 20)  # a copy of what was stored
    claims.set_apart(4, 1)
    claims.set_apart(4, 1)
    claims.set_apart(7, 5)
    claims.tell(3, 30, ((3, 3),))
    claims.tell(5, 31, ((5, 5),))
    account = claims.account()
    assert (account.settled, account.refused, account.unclaimed, account.apart) == (30, 40, 80, 1)
    assert (account.messages, account.open, account.holes) == (4, 0, ())
    assert claims.is_settled(2)
    assert not claims.is_settled(4)


# Fingerprints.


def print_of(*numbers: int) -> Fingerprint:
    fingerprint = Fingerprint()
    fingerprint.add(ids(*numbers))
    return fingerprint


@given(st.lists(st.integers(0, 2**128 - 1), max_size=20), st.integers(0, 2**128 - 1), st.randoms())
def test_a_fingerprint_tells_what_differs_and_not_the_order(numbers: list[int], other: int, random: Any) -> None:
    shuffled = random.sample(numbers, len(numbers))
    assert list(print_of(*numbers).differences(print_of(*shuffled))) == []
    [buckets] = print_of(*numbers, other).differences(print_of(*shuffled))
    assert buckets == {other % BUCKETS}
    assert UUID(int=other).bytes in set(within(ids(*numbers, other), buckets))
    assert print_of(*numbers, other).count == len(numbers) + 1


def test_an_id_twice_does_not_stand_for_another_of_its_bucket() -> None:
    assert [*print_of(5, 5).differences(print_of(5, 5 + BUCKETS))] == [{5}]


def test_very_many_differences_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AT_ONCE > BUCKETS
    monkeypatch.setattr("worker.audit.fingerprint.AT_ONCE", 3)
    assert [len(part) for part in print_of(*range(10)).differences(print_of())] == [3, 3, 3, 1]


def test_ids_are_named_by_what_is_wrong_with_them() -> None:
    listed = {ids(1): ["a"], ids(2): ["a", "b"], ids(3): ["c"]}
    found = list(name_ids(listed, {ids(2), ids(3), ids(4)}))
    assert [(one.kind, dict(one.facts)["id"]) for one in found] == [
        (Kind.LOST, str(UUID(int=1))),
        (Kind.REPEATED, str(UUID(int=2))),
    ]


# The balance.


def test_both_sides_have_the_same_total() -> None:
    balance = balance_of(
        stamped(1, [1, 2], duplicates=1, parked=[100]),
        stamped(2, [3]),
        stamped(4, [4], floor=2, confirmed=4, void=[[2, 2]]),
        row({"batch": UUID(int=5)}, [5, 6], duplicates=3),
        row({"replay": UUID(int=100)}, [7]),
    )
    assert balance.findings == ()
    came = balance.came
    assert (came.confirmed, came.refused, came.unclaimed, came.direct, came.replayed) == (4, 1, 1, 5, 1)
    assert came.total == balance.became.total == 12
    assert balance.letters == Letters(rejected=1, replayed=1, purged=0, missing=0, whole=0, copies=0, depth=0)


def test_a_lost_message_is_named_by_its_publisher_and_number() -> None:
    balance = balance_of(stamped(1, [1]), stamped(3, floor=2, confirmed=6))
    assert names(balance) == [f"{PUBLISHER}:2 was confirmed by the broker, and neither stored nor dead-lettered"]
    assert balance.became.open == 5


@pytest.mark.parametrize("confirmed", [1, 3])
def test_the_publishers_own_sum_is_a_check_of_its_own(confirmed: int) -> None:
    balance = balance_of(stamped(1, [1, 2]), stamped(2, floor=1, confirmed=confirmed))
    assert names(balance) == [
        f"publisher {PUBLISHER} had {confirmed} events confirmed up to message 1, and 2 were found"
    ]
    assert balance.became.open == confirmed - 2


def test_publishers_do_not_make_up_for_each_other() -> None:
    one, two = ({"publisher": UUID(int=number), "seq": 1} for number in (1, 2))
    balance = balance_of(
        row(one, [1, 2], floor=1, confirmed=1), row(two, [3], floor=1, confirmed=2), row({"batch": UUID(int=9)})
    )
    assert [one.kind for one in balance.findings] == [Kind.SHORT, Kind.SHORT]
    assert balance.became.open == 0


def test_a_whole_dead_letter_speaks_for_itself_and_for_others() -> None:
    letter = (5, Stamp(PUBLISHER, 3, 7, floor=2, confirmed=2), True)
    assert names(balance_of(stamped(1, [1]), letters=[letter])) == [
        f"{PUBLISHER}:2 was confirmed by the broker, and neither stored nor dead-lettered"
    ]
    later = stamped(4, floor=3, confirmed=9)
    balance = balance_of(stamped(1, [1]), stamped(2, [2]), later, letters=[letter, letter])
    assert balance.findings == ()
    assert balance.became.apart == 7
    assert (balance.letters.whole, balance.letters.copies, balance.letters.depth) == (1, 1, 2)


def test_a_purged_whole_message_is_accounted_for() -> None:
    purged = {"_id": {"purged": UUID(int=5)}, "publisher": PUBLISHER, "seq": 2, "events": 4, "floor": 1, "confirmed": 1}
    balance = balance_of(stamped(1, [1]), stamped(3, floor=2, confirmed=5), {**purged, "void": [[7, 7]]})
    assert balance.findings == ()
    assert balance.became.apart == 4


@pytest.mark.parametrize(
    ("rows", "letters", "expected"),
    [
        ([], [], Letters(2, 0, 0, 2, 0, 0, 0)),
        ([], [1, 2], Letters(2, 0, 0, 0, 0, 0, 2)),
        ([], [1, 2, 2, 9], Letters(2, 0, 0, 0, 0, 2, 4)),
        ([row({"replay": UUID(int=1)})], [2], Letters(2, 1, 0, 0, 0, 0, 1)),
        ([row({"replay": UUID(int=1)})], [1, 2], Letters(2, 1, 0, 0, 0, 1, 2)),
        ([{"_id": {"purged": UUID(int=1)}}, row({"replay": UUID(int=1)})], [2], Letters(2, 0, 1, 0, 0, 0, 1)),
        ([{"_id": {"purged": UUID(int=9)}}], [1, 2, 9], Letters(2, 0, 0, 0, 0, 1, 3)),
    ],
)
def test_dead_letters_are_there_or_were_settled(
    rows: list[dict[str, Any]], letters: list[int], expected: Letters
) -> None:
    balance = balance_of(
        row({"batch": UUID(int=5)}, parked=[1, 2]), *rows, letters=[(key, None, False) for key in letters]
    )
    assert balance.letters == expected
    assert len(balance.findings) == expected.missing
    assert expected.rejected - expected.replayed - expected.purged - expected.missing == (
        expected.depth - expected.whole - expected.copies
    )


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_letter_that_was_replayed_and_came_back_is_the_same_one(is_stored: bool) -> None:  # noqa: FBT001
    parked = row({"batch": UUID(int=5)}, parked=[1])
    replays = [row({"replay": UUID(int=1)})] if is_stored else []
    balance = balance_of(parked, *replays, letters=[(1, None, True)])
    assert balance.findings == ()
    assert balance.letters == Letters(1, is_stored, 0, 0, 0, is_stored, 1)


def test_a_missing_letter_is_named() -> None:
    assert names(balance_of(row({"batch": UUID(int=5)}, parked=[1]))) == [
        f"dead letter {UUID(int=1)} of batch {UUID(int=5)} is gone, and was neither replayed nor purged"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"events": 3},
        {"stored": 3},
        {"stored": 3, "events": 3},
        {"rejected": 1, "events": 3},
        {"ids": b"short"},
        {"ids": 16},
        {"ids": None},
        {"events": "two"},
        {"events": -1},
        {"void": 7},
        {"void": [[1]]},
        {"floor": None},
        {"_id": {"publisher": "me", "seq": 1}},
        {"_id": {"publisher": PUBLISHER, "seq": "1"}},
        {"_id": {"publisher": PUBLISHER}},
        {"_id": {"purged": 5}},
        {"_id": {"other": PUBLISHER}},
        {"_id": 7},
    ],
)
def test_a_row_that_contradicts_itself_is_named(change: dict[str, Any]) -> None:
    found = balance_of({**stamped(1, [1, 2]), **change}).findings
    assert Kind.ROW in [one.kind for one in found]
    assert all(str(one) for one in found)


def test_uuids_may_be_bytes() -> None:
    bare = stamped(1, [1], floor=1, confirmed=1, parked=[3])
    bare["_id"] = {"publisher": PUBLISHER.bytes, "seq": 1}
    replay = row({"replay": UUID(int=3).bytes})
    balance = balance_of(bare, replay)
    assert list(balance.publishers) == [str(PUBLISHER)]
    assert balance.letters.replayed == 1


# Coming to a conclusion.

HOLE = Finding.of(Kind.HOLE, publisher=PUBLISHER, seq="3")
OTHER_HOLE = Finding.of(Kind.HOLE, publisher=PUBLISHER, seq="4")
LOST = Finding.of(Kind.LOST, id=UUID(int=1), row="a")
NAMES = {"project": "p", "customer": "c", "metric": "m", "hour": "h"}


def total(found: int) -> Finding:
    figures = {"expected": 1, "expected_count": 1, "found": found, "found_count": 1}
    return Finding.of(Kind.TOTAL, figures=figures, **NAMES)


def conclude(wait: float, *looks: tuple[float, list[Finding], int], consumers: int = 1) -> list[Verdict | None]:
    watch = Watch(wait)
    found = [watch.note(Sight(began, tuple(findings), ready, consumers)) for began, findings, ready in looks]
    return [None if one is None else one.verdict for one in found]


OVER, BAD, OPEN = Verdict.BALANCED, Verdict.UNBALANCED, Verdict.UNDER_WAY


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, [], 0)], [OVER]),
        ([(0, [], 3), (5, [], 0)], [None, OVER]),
        ([(0, [], 3), (10, [], 3)], [None, OPEN]),
        ([(0, [HOLE], 0), (5, [], 0)], [None, OVER]),
        ([(0, [HOLE], 0), (5, [HOLE], 0), (10, [HOLE], 0)], [None, None, BAD]),
        # another one each time: under way
        ([(0, [HOLE], 0), (10, [OTHER_HOLE], 0)], [None, OPEN]),
        # it comes and goes
        ([(0, [HOLE], 0), (5, [OTHER_HOLE], 0), (10, [HOLE], 0)], [None, None, OPEN]),
        # it may have waited in the queue till a moment ago
        ([(0, [HOLE], 9), (9, [HOLE], 0), (10, [HOLE], 0)], [None, None, OPEN]),
        ([(0, [HOLE], 0), (5, [HOLE], 1), (10, [HOLE], 0)], [None, None, OPEN]),
        ([(0, [HOLE], 0), (10, [HOLE], 1)], [None, OPEN]),
        # the database contradicts itself: no need to wait, but for another look
        ([(0, [LOST], 7), (1, [LOST], 7)], [None, BAD]),
        ([(0, [LOST], 0), (1, [], 0)], [None, OVER]),
        ([(0, [total(5)], 0), (1, [total(6)], 0)], [None, BAD]),
    ],
)
def test_what_lasts_is_wrong(looks: list[tuple[float, list[Finding], int]], expected: list[Verdict | None]) -> None:
    assert conclude(10, *looks) == expected


def test_without_a_wait_only_what_no_worker_can_hold_is_wrong() -> None:
    looks = (0, [HOLE], 0), (1, [HOLE], 0)
    assert conclude(0, *looks, consumers=0) == [None, BAD]
    assert conclude(0, *looks[:1], consumers=1) == [OPEN]
    assert conclude(0, (0, [HOLE], 2), consumers=0) == [OPEN]


def test_what_is_something_else_each_time_ends_too() -> None:
    changing = [(float(n), [Finding.of(Kind.LOST, id=n, row="a")], 0) for n in range(LATE_LOOKS + 1)]
    assert conclude(0, *changing) == [None] * LATE_LOOKS + [BAD]


def test_findings_are_told_apart_by_what_is_sure() -> None:
    watch = Watch(10)
    watch.note(Sight(0, (LOST, HOLE), 0, 1))
    assert watch.is_alarmed
    assert watch.note(Sight(1, (LOST, HOLE), 0, 1)) == Conclusion(BAD, (LOST,), (HOLE,))


def test_a_bug_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.tool.load", lambda _: 1 // 0)
    assert CliRunner().invoke(app, ["audit"]).exit_code == 70


def test_the_table_says_what_is_what() -> None:
    balance = balance_of(stamped(1, [1]), stamped(3, [2], floor=2, confirmed=1_234_567))
    look = Look(balance, 2, 2, balance.findings, Depth(0, 1))
    text = "\n".join(to_lines(look, Conclusion(OPEN, pending=balance.findings), verbose=True))
    assert "confirmed by the broker        1,234,567" in text
    assert "under way or missing           1,234,566" in text
    assert f"perhaps still under way: {PUBLISHER}:2 was" in text
    assert text.splitlines()[-1].startswith("Not decided")
