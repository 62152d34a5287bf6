"""What the MongoDB driver raises, as one of ours for each thing that the caller can do about it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from worker.documents import DocumentRefused

_DUPLICATE_KEY: Final = 11000
_WRITE_CONFLICT: Final = 112
_TOO_LARGE_FOR_CACHE: Final = 388
_CACHE_FULL: Final = "Cache full"
"""What a write conflict says that is none."""
_REFUSED_DOCUMENT: Final = frozenset({2, 15, 53, 121})
"""BadValue, Overflow, InvalidIdField, DocumentValidationFailure: the document will never do. All else may pass."""
_REFUSED_US: Final = frozenset({8000, 13, 18, 85, 86})
"""AtlasError, Unauthorized, AuthenticationFailed, IndexOptionsConflict, IndexKeySpecsConflict."""


class DatabaseUnavailable(Exception):
    """MongoDB did not do what it was asked, and may do it later: the transaction can be repeated."""


class DatabaseMisconfigured(Exception):
    """MongoDB as it is set up cannot keep the worker's promises, or does not let the worker in."""

    def __init__(self, found: str, mend: str = "") -> None:
        """`mend` says what to do about it, where that is known."""
        super().__init__(f"{found}: {mend}" if mend else found)
        self.found = found
        self.mend = mend


class WriteConflict(Exception):
    """Another transaction holds, or has just written, a document of this one: repeat it, lookup included."""


class TransactionTooLarge(WriteConflict):
    """The server's cache has no room for it, now or ever."""


class KnownId(WriteConflict):
    """What should be inserted is there already: repeat the transaction, and look up first."""


class TotalsConflict(WriteConflict):
    """The other transaction is adding to the same totals."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as one of ours."""
    try:
        yield
    except BulkWriteError as exc:
        raise _of_write_errors(exc.details) from exc
    except OperationFailure as exc:
        if _is_too_large(exc.code, str(exc)):
            raise TransactionTooLarge(_short(exc)) from exc
        if exc.code == _WRITE_CONFLICT:
            raise WriteConflict(str(exc)) from exc
        raise DatabaseUnavailable(_short(exc)) from exc
    except PyMongoError as exc:
        raise DatabaseUnavailable(_short(exc)) from exc


@contextmanager
def counted_from(start: int) -> Iterator[None]:
    """Give the index of a refused document within all of them, not within its part."""
    try:
        with translated():
            yield
    except DocumentRefused as exc:
        raise DocumentRefused(start + exc.index, str(exc)) from exc


@contextmanager
def of_our_own() -> Iterator[None]:
    """For documents that are not a sender's: when the server refuses one, something is wrong with the server."""
    try:
        with translated():
            yield
    except DocumentRefused as exc:
        raise DatabaseUnavailable(f"a document of our own is refused: {exc}") from exc


def raise_write_errors(reply: Mapping[str, Any]) -> None:
    """Raise what the reply to a write command, which was executed, says of its documents."""
    if reply.get("writeErrors"):
        raise _of_write_errors(reply)


def _of_write_errors(details: Mapping[str, Any]) -> Exception:
    # Never the exception's own text: it carries every document of the batch.
    errors = details.get("writeErrors") or [{}]
    code, message = errors[0].get("code"), str(errors[0].get("errmsg"))
    if code == _DUPLICATE_KEY:
        return KnownId(f"error {code}")
    if _is_too_large(code, message):
        return TransactionTooLarge(f"error {code}")
    if code == _WRITE_CONFLICT:
        return WriteConflict(f"error {code}")
    if code in _REFUSED_DOCUMENT:
        return DocumentRefused(errors[0]["index"], message)
    return DatabaseUnavailable(f"error {code}")


def _is_too_large(code: int | None, message: str) -> bool:
    return code == _TOO_LARGE_FOR_CACHE or (code == _WRITE_CONFLICT and _CACHE_FULL in message)


def _short(exc: PyMongoError) -> str:
    # What the driver adds to its sentence, in one of these ways, fills lines and tells nobody anything.
    sentence = re.split(r", full error: | \(configured timeouts: |, Timeout: ", str(exc), maxsplit=1)[0]
    return f"{type(exc).__name__}: {sentence[:200]}"


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the server will go on refusing as DatabaseMisconfigured."""
    try:
        yield
    except OperationFailure as exc:
        if exc.code in _REFUSED_US:
            raise DatabaseMisconfigured(f"MongoDB refuses: {_short(exc)}") from exc
        raise
