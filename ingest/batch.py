"""A batch of records: what a client sends at once, each judged by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.event import NotJson, UsageEvent, parse_json
from contract.explanation import EXPLAINED_FIELDS
from ingest.record import InvalidRecord, Receipt, Record

Entry = Record | NotJson | InvalidRecord
"""A record, or why what stands in its place is none."""


class BatchTooLarge(Exception):
    """The batch has more records than allowed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a batch: its events, and by index what is wrong with the others."""

    events: list[UsageEvent]
    errors: dict[int, NotJson | InvalidRecord]

    def as_refusal(self) -> InvalidRecord:
        """One refusal for all of it, which names each field by its place."""
        return InvalidRecord(
            {
                f"events[{index}]{suffix}": sentence
                for index, error in self.errors.items()
                for suffix, sentence in _details(error).items()
            }
        )


def parse_batch(body: bytes, *, ndjson: bool, most: int) -> list[Entry]:
    """Read `{"events": [record, ...]}`, or one record a line.

    Raises NotJson, InvalidRecord for what is no batch, or an empty one; BatchTooLarge.
    """
    items: Sequence[Any] = _split_lines(body) if ndjson else _parse_array(body)
    if not items:
        raise InvalidRecord({"events": "must hold at least one record"})
    # Before any of them is looked at: a small body can hold half a million of nothing.
    if len(items) > most:
        raise BatchTooLarge(f"a batch must not hold more than {most} records")
    read = _parse_entry if ndjson else _read_entry
    return [read(item) for item in items]


def parse_atomic(query: Mapping[str, str]) -> bool:
    """Whether one bad record shall sink the batch: `?atomic=true`. Raises InvalidRecord for any other question."""
    if unknown := query.keys() - {"atomic"}:
        raise InvalidRecord(dict.fromkeys(sorted(unknown), "is not a known parameter; a batch has only atomic"))
    if len(query) > 1 or query.get("atomic", "false") not in {"true", "false"}:
        raise InvalidRecord({"atomic": "must be true or false, once"})
    return query.get("atomic") == "true"


def judge(entries: Sequence[Entry], receipt: Receipt, *, key: str | None) -> Judged:
    """Accept each record; one without a key of its own gets `key:index`, so that a batch can be sent again whole."""
    judged = Judged([], {})
    for index, entry in enumerate(entries):
        if not isinstance(entry, Record):
            judged.errors[index] = entry
            continue
        own = entry.key or (None if key is None else f"{key}:{index}")
        try:
            judged.events.append(entry.accept(receipt, key=own))
        except InvalidRecord as exc:
            judged.errors[index] = exc
    return judged


def _split_lines(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\n") if line.strip()]


def _parse_entry(line: bytes) -> Entry:
    try:
        return Record.of(parse_json(line))
    except (NotJson, InvalidRecord) as exc:
        return exc


def _parse_array(body: bytes) -> list[Any]:
    content = parse_json(body)
    if not isinstance(content, dict):
        raise InvalidRecord({"body": "must be a JSON object with an array of records: events"})
    unknown = content.keys() - {"events"}
    if unknown or not isinstance(content.get("events"), list):
        wrong = dict.fromkeys(sorted(unknown)[:EXPLAINED_FIELDS], "is not a known field; a batch has only events")
        raise InvalidRecord(wrong or {"events": "is required: it must be an array of records"})
    events: list[Any] = content["events"]
    return events


def _read_entry(item: Any) -> Entry:
    try:
        return Record.of(item)
    except InvalidRecord as exc:
        return exc


def _details(error: NotJson | InvalidRecord) -> dict[str, str]:
    if isinstance(error, InvalidRecord):
        # What is no object has no field to name.
        return {"" if name == "body" else f".{name}": sentence for name, sentence in error.details.items()}
    return {"": f"must be JSON: {error}"}
