import asyncio
import gzip
import tracemalloc
import zlib
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ingest.body import (
    BadEncoding,
    BodyLimits,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    check_head,
    decode_body,
    read_body,
)

LIMITS = BodyLimits(bytes=1000, seconds=0.05)


def head(**headers: str) -> web.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("POST", "/", {"Content-Type": "application/json", **named})


def post(*chunks: bytes, ended: bool = True, **headers: str) -> web.Request:
    """A request of which these chunks have come in so far."""
    loop = asyncio.get_running_loop()
    connection = BaseProtocol(loop, Mock())
    connection.connection_made(Mock())
    stream = StreamReader(connection, 2**16, loop=loop)
    for chunk in chunks:
        stream.feed_data(chunk)
    if ended:
        stream.feed_eof()
    request = head(**headers)
    return make_mocked_request("POST", "/", request.headers, payload=stream)


async def inflated(body: bytes, limits: BodyLimits = LIMITS) -> bytes:
    return await decoded(post(body, Content_Encoding="gzip"), limits)


async def decoded(request: web.Request, limits: BodyLimits) -> bytes:
    return decode_body(request, await read_body(request, limits), limits)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8",
    ],
)
def test_json_in_utf_8_is_taken_by_any_spelling(content_type: str) -> None:
    assert check_head(head(Content_Type=content_type, Content_Length="10"), LIMITS) == 10


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/problem+json",
        "application/x-ndjson",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "*/*",
        "json",
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="Content-Type"):
        check_head(head(Content_Type=content_type), LIMITS)


def test_a_missing_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="Content-Type"):
        check_head(make_mocked_request("POST", "/"), LIMITS)


@pytest.mark.parametrize(("encoding", "expected"), [("identity", 10), ("gzip", 1000), ("GZIP", 1000)])
def test_the_two_content_encodings_are_taken_and_what_is_packed_counts_in_full(encoding: str, expected: int) -> None:
    assert check_head(head(Content_Encoding=encoding, Content_Length="10"), LIMITS) == expected


@pytest.mark.parametrize("encoding", ["", "br", "zstd", "deflate", "compress", "x-gzip", "gzip, gzip", "xyz"])
def test_other_content_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="Content-Encoding"):
        check_head(head(Content_Encoding=encoding), LIMITS)


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_the_promised_length_is_what_to_expect(length: int) -> None:
    assert check_head(head(Content_Length=str(length)), LIMITS) == length


def test_a_body_without_a_promised_length_may_be_as_long_as_allowed() -> None:
    assert check_head(head(Transfer_Encoding="chunked"), LIMITS) == 1000


@pytest.mark.parametrize("length", ["1001", "9" * 30])
def test_a_promise_of_too_much_is_refused_before_anything_is_read(length: str) -> None:
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        check_head(head(Content_Length=length), LIMITS)


async def test_a_body_is_read_to_its_end() -> None:
    assert await read_body(post(b"a", b"b" * 998, b"c"), LIMITS) == b"a" + b"b" * 998 + b"c"
    assert await read_body(post(), LIMITS) == b""


async def test_a_body_that_arrives_in_pieces_is_put_together() -> None:
    # given
    request = post(b"1", ended=False)
    reading = asyncio.create_task(read_body(request, BodyLimits(bytes=1000, seconds=30)))
    # when
    for piece in (b"2", b"3"):
        await asyncio.sleep(0)
        request.content.feed_data(piece)
    request.content.feed_eof()
    # then
    assert await reading == b"123"


@pytest.mark.parametrize("ended", [True, False])
async def test_a_body_that_is_too_large_is_refused_whether_or_not_it_has_ended(ended: bool) -> None:  # noqa: FBT001
    with pytest.raises(BodyTooLarge):
        await read_body(post(b"a" * 600, b"b" * 401, ended=ended), LIMITS)


async def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    with pytest.raises(BodyTimeout, match=r"0\.05 s"):
        await read_body(post(b"{", ended=False), LIMITS)


async def test_a_body_whose_framing_is_broken_is_refused() -> None:
    request = post(b"{", ended=False)
    request.content.set_exception(web.RequestPayloadError("bad chunk"))
    with pytest.raises(BadEncoding, match="framing"):
        await read_body(request, LIMITS)


@given(st.binary(max_size=1000))
async def test_what_was_packed_with_gzip_is_read_as_it_was(body: bytes) -> None:
    assert await inflated(gzip.compress(body)) == body


async def test_gzip_may_be_packed_in_several_members() -> None:
    assert await inflated(gzip.compress(b'{"a":') + gzip.compress(b"") + gzip.compress(b"1}")) == b'{"a":1}'


@pytest.mark.parametrize("size", [1001, 1_000_000])
async def test_a_body_that_is_too_large_once_inflated_is_refused(size: int) -> None:
    packed = gzip.compress(b"0" * size)
    with pytest.raises(BodyTooLarge):
        await inflated(packed, BodyLimits(bytes=max(1000, len(packed)), seconds=1))


async def test_members_share_one_limit() -> None:
    assert len(await inflated(gzip.compress(b"0" * 500) * 2)) == 1000
    with pytest.raises(BodyTooLarge):
        await inflated(gzip.compress(b"0" * 500) * 2 + gzip.compress(b"0"))


async def test_a_bomb_is_never_inflated_beyond_the_limit() -> None:
    # given 60 KiB that inflate to 60 MiB
    packed = gzip.compress(bytes(60 * 2**20))
    limits = BodyLimits(bytes=2**16, seconds=1)
    assert len(packed) <= limits.bytes
    request = post(packed, Content_Encoding="gzip")
    # when
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await decoded(request, limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # then
    assert peak < 2**20


PACKED = gzip.compress(b'{"email": "amari_koss69@northwind.dev"}', mtime=0)


@pytest.mark.parametrize("length", range(1, len(PACKED)))
async def test_gzip_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(BadEncoding, match="gzip"):
        await inflated(PACKED[:length])


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        zlib.compress(b"{}"),  # a zlib stream has another head
        PACKED[:-8] + bytes(4) + PACKED[-4:],  # a wrong checksum
        PACKED[:-4] + bytes(4),  # a wrong length
        PACKED + b"garbage",
        PACKED + bytes(8),
        b"\x1f\x8b" + bytes(50),
    ],
)
async def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(BadEncoding, match="gzip"):
        await inflated(body)


async def test_an_empty_body_is_left_to_the_parser_of_json() -> None:
    assert await inflated(b"") == b""


@given(st.binary(max_size=200))
async def test_any_bytes_are_gzip_or_refused_by_name(body: bytes) -> None:
    for packed in (body, PACKED[:10] + body):
        try:
            plain = await inflated(packed)
        except (BadEncoding, BodyTooLarge):
            continue
        assert plain == gzip.decompress(packed)
