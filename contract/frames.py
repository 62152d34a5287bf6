"""What comes before each message's body, read at once: the AMQP library goes from field to field.

That is most of what it costs to receive a message with one event.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pamqp import decode
from pamqp.commands import Basic
from pamqp.common import FieldValue

_AFTER_THE_TAG: Final = struct.Struct(">QBB")
"""Of a delivery: its number; bits, the lowest for one that was delivered before; the length of the exchange's name."""

_Reader = Callable[[bytes], tuple[int, FieldValue]]
"""From bytes to how many were read, and what they say."""


def install() -> None:
    """Have the AMQP library of this process read deliveries so; any number of times."""
    # Not methods that a type checker would let us assign.
    setattr(Basic.Deliver, "unmarshal", _read_delivery)  # noqa: B010
    setattr(Basic.Properties, "unmarshal", _read_properties)  # noqa: B010


def lenient(data: bytes) -> str:
    """Read the name of an exchange or a routing key, where bytes that are not UTF-8 have no meaning to lose."""
    return data.decode(errors="backslashreplace")


def _read_delivery(method: Basic.Deliver, data: bytes) -> None:
    at = 1 + data[0]
    method.consumer_tag = data[1:at].decode()
    method.delivery_tag, bits, length = _AFTER_THE_TAG.unpack_from(data, at)
    method.redelivered = bits & 1 == 1
    at += _AFTER_THE_TAG.size
    method.exchange = lenient(data[at : at + length])
    at += length + 1
    method.routing_key = lenient(data[at : at + data[at - 1]])


def _read_properties(properties: Basic.Properties, flags: int, data: bytes) -> None:
    for name, read in _present(flags):
        size, value = read(data)
        setattr(properties, name, value)
        data = data[size:]


@lru_cache(maxsize=256)
def _present(flags: int) -> tuple[tuple[str, _Reader], ...]:
    """Which properties there are by their flags, with what reads each."""
    names = (name for name in Basic.Properties.attributes() if flags & Basic.Properties.flags[name])
    return tuple((name, decode.METHODS[Basic.Properties.amqp_type(name)]) for name in names)
