"""Dead letters as a person, or a program, wants to see them."""

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from contract.event import NotJson, encode_json, parse_json
from contract.fields import format_timestamp
from contract.origin import REQUESTS
from runtime.plain import plain
from worker.dead_letters.letter import DeadLetter
from worker.dead_letters.selection import Tally
from worker.parking import DETAIL, KEY, MESSAGE, PARKED_AT, REASON, SOURCE

DETAIL_WIDTH: Final = 80
"""Characters of the detail in a table; `show` has all of it."""

_ROW: Final = "{:<36}  {:<24}  {:<14}  {:<20}  {}"
HEADING: Final = _ROW.format("KEY", "PARKED", "REASON", "PROJECT", "DETAIL")


def to_line(letter: DeadLetter) -> str:
    """One letter in the table under HEADING."""
    projects = ",".join(sorted(letter.project_ids)) or "-"
    detail = letter.detail if len(letter.detail) <= DETAIL_WIDTH else letter.detail[: DETAIL_WIDTH - 1] + "…"
    return plain(_ROW.format(str(letter.key), _moment(letter.parked_at) or "-", letter.reason, projects, detail))


def to_item(letter: DeadLetter) -> dict[str, Any]:
    """One letter as a JSON object, without its body."""
    stamp = letter.stamp
    return {
        "key": str(letter.key),
        "reason": letter.reason.value,
        "detail": letter.detail,
        "source": letter.source.value,
        "parkedAt": _moment(letter.parked_at),
        "projectIds": sorted(letter.project_ids),
        "size": len(letter.body),
        "whole": letter.is_whole,
        "message": letter.message,
        "requests": letter.requests,
        "stamp": stamp and {"publisher": str(stamp.publisher), "seq": stamp.seq, "events": stamp.events},
    }


def to_full_item(letter: DeadLetter) -> dict[str, Any]:
    """The same with its headers and its body: as text, or in base64 when it is none."""
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"bodyBase64": base64.b64encode(letter.body).decode()}
    return {**to_item(letter), "headers": dict(letter.headers), **body}


def to_page(letter: DeadLetter) -> Iterator[str]:
    """One letter for a person to read: all there is to know, and the body."""
    told = {KEY, REASON, DETAIL, SOURCE, PARKED_AT, MESSAGE, REQUESTS}
    headers = {f"header {name}": value for name, value in letter.headers.items() if name not in told}
    for name, value in {**to_item(letter), **headers}.items():
        yield plain(f"{name + ':':<12} {value if isinstance(value, str) else encode_json(value).decode()}")
    yield ""
    yield from map(plain, readable(letter.body).split("\n"))


def to_summary(tally: Tally) -> Iterator[str]:
    """How many letters, by reason and project, as a table."""
    yield f"{'LETTERS':>9}  {'REASON':<14}  PROJECT"
    for (reason, project), count in sorted(tally.taken.items()):
        yield plain(f"{count:>9,}  {reason:<14}  {project}")


def to_document(tally: Tally) -> dict[str, Any]:
    """The same as a JSON object."""
    groups = [
        {"reason": reason.value, "project": project, "letters": count}
        for (reason, project), count in sorted(tally.taken.items())
    ]
    return {"read": tally.read, "letters": tally.total, "groups": groups}


def readable(body: bytes) -> str:
    """JSON, indented; else as text, with what is none escaped."""
    text = body.decode(errors="backslashreplace")
    try:
        parse_json(body)
    except NotJson:
        return text
    return msgspec.json.format(text, indent=2)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)
