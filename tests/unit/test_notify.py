import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.notify import Supervisor, announcing
from tests.support.waiting import eventually


class Listener:
    """What a supervisor hears."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)  # noqa: FBT003 - the only way to call it

    def heard(self) -> list[str]:
        messages = []
        try:
            while True:
                messages.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def listener(path: str) -> Iterator[Listener]:
    listener = Listener(path)
    yield listener
    listener.close()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ready_is_said_once_with_what_is_true_then(path: str, listener: Listener) -> None:
    supervisor = Supervisor(path)
    supervisor.describe = lambda: "consuming"
    supervisor.ready()
    supervisor.ready()
    assert listener.heard() == ["READY=1\nSTATUS=consuming"]


def test_signs_of_life_are_sent_once_a_second_at_the_most(path: str, listener: Listener) -> None:
    clock = Clock()
    supervisor = Supervisor(path, clock=clock)
    for tenth in range(25):
        clock.now = tenth / 10
        supervisor.describe = str(tenth).format
        supervisor.alive()
    assert listener.heard() == ["WATCHDOG=1\nSTATUS=0", "WATCHDOG=1\nSTATUS=10", "WATCHDOG=1\nSTATUS=20"]


def test_a_stop_asks_for_longer_than_our_own_deadline(path: str, listener: Listener) -> None:
    Supervisor(path).stopping(30)
    assert listener.heard() == ["STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000\nSTATUS=stopping"]


def test_an_address_behind_an_at_sign_is_a_name_and_no_path() -> None:
    name = f"usage-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    Supervisor.from_environment({"NOTIFY_SOCKET": f"@{name}"}).ready()
    assert listener.heard() == ["READY=1\nSTATUS="]
    listener.close()


def say_everything(supervisor: Supervisor) -> None:
    supervisor.ready()
    supervisor.alive()
    supervisor.stopping(1)


def test_without_a_supervisor_nothing_is_said() -> None:
    with capture_logs() as lines:
        say_everything(Supervisor.from_environment({}))
    assert lines == []  # where one is named and not there, each attempt is logged


def test_a_supervisor_that_is_not_there_or_goes_away_is_no_error(path: str) -> None:
    with capture_logs() as lines:
        say_everything(Supervisor(path))
        listener = Listener(path)
        supervisor = Supervisor(path)
        supervisor.ready()
        assert listener.heard() == ["READY=1\nSTATUS="]
        listener.close()
        Path(path).unlink()
        supervisor.alive()
        supervisor.stopping(1)
    assert [line["event"] for line in lines] == ["supervisor not told"] * 5


def test_a_supervisor_that_does_not_read_is_no_error(path: str, listener: Listener) -> None:
    del listener  # bound, and never read from
    clock = Clock()
    supervisor = Supervisor(path, clock=clock)
    for second in range(10_000):
        clock.now = float(second)
        supervisor.alive()


async def test_a_process_is_ready_when_nothing_is_down_any_more(path: str, listener: Listener) -> None:
    down = [{"broker": "away"}, {"broker": "away"}, {}]

    async def unready() -> dict[str, str]:
        return down.pop(0)

    async with announcing(Supervisor(path), unready):
        await eventually(lambda: not down)
    assert listener.heard() == ["READY=1\nSTATUS="]


async def test_a_process_that_stops_before_it_is_ready_never_says_so(path: str, listener: Listener) -> None:
    async def unready() -> dict[str, str]:
        return {"broker": "away"}

    async with announcing(Supervisor(path), unready):
        pass
    assert listener.heard() == []
