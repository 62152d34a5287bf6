"""A broker that ends the conversation before it has begun is unavailable, and nothing worse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pamqp import commands, frame

from contract.connection import BrokerUnavailable, connect, translated

START = frame.marshal(commands.Connection.Start(server_properties={}), 0)
TUNE = frame.marshal(commands.Connection.Tune(channel_max=2047, frame_max=131072, heartbeat=10), 0)


@asynccontextmanager
async def broker_that_says(answers: list[bytes]) -> AsyncIterator[str]:
    """Answers each thing that it hears with the next of these, and hangs up behind the last; yields its URL."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(4096)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    "answers", [[], [b""], [START], [START[:10]], [START, TUNE], [START, b""]], ids=lambda answers: str(len(answers))
)
async def test_a_broker_that_hangs_up_during_the_handshake_is_unavailable(answers: list[bytes]) -> None:
    async with broker_that_says(answers) as url:
        with pytest.raises(BrokerUnavailable):
            async with connect(url, name="test"):
                pass


@pytest.mark.parametrize("said", [b"", START, START[:10], START + TUNE], ids=lambda said: f"{len(said)} bytes")
async def test_a_broker_that_hangs_up_without_listening_is_unavailable(said: bytes) -> None:
    over = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.write_eof()
        await reader.read()
        writer.close()
        over.set()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(BrokerUnavailable):
            async with connect(url, name="test"):
                pass
        await over.wait()


def test_the_end_of_the_stream_before_a_frame_is_unavailable_too() -> None:
    """What the driver raises when the end has come before it looks: a matter of microseconds."""
    with pytest.raises(BrokerUnavailable), translated():
        raise StopAsyncIteration
