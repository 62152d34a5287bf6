from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128, Int64, ObjectId
from typer.testing import CliRunner

from contract.event import Reason, Source, encode_json, event_id
from worker.commands import app
from worker.dead_letters.letter import DeadLetter
from worker.glance import Depth
from worker.operate.lookup import Found, State, holds
from worker.operate.lookup_view import to_lines, to_plain

ONE = UUID(int=0x0102030405060708090A0B0C0D0E0F10)
EMPTY = Depth(0, 1)


def letter(body: bytes) -> DeadLetter:
    return DeadLetter(UUID(int=1), Reason.INVALID, "wrong", Source.QUEUE, None, body, {}, None)


@pytest.mark.parametrize(
    ("document", "letters", "state"),
    [
        ({"_id": ONE}, (), State.STORED),
        ({"_id": ONE}, (letter(b""),), State.CONTRADICTED),
        (None, (letter(b""),), State.DEAD_LETTERED),
        (None, (), State.UNKNOWN),
    ],
)
def test_where_it_was_found_is_what_became_of_it(
    document: dict[str, Any] | None, letters: tuple[DeadLetter, ...], state: State
) -> None:
    found = Found(ONE, document, letters, EMPTY, None)
    assert found.state is state
    assert next(to_lines(found)) == state.value


def test_what_may_be_in_the_queue_is_said() -> None:
    said = list(to_lines(Found(ONE, None, (), Depth(1200, 1), None)))
    assert said[1].startswith("1,200 messages are still in the queue")


@pytest.mark.parametrize(
    "packed",
    [ONE.bytes, bytes(16) + ONE.bytes, bytes(8) + ONE.bytes + bytes(8) + ONE.bytes],
    ids=["only", "second", "after a semblance"],
)
def test_an_id_is_found_wherever_one_begins(packed: bytes) -> None:
    assert holds(packed, ONE.bytes)


@pytest.mark.parametrize("packed", [b"", bytes(8) + ONE.bytes + bytes(8)], ids=["none", "between two"])
def test_bytes_of_two_ids_are_no_id(packed: bytes) -> None:
    assert not holds(packed, ONE.bytes)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", set()),
        (b'{"id": 7, "projectId": [], "idempotencyKey": null}', set()),
        (b'{"id": "nonsense"}', set()),
        (encode_json({"id": str(ONE)}), {ONE}),
        (encode_json({"projectId": "p", "idempotencyKey": "k"}), {event_id("p", "k")}),
        (encode_json({"id": str(ONE), "projectId": "p", "idempotencyKey": "k"}), {ONE, event_id("p", "k")}),
        (encode_json([7, {"id": str(ONE)}, {"projectId": "p", "idempotencyKey": "k"}]), {ONE, event_id("p", "k")}),
    ],
    ids=["nothing", "wrong types", "no id", "an id", "a key", "both", "several"],
)
def test_a_letter_names_its_events_by_id_and_by_key(body: bytes, expected: set[UUID]) -> None:
    assert letter(body).event_ids == expected


def test_a_document_is_spelt_with_every_digit() -> None:
    document = {
        "_id": ONE,
        "projectId": ObjectId("507f1f77bcf86cd799439011"),
        "quantity": Decimal128("1E+3"),
        "timestamp": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "properties": {"big": Int64(2**62), "exact": Decimal128("0.10"), "free": True, "none": None, "list": [1.5]},
        "strange": b"\x00",
    }
    assert to_plain(document) == {
        "_id": str(ONE),
        "projectId": "507f1f77bcf86cd799439011",
        "quantity": "1000",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "properties": {"big": 2**62, "exact": "0.10", "free": True, "none": None, "list": [1.5]},
        "strange": "b'\\x00'",
    }
    encode_json(to_plain(document))


@pytest.mark.parametrize("options", ["", "--project p", "--key k", f"{ONE} --project p --key k", f"{ONE} --key k"])
def test_an_event_is_named_in_one_way(options: str) -> None:
    ended = CliRunner().invoke(app, ["find", *options.split()])
    assert ended.exit_code == 2
    assert "give an event's id, or --project and --key" in ended.stderr
