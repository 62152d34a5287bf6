from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.base import BasicProperties, Frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from contract.frames import install

names = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=60)
exchanges = st.from_regex(r"[a-zA-Z0-9_.:-]{0,60}", fullmatch=True)
deliveries = st.builds(
    Basic.Deliver, names, st.integers(0, 2**63 - 1), st.booleans(), exchanges, st.text(max_size=60).filter(bool)
)
properties = st.builds(
    Basic.Properties,
    content_type=st.none() | names,
    content_encoding=st.none() | names,
    headers=st.none() | st.dictionaries(names, st.integers(-(2**31), 2**31 - 1) | names | st.booleans(), max_size=5),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    priority=st.none() | st.integers(0, 9),
    correlation_id=st.none() | names,
    message_id=st.none() | names,
    timestamp=st.none() | st.datetimes(timezones=st.timezones()).filter(lambda at: at.year >= 1971),
    app_id=st.none() | names,
)


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    install()


def attributes(of: Frame | BasicProperties) -> dict[str, Any]:
    return dict(of)


@given(deliveries)
def test_a_delivery_is_read_as_the_library_reads_it(sent: Basic.Deliver) -> None:
    raw = sent.marshal()
    ours, theirs = Basic.Deliver(), Basic.Deliver()
    ours.unmarshal(raw)
    Frame.unmarshal(theirs, raw)
    assert attributes(ours) == attributes(theirs)
    assert ours.delivery_tag == sent.delivery_tag


@given(properties)
def test_properties_are_read_as_the_library_reads_them(sent: Basic.Properties) -> None:
    raw = sent.marshal()
    flags, after = ContentHeader._get_flags(raw)[::-1]
    ours, theirs = Basic.Properties(), Basic.Properties()
    ours.unmarshal(flags, raw[after:])
    BasicProperties.unmarshal(theirs, flags, raw[after:])
    assert attributes(ours) == attributes(theirs)
    assert ours.message_id == (sent.message_id or None)
