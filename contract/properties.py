"""A message's AMQP properties, read as far as they can be, so that no message can break the connection it comes by.

The driver takes a property that it cannot decode for a broken frame and drops the connection; the broker delivers
the message again, for ever, and nothing behind it is ever reached.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from pamqp import decode, encode
from pamqp.commands import Basic
from pamqp.common import FieldArray, FieldTable, FieldValue
from pamqp.header import ContentHeader

DEPTH: Final = 32
"""Levels of tables and arrays that are read of headers which the library cannot read whole."""

NAMED: Final = 3
"""Of all that cannot be read, so many are named."""

PATH: Final = 300
"""Characters of the way to a nested header that are told."""

# Bytes after the octet that tells the type: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
_SIZES: Final = {
    **dict.fromkeys([b"V", b"\x00"], 0),
    **dict.fromkeys([b"t", b"b", b"B"], 1),
    **dict.fromkeys([b"s", b"u"], 2),
    **dict.fromkeys([b"I", b"i", b"f"], 4),
    b"D": 5,
    **dict.fromkeys([b"l", b"L", b"d", b"T"], 8),
}
_COUNTED: Final = frozenset({b"S", b"x", b"A", b"F"})
_FIXED: Final = struct.Struct(">HHQ")
"""What a content header begins with: class, weight, size of the body."""

_LENIENT: Final = "lenient shortstr"
_read_whole: Final = ContentHeader.unmarshal


class SalvagedProperties(Basic.Properties):
    """What could be read of properties that could not be read whole."""

    # A type of its own, for no producer can send that; an attribute or a header might be sent.
    unreadable = ""


def install() -> None:
    """Have the AMQP library of this process read every message; any number of times."""
    setattr(ContentHeader, "unmarshal", _unmarshal)  # noqa: B010 - not a method that a type checker would let us assign
    decode.METHODS[_LENIENT] = _lenient_text
    encode.METHODS[_LENIENT] = encode.short_string
    for method in (Basic.Deliver, Basic.GetOk, Basic.Return):
        method._exchange = method._routing_key = _LENIENT  # noqa: SLF001 - by these the library chooses how to read


def unreadable(properties: Basic.Properties) -> str | None:
    """What of a message's properties could not be read, as a sentence; None when all of them could."""
    return properties.unreadable if isinstance(properties, SalvagedProperties) else None


def _unmarshal(header: ContentHeader, data: bytes) -> None:
    """Read a content header; raises only when it is too short to tell the size of the body."""
    try:
        _read_whole(header, data)
    except Exception as exc:  # noqa: BLE001 - decoders raise what they happen to: OverflowError, RecursionError...
        header.class_id, header.weight, header.body_size = _FIXED.unpack_from(data)
        header.properties = _salvage(data[_FIXED.size :], exc)


def _lenient_text(data: bytes) -> tuple[int, str]:
    """Read the name of an exchange or a routing key, where bytes that are not UTF-8 have no meaning to lose."""
    end = 1 + decode.octet(data)[1]
    return end, data[1:end].decode(errors="backslashreplace")


def _salvage(data: bytes, cause: Exception) -> SalvagedProperties:
    properties, failures = SalvagedProperties(), _Failures()
    with failures.noted("properties"):
        _read_properties(properties, _Rest(data), failures)
    properties.unreadable = f"AMQP properties that cannot be read: {failures or cause}"
    return properties


def _read_properties(properties: Basic.Properties, rest: "_Rest", failures: "_Failures") -> None:
    flags = int.from_bytes(rest.take(2), "big")
    if flags & 1:
        raise ValueError("there are more flags than properties")
    for name in properties.attributes():
        if flags & properties.flags[name]:
            kind = properties.amqp_type(name)
            raw = rest.property(kind)
            with failures.noted(name):
                value = _table(raw, name, failures) if kind == "table" else decode.by_type(raw, kind)[1]
                setattr(properties, name, value)


def _table(raw: bytes, where: str, failures: "_Failures", depth: int = 1) -> FieldTable:
    table: FieldTable = {}
    rest = _Rest(raw[4:])
    with failures.noted(where):
        while rest:
            key, value = rest.counted(1)[1:], rest.value()
            here = _within(where, key.decode(errors="backslashreplace"))
            with failures.noted(here):
                table[key.decode()] = _value(value, here, failures, depth)
    return table


def _array(raw: bytes, where: str, failures: "_Failures", depth: int) -> FieldArray:
    array: FieldArray = []
    rest, index = _Rest(raw[4:]), count()
    with failures.noted(where):
        while rest:
            value, here = rest.value(), _within(where, next(index))
            with failures.noted(here):
                array.append(_value(value, here, failures, depth))
    return array


def _value(raw: bytes, where: str, failures: "_Failures", depth: int) -> FieldValue:
    kind = raw[:1]
    if kind not in {b"A", b"F"}:
        return decode.embedded_value(raw)[1]
    if depth >= DEPTH:
        raise ValueError(f"more than {DEPTH} levels deep")
    nested = _table if kind == b"F" else _array
    return nested(raw[1:], where, failures, depth + 1)


def _within(where: str, key: str | int) -> str:
    return f"{where[:PATH]}[{key!r}]"


class _Rest:
    """Bytes that are taken from the front; raises ValueError when they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("the bytes end too early")
        self._at += size
        return taken

    def counted(self, width: int) -> bytes:
        """A length of `width` bytes with as much as it announces."""
        length = self.take(width)
        return length + self.take(int.from_bytes(length, "big"))

    def property(self, kind: str) -> bytes:
        match kind:
            case "shortstr":
                return self.counted(1)
            case "table":
                return self.counted(4)
            case "timestamp":
                return self.take(8)
            case _:
                return self.take(1)

    def value(self) -> bytes:
        """A value of a table or array with its type."""
        kind = self.take(1)
        if kind in _COUNTED:
            return kind + self.counted(4)
        if kind not in _SIZES:
            raise ValueError(f"the type {kind!r} is unknown")
        return kind + self.take(_SIZES[kind])


class _Failures:
    """What could not be read, where and why: the first few, for there may be a hundred thousand."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._more = 0

    def __str__(self) -> str:
        return "; ".join([*self._named, *([f"{self._more} more"] if self._more else [])])

    def __bool__(self) -> bool:
        return bool(self._named)

    @contextmanager
    def noted(self, where: str) -> Iterator[None]:
        """Note what is raised in the block, and go on behind it."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - as above: of the library's decoders anything may come
            if len(self._named) < NAMED:
                self._named.append(f"{where}: {exc}")
            else:
                self._more += 1
