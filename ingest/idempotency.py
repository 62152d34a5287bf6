"""The Idempotency-Key header."""

import re
from collections.abc import Sequence
from typing import Final

from ingest.record import InvalidRecord

HEADER: Final = "Idempotency-Key"
LONGEST: Final = 255
LONGEST_FOR_BATCH: Final = 250
"""A batch appends the index of each record."""

_BARE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
# A string of RFC 9651, section 3.3.3: printable ASCII, with quotes and backslashes escaped.
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_ESCAPED: Final = re.compile(r'\\(["\\])')


def parse_header(values: Sequence[str], *, longest: int = LONGEST) -> str | None:
    """Return the key of a request's Idempotency-Key headers, bare or as a quoted string; None without one.

    Raises InvalidRecord for two of them, for one that is empty, too long or not printable ASCII.
    """
    if not values:
        return None
    if len(values) > 1:
        raise _invalid("must be given once")
    key = _unquote(values[0].strip(" \t"))
    if key is None or not 1 <= len(key) <= longest:
        raise _invalid(f"must be 1 to {longest} printable ASCII characters, bare or as a quoted string")
    return key


def agree(in_body: str | None, in_header: str | None) -> str | None:
    """The one key of a record; raises InvalidRecord when body and header name two."""
    if in_body is not None and in_header is not None and in_body != in_header:
        raise InvalidRecord(
            {"idempotencyKey": f"must be the same as in the header {HEADER}, or stand in one place only"}
        )
    return in_header if in_body is None else in_body


def _unquote(value: str) -> str | None:
    if quoted := _QUOTED.fullmatch(value):
        return _ESCAPED.sub(r"\1", quoted[1])
    if value.startswith('"') or not _BARE.fullmatch(value):
        return None
    return value


def _invalid(sentence: str) -> InvalidRecord:
    return InvalidRecord({HEADER: sentence})
