"""Messages whose AMQP properties no encoder makes, byte by byte."""

import struct
from typing import Final

from pamqp.commands import Basic

MICROSECONDS: Final = 1_772_000_000_000_000
NOT_UTF8: Final = b"\xff\xfe"


class RawProperties(Basic.Properties):
    """Properties that go out as the bytes they are given."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw

    def marshal(self) -> bytes:
        return self.raw


class RawText(str):
    """Text that goes out as bytes that are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        del encoding, errors
        return NOT_UTF8


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def counted(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def time(value: int) -> bytes:
    """A timestamp; negative ones in two's complement."""
    return struct.pack(">Q", value % 2**64)


def header(value: bytes, name: bytes = b"x") -> bytes:
    """An entry of a table: the value begins with its type."""
    return short(name) + value


def properties(**values: bytes) -> bytes:
    """Flags and the values, which must come in the order of the specification."""
    flags = sum(Basic.Properties.flags[name] for name in values)
    return struct.pack(">H", flags) + b"".join(values.values())


def headers(*entries: bytes) -> bytes:
    return properties(headers=counted(b"".join(entries)))


def nested(levels: int, *, kind: bytes) -> bytes:
    """A value in so many arrays (kind A) or tables (kind F)."""
    value = b"V"
    for _ in range(levels):
        value = kind + counted(value if kind == b"A" else header(value))
    return value


TEXT: Final = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "message_type", "app_id")

POISON: Final[dict[str, tuple[bytes, str]]] = {
    "a timestamp in µs": (properties(timestamp=time(MICROSECONDS)), "timestamp: "),
    "a timestamp in ns": (properties(timestamp=time(MICROSECONDS * 1000)), "timestamp: "),
    "a negative timestamp": (properties(timestamp=time(-100)), "timestamp: "),
    "the largest timestamp": (properties(timestamp=time(2**63 - 1)), "timestamp: "),
    "a header in µs": (headers(header(b"T" + time(MICROSECONDS))), "headers['x']: "),
    "a header in ns": (headers(header(b"T" + time(MICROSECONDS * 1000))), "headers['x']: "),
    "a negative header": (headers(header(b"T" + time(-1))), "headers['x']: "),
    "a time in an array": (headers(header(b"A" + counted(b"VT" + time(-1)))), "headers['x'][1]: "),
    "a time in a table": (headers(header(b"F" + counted(header(b"T" + time(-1), b"y")))), "headers['x']['y']: "),
    "a header's name": (headers(header(b"S" + counted(b"ok"), NOT_UTF8)), r"headers['\\xff\\xfe']: "),
    "a name in a table": (headers(header(b"F" + counted(header(b"V", NOT_UTF8)))), r"headers['x']['\\xff\\xfe']: "),
    "1000 arrays": (headers(header(nested(1000, kind=b"A"))), "levels deep"),
    "1000 tables": (headers(header(nested(1000, kind=b"F"))), "levels deep"),
    **{f"{name} not UTF-8": (properties(**{name: short(NOT_UTF8)}), f"{name}: ") for name in TEXT},
}
"""Properties that a broker takes and hands on, each with what its detail must say."""

BROKEN: Final[dict[str, tuple[bytes, str]]] = {
    "an expiration not UTF-8": (properties(expiration=short(NOT_UTF8)), "expiration: "),
    "a user not UTF-8": (properties(user_id=short(NOT_UTF8)), "user_id: "),
    "a decimal cut off": (headers(header(b"D\x02\x00")), "headers: "),
    "a type that is unknown": (headers(header(b"?1234")), "headers: the type b'?' is unknown"),
    "a name cut off": (headers(b"\x05ab"), "headers: "),
    "a table cut off": (properties(headers=counted(header(b"V") * 9)[:-1]), "properties: the bytes end"),
    "an array longer than its table": (headers(header(b"A\x00\x00\x00\x09V")), "headers: "),
    "a timestamp cut off": (properties(timestamp=b"\x00\x01"), "properties: the bytes end"),
    "no flags": (b"\x00", "properties: the bytes end"),
    "flags without end": (b"\xff\xff", "more flags"),
}
"""What a broker would not hand on."""
