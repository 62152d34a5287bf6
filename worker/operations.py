"""How much goes into one command to MongoDB."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from bson.raw_bson import RawBSONDocument

T = TypeVar("T")

OPERATION_DOCUMENTS: Final = 5000
"""Documents in one command: a producer's largest message must not exceed the time that a single operation has."""

OPERATION_BYTES: Final = 16_000_000
"""Bytes of documents in one command; a server takes 48 million."""


def in_parts(items: Sequence[T]) -> Iterator[list[T]]:
    """Give as many at a time as one command takes."""
    for start in range(0, len(items), OPERATION_DOCUMENTS):
        yield list(items[start : start + OPERATION_DOCUMENTS])


def in_commands(documents: Sequence[RawBSONDocument]) -> Iterator[list[RawBSONDocument]]:
    """Give as many at a time as fit into one command by number and by size."""
    part: list[RawBSONDocument] = []
    size = 0
    for document in documents:
        if part and (len(part) == OPERATION_DOCUMENTS or size + len(document.raw) > OPERATION_BYTES):
            yield part
            part, size = [], 0
        part.append(document)
        size += len(document.raw)
    if part:
        yield part
