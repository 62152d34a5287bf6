"""Messages that lie in somebody's queue, or in somebody's producer, and must be read for ever.

`golden/<name>.message.json` is a body, byte for byte; `golden/<name>.events.json` is what it says. Add files; never
change one.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.event import Source, UsageEvent, decode
from contract.fields import format_timestamp

NOW = datetime(2026, 2, 1, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix(".message.json") for path in GOLDEN.glob("*.message.json"))


def message(name: str) -> bytes:
    return (GOLDEN / f"{name}.message.json").read_bytes()


def readable(event: UsageEvent) -> dict[str, Any]:
    """An event as the files spell it: with digits, and with the type of each property."""
    given = {
        "id": str(event.id),
        "projectId": event.project_id,
        "email": event.email,
        "metric": event.metric,
        "quantity": format(event.quantity, "f"),
        "receivedAt": None if event.received_at == NOW else format_timestamp(event.received_at),
        "timestamp": event.timestamp and format_timestamp(event.timestamp),
        "idempotencyKey": event.idempotency_key,
        "properties": None
        if event.properties is None
        else {name: f"{type(value).__name__} {value}" for name, value in event.properties.items()},
    }
    return {name: value for name, value in given.items() if value is not None}


def test_there_are_golden_messages_each_with_its_events() -> None:
    assert NAMES
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{name}.{kind}.json" for name in NAMES for kind in ("message", "events")
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", Source)
def test_a_golden_message_is_read_as_it_always_was(name: str, source: Source) -> None:
    expected = json.loads((GOLDEN / f"{name}.events.json").read_text("utf-8"))
    decoded = decode(message(name), source=source, now=NOW)
    assert decoded.rejected == []
    assert [readable(event) for event in decoded.events] == expected
    assert {event.source for event in decoded.events} <= {source}


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_message_keeps_its_content_when_it_is_written_again(name: str) -> None:
    events = decode(message(name), source=Source.QUEUE, now=NOW).events
    again = [decode(event.to_wire(), source=Source.QUEUE, now=NOW).events[0] for event in events]
    assert again == events


def test_what_ingest_publishes_today_is_byte_for_byte_what_is_golden() -> None:
    events = decode(message("packed-by-ingest"), source=Source.HTTP, now=NOW).events
    assert b"[" + b",".join(event.to_wire() for event in events) + b"]" == message("packed-by-ingest")
