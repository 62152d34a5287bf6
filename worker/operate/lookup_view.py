"""What is known of one event, for a person or a program."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import Decimal128

from contract.event import encode_json
from contract.fields import format_timestamp
from runtime.plain import plain
from worker.dead_letters.view import HEADING, to_item, to_line
from worker.operate.lookup import Found, State


def to_document(found: Found) -> dict[str, Any]:
    """Everything, as a JSON object."""
    document = {
        "id": str(found.id),
        "state": found.state.value,
        "event": found.document and to_plain(found.document),
        "deadLetters": [to_item(letter) for letter in found.letters],
        "queue": {"ready": found.queue.ready, "consumers": found.queue.consumers},
    }
    if found.entered is not None:
        document["ledger"] = [{"message": one.name, "at": format_timestamp(one.at)} for one in found.entered]
    return document


def to_plain(value: Any) -> Any:
    """Return what stands in the database as JSON has it: exact decimals, times and ids are text."""
    match value:
        case Mapping():
            return {name: to_plain(one) for name, one in value.items()}
        case list():
            return [to_plain(one) for one in value]
        case bool() | float() | str() | None:
            return value
        case int():
            return int(value)
        case _:
            return _spell(value)


def _spell(value: Any) -> str:
    match value:
        case datetime():
            return format_timestamp(value)
        case Decimal128():
            return format(value.to_decimal(), "f")
        case _:
            return str(value)


def to_lines(found: Found) -> Iterator[str]:
    """Everything, for a person to read."""
    yield found.state.value
    for name, value in to_plain(found.document or {}).items():
        yield _line(name, value if isinstance(value, str) else encode_json(value).decode())
    for one in found.entered or ():
        yield _line("ledger", f"{one.name} at {format_timestamp(one.at)}")
    if found.letters:
        yield ""
        yield HEADING
        yield from map(to_line, found.letters)
    if found.state is State.UNKNOWN:
        yield _elsewhere(found.queue.ready)


def _line(name: str, value: str) -> str:
    return plain(f"  {name + ':':<16} {value}")


def _elsewhere(ready: int) -> str:
    if not ready:
        return "No message is in the queue; what workers hold at this moment cannot be seen."
    messages = "1 message is" if ready == 1 else f"{ready:,} messages are"
    return f"{messages} still in the queue, and the event may be in one: look again when the queue is empty."
