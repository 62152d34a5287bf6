"""A program that sends requests at a fixed rate, whether or not earlier ones are answered.

A closed loop waits for the slow and so never measures them; here each latency counts from when the request was due.
"""

import asyncio
import json
import os
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import uvloop

from bench.load import body_of

TICK: Final = 0.001
LAST_ANSWERS: Final = 10.0
"""Seconds that answers may take once everything is sent: the service promises less."""

BROKEN: Final = 0
"""In place of a status: the connection broke, or no answer came."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    port: int
    path: str
    records: int
    """In one request."""
    phases: Sequence[tuple[float, float]]
    """Requests a second, for so many seconds; one after the other."""
    key: str
    """The n-th request carries the idempotency key `<key>-<n>`, n from 0."""
    output: str
    """The file for what came of each."""
    connections: int = 64
    patience: float = 60.0
    """Seconds that a request which is due waits for a free connection before it is not sent at all."""
    report_every: int = 0
    """Print the number and the time of each n-th 200 at once; 0: of none."""

    def to_json(self) -> str:
        """Write it as an argument of this program."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the argument."""
        return cls(**json.loads(text))

    def due_times(self) -> "array[float]":
        """When each request is due, in seconds from the start."""
        times, start = array("d"), 0.0
        for rate, seconds in self.phases:
            times.extend(start + n / rate for n in range(int(rate * seconds)))
            start += seconds
        return times


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next."""

    def __init__(self, sender: "Sender") -> None:
        self._sender = sender
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.number: int | None = None
        """The request that is under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free from now on."""
        self._transport = transport  # type: ignore[assignment]  # that of a stream is one
        self._sender.free(self)

    def send(self, number: int, request: bytes) -> None:
        """Send a request; the sender hears of its answer."""
        assert self._transport is not None  # noqa: S101 - only the connected are free
        self.number = number
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; the sender hears of it when it is whole."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0 or self.number is None:
            return
        start = self._received.find(b"Content-Length: ") + 16
        length = int(self._received[start : self._received.index(b"\r\n", start)])
        if len(self._received) < head + 4 + length:
            return
        answer, self._received = self._received[:head], b""
        number, self.number = self.number, None
        self._sender.answered(number, int(answer[9:12]), has_retry_after=b"Retry-After" in answer)
        self._sender.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Let the sender replace it; what was under way has no answer."""
        if self.number is not None:
            self._sender.answered(self.number, BROKEN)
        self._sender.lost(self)


class Sender:
    """Sends what is due on connections that are free, and writes down what comes of it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._due = plan.due_times()
        count = len(self._due)
        self.sent, self.done = array("d", bytes(8 * count)), array("d", bytes(8 * count))
        self.status = array("h", bytes(2 * count))
        self.without_retry_after = 0
        self._free: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._next = 0
        self._under_way = 0
        self._began = 0.0
        body = body_of(plan.records)
        self._head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: {plan.key}-"
        ).encode()
        self._tail = b"\r\n\r\n" + body

    async def run(self) -> None:
        """Send everything, and wait for the last answers."""
        await asyncio.gather(*(self._connect() for _ in range(self._plan.connections)))
        self._began = time.monotonic()
        while self._next < len(self._due) or self._waiting:
            self._arrive()
            await asyncio.sleep(TICK)
        limit = time.monotonic() + LAST_ANSWERS
        while self._under_way and time.monotonic() < limit:
            await asyncio.sleep(TICK)

    @property
    def began(self) -> float:
        """When it began to send, by the monotonic clock of the machine."""
        return self._began

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self._plan.port)

    def _arrive(self) -> None:
        now = time.monotonic() - self._began
        while self._next < len(self._due) and self._due[self._next] <= now:
            self._waiting.append(self._next)
            self._next += 1
        while self._waiting and self._free:
            self._send(self._free.popleft(), self._waiting.popleft(), now)
        while self._waiting and self._due[self._waiting[0]] < now - self._plan.patience:
            self._waiting.popleft()

    def _send(self, connection: Connection, number: int, now: float) -> None:
        self.sent[number] = now
        self._under_way += 1
        connection.send(number, b"%b%d%b" % (self._head, number, self._tail))

    def free(self, connection: Connection) -> None:
        """Use a connection again."""
        if self._waiting:
            self._send(connection, self._waiting.popleft(), time.monotonic() - self._began)
        else:
            self._free.append(connection)

    def answered(self, number: int, status: int, *, has_retry_after: bool = False) -> None:
        """Write down an answer."""
        now = time.monotonic()
        self.done[number] = now - self._began
        self.status[number] = status
        self._under_way -= 1
        self.without_retry_after += status == 503 and not has_retry_after  # noqa: PLR2004 - HTTP's
        every = self._plan.report_every
        if every and status == 200 and number % every == 0:  # noqa: PLR2004 - HTTP's
            sys.stdout.write(f"{number} {now}\n")
            sys.stdout.flush()

    def lost(self, connection: Connection) -> None:
        """Replace a connection that the server closed."""
        if connection in self._free:
            self._free.remove(connection)
        asyncio.ensure_future(self._connect())  # noqa: RUF006 - it makes itself known

    def write(self, path: Path) -> None:
        """Write down, for each request: when it was due, sent, answered, and with what status."""
        with path.open("wb") as file:
            for column in (self._due, self.sent, self.done, self.status):
                column.tofile(file)


def main() -> int:
    """Send what the argument says; the last line of output sums up."""
    plan = Plan.from_json(sys.argv[1])
    sender = Sender(plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(sender.run())
    sender.write(Path(plan.output))
    spent = os.times()
    print(json.dumps({"began": sender.began, "cpu": spent.user + spent.system, "bare_503": sender.without_retry_after}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
