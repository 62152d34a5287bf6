import asyncio
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.connection import FrameReceiver
from hypothesis import given
from hypothesis import strategies as st
from pamqp import encode
from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue
from pamqp.frame import FrameTypes, marshal
from pamqp.header import ContentHeader

from contract import properties
from contract.properties import install, unreadable
from tests.support import poison
from tests.support.poison import BROKEN, NOT_UTF8, POISON, RawProperties, RawText, counted, headers, short, time
from worker.subscription import delivery_of

UNREADABLE = {**POISON, **BROKEN}
FIXED = struct.pack(">HHQ", 60, 0, 4711)
"""The start of a content header: class 60, and the size of the body."""

METHODS: Mapping[str, Basic.Deliver | Basic.GetOk | Basic.Return] = {
    "a delivery by a key": Basic.Deliver("tag", 1, exchange="x", routing_key=RawText("x")),
    "a delivery by an exchange": Basic.Deliver("tag", 1, exchange=RawText("x"), routing_key="x"),
    "an answer to get": Basic.GetOk(1, exchange="x", routing_key=RawText("x"), message_count=7),
    "a return": Basic.Return(312, "NO_ROUTE", "x", RawText("x")),
}
PYTHON_WITHOUT_US = """
import asyncio, sys
from aiormq.connection import FrameReceiver

async def outcome(frame):
    reader = asyncio.StreamReader()
    reader.feed_data(frame)
    try:
        await FrameReceiver(reader).get_frame()
    except Exception as exc:
        return type(exc).__name__
    return "read"

for line in sys.stdin:
    print(asyncio.run(outcome(bytes.fromhex(line))))
"""


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    install()


def header_frame(raw: bytes) -> bytes:
    return marshal(ContentHeader(body_size=4711, properties=RawProperties(raw)), 1)


async def driver_reads(frame: bytes) -> FrameTypes:
    """What the driver makes of the bytes of one frame."""
    reader = asyncio.StreamReader()
    reader.feed_data(frame)
    _, _, read = await FrameReceiver(reader).get_frame()
    return read


def read(raw: bytes) -> Basic.Properties:
    header = ContentHeader()
    header.unmarshal(FIXED + raw)
    assert header.body_size == 4711
    return header.properties


def without_us(frames: Iterable[bytes]) -> list[str]:
    """What the driver does with each of these frames in a process that knows nothing of us."""
    done = subprocess.run(
        [sys.executable, "-c", PYTHON_WITHOUT_US],
        input="\n".join(frame.hex() for frame in frames),
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return done.stdout.split()


def test_without_us_the_driver_still_breaks_on_each_of_these() -> None:
    # When this fails, the libraries have learnt to read them: see what is left for contract/properties.py to do.
    frames = [header_frame(raw) for raw, _ in UNREADABLE.values()] + [marshal(method, 1) for method in METHODS.values()]
    good = header_frame(headers(poison.header(b"T" + time(poison.MICROSECONDS // 1000))))
    *outcomes, of_good = without_us([*frames, good])
    assert of_good == "read"
    assert len(outcomes) == len(frames)
    assert [name for name, outcome in zip([*UNREADABLE, *METHODS], outcomes, strict=True) if outcome == "read"] == []


@pytest.mark.parametrize(("raw", "detail"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_the_driver_reads_on_and_we_know_what_is_missing(raw: bytes, detail: str) -> None:
    header = await driver_reads(header_frame(raw))
    assert isinstance(header, ContentHeader)
    assert header.body_size == 4711
    sentence = unreadable(header.properties)
    assert sentence is not None
    assert detail in sentence


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
async def test_an_address_that_is_not_utf8_is_read_as_far_as_it_can_be(
    method: Basic.Deliver | Basic.GetOk | Basic.Return,
) -> None:
    came = await driver_reads(marshal(method, 1))
    assert isinstance(came, type(method))
    expected = {name: r"\xff\xfe" if isinstance(value, RawText) else value for name, value in method}
    assert dict(came) == expected


def test_installing_it_again_changes_nothing() -> None:
    before = ContentHeader.unmarshal
    install()
    assert ContentHeader.unmarshal is before
    assert read(headers(poison.header(b"t\x01"))).headers == {"x": True}


def test_milliseconds_stay_what_the_library_takes_them_for() -> None:
    moment = datetime(2026, 2, 25, 6, 13, 20, tzinfo=UTC)
    seconds = int(moment.timestamp())
    for value in (seconds, seconds * 1000):
        came = read(poison.properties(headers=counted(poison.header(b"T" + time(value))), timestamp=time(value)))
        assert unreadable(came) is None
        assert came.timestamp == moment
        assert came.headers == {"x": moment}


def test_what_can_be_read_beside_it_survives() -> None:
    table = [
        poison.header(b"l" + struct.pack(">q", 7), b"x-delivery-count"),
        poison.header(b"T" + time(-1), b"bad"),
        poison.header(b"V", NOT_UTF8),
        poison.header(b"S" + counted(b"ok"), b"good"),
    ]
    came = read(
        poison.properties(
            content_type=short(NOT_UTF8),
            headers=counted(b"".join(table)),
            delivery_mode=b"\x02",
            message_id=short(b"m"),
            timestamp=time(-1),
            app_id=short(b"a"),
        )
    )
    assert came.headers == {"x-delivery-count": 7, "good": "ok"}
    assert (came.content_type, came.delivery_mode, came.message_id, came.timestamp) == (None, 2, "m", None)
    assert came.app_id == "a"
    sentence = unreadable(came) or ""
    assert sentence.startswith("AMQP properties that cannot be read: content_type: 'utf-8' codec")
    assert "headers['bad']: year 584556019" in sentence
    assert sentence.endswith("; 1 more")


def test_of_the_brokers_death_records_only_a_bad_one_is_lost() -> None:
    record = encode.field_table({"reason": "delivery_limit", "count": 1})
    forged = counted(poison.header(b"T" + time(-1), b"time") + poison.header(b"V", b"reason"))
    came = read(headers(poison.header(b"A" + counted(b"F" + record + b"F" + forged), b"x-death")))
    assert came.headers == {"x-death": [{"reason": "delivery_limit", "count": 1}, {"reason": None}]}
    assert "headers['x-death'][1]['time']" in (unreadable(came) or "")


def test_a_thousand_bad_headers_make_a_short_sentence() -> None:
    came = read(headers(*(poison.header(b"T" + time(-n - 1), b"%0200d" % n) for n in range(500))))
    assert came.headers == {}
    sentence = unreadable(came) or ""
    assert sentence.endswith("; 497 more")
    assert len(sentence) < 2000


def test_a_delivery_knows_how_often_it_came_and_what_cannot_be_read() -> None:
    count = poison.header(b"l" + struct.pack(">q", 3), b"x-delivery-count")
    header = ContentHeader(properties=read(headers(poison.header(b"T" + time(-1)), count)))
    method = Basic.Deliver("tag", 1, redelivered=True, exchange="x", routing_key="events")
    delivery = delivery_of(DeliveredMessage(method, header, b"body", None))  # type: ignore[arg-type]
    assert delivery.earlier_deliveries == 3
    assert delivery.unreadable == unreadable(header.properties)
    assert delivery.unreadable


def test_no_producer_can_make_good_properties_seem_bad() -> None:
    names = ["unreadable", "SalvagedProperties", "__class__", "headers", "x-death"]
    came = read(headers(*(poison.header(b"S" + counted(b"AMQP properties"), name.encode()) for name in names)))
    assert came.headers == dict.fromkeys(names, "AMQP properties")
    assert unreadable(came) is None
    assert unreadable(Basic.Properties(headers={"unreadable": "x"}, message_type="unreadable")) is None


@pytest.mark.parametrize("size", range(12))
def test_a_header_that_does_not_tell_the_size_of_the_body_is_refused(size: int) -> None:
    # What follows could not be told from the next message: that connection is lost.
    with pytest.raises(struct.error):
        ContentHeader().unmarshal(FIXED[:size])


NAMES = st.text(max_size=20)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, width=32),
        st.text(max_size=20),
        st.binary(max_size=20).map(bytearray),
        st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - takes naive
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BAD_ENTRIES = st.sampled_from(
    [
        poison.header(b"T" + time(-1), b"bad"),
        poison.header(b"A" + counted(b"T" + time(-1)), NOT_UTF8),
        poison.header(b"F" + counted(poison.header(b"S" + counted(b"x"), b"\xc3")), NOT_UTF8),
        poison.header(poison.nested(600, kind=b"F"), NOT_UTF8),
    ]
)


def wire(name: str, value: FieldValue) -> bytes:
    """An entry of a table, as the library encodes it."""
    return encode.field_table({name: value})[4:]


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.lists(BAD_ENTRIES, min_size=1, max_size=3), st.data())
def test_good_headers_are_the_same_with_bad_ones_among_them(
    table: FieldTable, bad: list[bytes], at: st.DataObject
) -> None:
    good = [wire(name, value) for name, value in table.items() if name != "bad"]
    plain = read(headers(*good))
    assert unreadable(plain) is None
    came = read(headers(*at.draw(st.permutations([*good, *bad]))))
    assert unreadable(came) is not None
    assert came.headers == plain.headers


def agrees_with_the_library(raw: bytes) -> None:
    """What the library can read by itself is left to it; the rest raises nothing, and is told."""
    whole = ContentHeader()
    came = read(raw)
    try:
        properties._read_whole(whole, FIXED + raw)
    except Exception:  # noqa: BLE001 - whatever it is
        assert unreadable(came)
    else:
        assert unreadable(came) is None
        assert repr(dict(came)) == repr(dict(whole.properties))


@given(st.binary(max_size=300))
def test_no_bytes_raise(raw: bytes) -> None:
    agrees_with_the_library(raw)


@given(st.binary(max_size=200), st.integers(0, 2**16 - 1))
def test_no_table_raises(table: bytes, flags: int) -> None:
    agrees_with_the_library(struct.pack(">H", flags & 0xFFFE) + counted(table))


@given(
    st.sampled_from([raw for raw, _ in UNREADABLE.values() if len(raw) < 200]),
    st.dictionaries(st.integers(0, 199), st.integers(0, 255), max_size=4),
    st.integers(0, 200),
)
def test_no_damage_to_poison_raises(raw: bytes, changes: dict[int, int], kept: int) -> None:
    damaged = bytes(changes.get(at, octet) for at, octet in enumerate(raw))
    agrees_with_the_library(damaged[:kept])
