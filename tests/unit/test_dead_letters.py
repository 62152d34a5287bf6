import hashlib
import io
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid5

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contract.event import EVENT_NAMESPACE, Reason, Source
from contract.publisher import Refused
from contract.stamp import Stamp
from runtime.plain import plain
from worker.dead_letters.browsing import Browser, Held
from worker.dead_letters.clearing import clear, to_row
from worker.dead_letters.letter import DeadLetter
from worker.dead_letters.rounds import Round
from worker.dead_letters.selection import Selection, Tally
from worker.dead_letters.view import readable, to_document, to_full_item, to_line, to_page, to_summary
from worker.progress import Progress
from worker.tool import Stop

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = UUID(int=42)
PARKED = {
    "usage-key": str(KEY),
    "usage-reason": "CONFLICT",
    "usage-detail": "a sentence",
    "usage-source": "http",
    "usage-parked-at": "2026-01-31T13:00:00.000+01:00",
}
DEATH = {"reason": "delivery_limit", "exchange": "usage", "time": NOON, "queue": "usage.events"}
STAMP = Stamp(UUID(int=77), 5, 2, floor=4, confirmed=9, void=((2, 3),))


def read(body: bytes = b"{}", headers: dict[str, Any] | None = None) -> DeadLetter:
    """As it is read from a delivery with these headers."""
    properties = Basic.Properties(headers=headers)
    return DeadLetter.of(
        cast("DeliveredMessage", SimpleNamespace(body=body, header=SimpleNamespace(properties=properties)))
    )


# What is read.


def test_what_a_worker_has_parked_is_read_from_its_headers() -> None:
    letter = read(b"body", PARKED)
    assert (letter.key, letter.reason, letter.detail, letter.source) == (
        KEY,
        Reason.CONFLICT,
        "a sentence",
        Source.HTTP,
    )
    assert (letter.parked_at, letter.body, letter.stamp, letter.is_whole) == (NOON, b"body", None, False)


def test_a_message_that_was_delivered_too_often_tells_when_and_where_from() -> None:
    letter = read(headers={"x-death": [DEATH], **STAMP.to_headers()})
    assert (letter.reason, letter.source, letter.parked_at) == (Reason.DELIVERY_LIMIT, Source.HTTP, NOON)
    assert (letter.stamp, letter.is_whole) == (STAMP, True)
    assert read(headers={"x-death": [{**DEATH, "exchange": "usage.direct"}]}).source is Source.QUEUE


@pytest.mark.parametrize(
    "headers", [None, {}, {"x-death": "?"}, {"x-death": [7]}, {"x-death": [{"reason": "expired"}]}]
)
def test_a_message_without_a_known_death_found_no_queue(headers: dict[str, Any] | None) -> None:
    letter = read(headers=headers)
    assert (letter.reason, letter.source, letter.parked_at) == (Reason.UNROUTED, Source.QUEUE, None)
    assert letter.is_whole


@pytest.mark.parametrize("name", list(PARKED))
@pytest.mark.parametrize("value", [None, 7, "nonsense", b"\xff"])
def test_headers_that_no_worker_writes_make_a_stranger_of_a_letter(name: str, value: Any) -> None:
    letter = read(headers={**PARKED, name: value})
    assert letter.is_whole == (name != "usage-detail")
    assert (letter.key == KEY) == (not letter.is_whole)


def test_the_key_of_a_whole_message_is_its_number_or_else_its_body() -> None:
    assert read(b"1", STAMP.to_headers()).key == read(b"2", STAMP.to_headers()).key
    assert read(b"1", STAMP.to_headers()).key == uuid5(EVENT_NAMESPACE, f"{STAMP.publisher}:5")
    assert read(b"1").key == uuid5(EVENT_NAMESPACE, hashlib.sha256(b"1").hexdigest()) != read(b"2").key


def test_a_replayed_letter_that_the_broker_dead_letters_keeps_its_key() -> None:
    assert read(headers={"usage-replay": str(KEY), "x-death": [DEATH]}).key == KEY
    assert read(headers={"usage-replay": "nonsense"}).key == read().key


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"projectId": "p"}', {"p"}),
        (b'[{"projectId": "p"}, {"projectId": "q"}, {"projectId": "p"}]', {"p", "q"}),
        (b'{"projectId": "507F1F77BCF86CD799439011"}', {"507f1f77bcf86cd799439011"}),
        (b'[{"projectId": 7}, {"projectId": null}, {}, [], "projectId", 7]', set()),
        (b"null", set()),
        (b"", set()),
        (b'{"projectId": "p"', set()),
        (b'{"projectId": "p", "projectId": "q"}', set()),
        (b'{"projectId": "\xff"}', set()),
    ],
)
def test_the_projects_of_a_letter_are_read_from_its_body(body: bytes, expected: set[str]) -> None:
    assert read(body).project_ids == expected


# What is meant.


LETTER = read(b'[{"projectId": "p"}, {"projectId": "q"}]', PARKED)
LATER = NOON + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("selection", "is_taken"),
    [
        (Selection(), True),
        (Selection(projects=frozenset({"q", "r"})), True),
        (Selection(projects=frozenset({"r"})), False),
        (Selection(reasons=frozenset({Reason.CONFLICT, Reason.INVALID})), True),
        (Selection(reasons=frozenset({Reason.INVALID})), False),
        (Selection(keys=frozenset({KEY})), True),
        (Selection(keys=frozenset({UUID(int=1)})), False),
        (Selection(since=NOON), True),
        (Selection(since=LATER), False),
        (Selection(until=NOON), False),
        (Selection(until=LATER), True),
        (Selection(since=NOON, until=LATER, keys=frozenset({KEY}), projects=frozenset({"p"})), True),
        (Selection(since=NOON, keys=frozenset({KEY}), projects=frozenset({"r"})), False),
    ],
)
def test_a_letter_is_meant_when_it_meets_every_condition(selection: Selection, *, is_taken: bool) -> None:
    assert selection.takes(LETTER) is is_taken
    assert selection.is_all == (selection == Selection())


def test_a_letter_without_a_time_is_neither_since_nor_until_any() -> None:
    assert Selection().takes(read())
    assert not Selection(since=datetime(1970, 1, 1, tzinfo=UTC)).takes(read())
    assert not Selection(until=datetime(2199, 1, 1, tzinfo=UTC)).takes(read())


# What becomes of them.


class FakeBrowser:
    """Letters in windows, and what was done to them."""

    def __init__(self, *windows: Sequence[DeadLetter]) -> None:
        numbered = iter(range(1, 1000))
        self.windows = [[Held(next(numbered), letter) for letter in window] for window in windows]
        self.count = sum(map(len, windows))
        self.settled: list[int] = []
        self.unfinished = False

    async def next(self) -> list[Held]:
        return self.windows.pop(0) if self.windows else []

    async def settle(self, letters: Sequence[Held]) -> None:
        self.settled += [held.tag for held in letters]
        self.unfinished = True

    async def finish(self) -> None:
        self.unfinished = False


def a_round(
    browser: FakeBrowser, selection: Selection | None = None, *, most: int | None = None, goes: int = 99
) -> Round:
    """One that goes on so many times."""
    turns = iter([True] * goes)
    return Round(cast("Browser", browser), selection or Selection(), lambda *_: next(turns, False), most=most)


INVALID = replace(LETTER, reason=Reason.INVALID)


async def test_only_what_is_meant_and_was_cleared_is_settled() -> None:
    browser = FakeBrowser([LETTER, INVALID, LETTER], [INVALID, INVALID], [LETTER])
    seen: list[DeadLetter] = []

    async def act(letters: Sequence[DeadLetter]) -> list[None]:
        seen.extend(letters)
        return [None] * len(letters)

    only = Selection(reasons=frozenset({Reason.CONFLICT}))
    tally = await clear(cast("Browser", browser), a_round(browser, only), act)
    assert seen == [LETTER] * 3
    assert browser.settled == [1, 3, 6]
    assert not browser.unfinished
    assert (tally.read, tally.total) == (6, 3)


async def test_what_stands_against_one_letter_is_raised_when_the_others_are_settled() -> None:
    browser = FakeBrowser([LETTER, INVALID, LETTER], [LETTER])

    async def act(letters: Sequence[DeadLetter]) -> list[Refused | None]:
        return [Refused("no") if letter is INVALID else None for letter in letters]

    round_ = a_round(browser)
    with pytest.raises(Refused, match="no"):
        await clear(cast("Browser", browser), round_, act)
    assert browser.settled == [1, 3]
    assert not browser.unfinished
    assert (round_.tally.read, round_.tally.total) == (3, 2)


async def test_a_round_ends_where_it_is_told_to() -> None:
    windows = [[LETTER] * 3, [LETTER] * 3, [LETTER] * 3]
    assert (await a_round(FakeBrowser(*windows)).survey()).total == 9
    assert (await a_round(FakeBrowser(*windows), most=4).survey()).total == 4
    assert (await a_round(FakeBrowser(*windows), most=3, goes=1).survey()).total == 3
    assert (await a_round(FakeBrowser(*windows), goes=2).survey()).total == 6


async def test_a_round_ends_when_fewer_letters_come_than_were_counted() -> None:
    browser = FakeBrowser([LETTER])
    browser.count = 5
    assert (await a_round(browser).survey()).read == 1


def test_a_purged_letter_leaves_its_key_and_what_its_message_claimed() -> None:
    assert to_row(LETTER, NOON) == {"_id": {"purged": KEY}, "reason": "CONFLICT", "at": NOON}
    whole = read(headers=STAMP.to_headers())
    assert to_row(whole, NOON) == {
        "_id": {"purged": whole.key},
        "reason": "UNROUTED",
        "at": NOON,
        "publisher": STAMP.publisher,
        "seq": 5,
        "events": 2,
        "floor": 4,
        "confirmed": 9,
        "void": [[2, 3]],
    }


def test_a_signal_counts_as_heeded_only_when_somebody_stopped_for_it() -> None:
    stop = Stop()
    assert not stop.is_due()
    stop._number = signal.SIGTERM
    assert stop.exit_code == 0
    assert stop.is_due()
    assert stop.exit_code == 143


# What is shown.


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert plain("a\x1b[2J\n\x9b\u202e\u200bü€") == r"a\x1b[2J\n\x9b\u202e\u200bü€"
    hostile = replace(LETTER, detail="x\r\x1b]0;title\x07", body=b'{"projectId": "\xc2\x9b"}')
    for line in [to_line(hostile), *to_page(hostile)]:
        assert line.isprintable()


def test_a_long_detail_is_cut_in_the_table_only() -> None:
    letter = replace(LETTER, detail="x" * 500)
    assert to_line(letter).endswith("x" * 79 + "…")
    assert f"detail:      {'x' * 500}" in list(to_page(letter))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":{"b":1.10}}', '{\n  "a": {\n    "b": 1.10\n  }\n}'),
        ("Zähler".encode(), "Zähler"),
        (b"\x00\xff{", "\x00\\xff{"),
        (b"", ""),
        (b"[" * 500, "[" * 500),
    ],
)
def test_a_body_is_shown_as_json_or_as_the_text_it_is(body: bytes, expected: str) -> None:
    assert readable(body) == expected


def test_a_program_gets_a_body_that_is_no_text_in_base64() -> None:
    assert to_full_item(replace(LETTER, body=b"\xff"))["bodyBase64"] == "/w=="
    assert to_full_item(replace(LETTER, body=b"x"))["body"] == "x"


def test_a_tally_counts_by_reason_and_project() -> None:
    tally = Tally(read=5)
    for letter in (LETTER, INVALID, read(b'{"projectId": "p"}', PARKED), read(b"?", PARKED)):
        tally.note(letter)
    assert tally.by_reason() == {Reason.CONFLICT: 3, Reason.INVALID: 1}
    assert [line.split() for line in to_summary(tally)][1:] == [
        ["1", "CONFLICT", "-"],
        ["1", "CONFLICT", "p"],
        ["1", "CONFLICT", "several"],
        ["1", "INVALID", "several"],
    ]
    assert to_document(tally)["letters"] == 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (io.StringIO(), "600 of 1,200 letters read\n1,200 of 1,200 letters read\n"),
        (Terminal(), "\r600 of 1,200 letters read\x1b[K\r1,200 of 1,200 letters read\x1b[K\r\x1b[K"),
    ],
)
def test_progress_is_told_now_and_then(stream: io.StringIO, expected: str) -> None:
    now = [0.0]
    progress = Progress(stream, clock=lambda: now[0])
    for moment, done in [(0.1, 300), (5.1, 600), (5.2, 900), (10.2, 1200)]:
        now[0] = moment
        progress.note(done, 1200)
    progress.close()
    progress.close()
    assert stream.getvalue() == expected
