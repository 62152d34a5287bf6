"""Each life is that of a real process, for its end is the point."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent

import pytest

from runtime.supervision import ExitCode, pause

ROOT = Path(__file__).parents[2]
LIMIT = 60.0

PROGRAM = """
import asyncio, sys
from runtime import logs
from runtime.supervision import Misconfigured, run

async def serve(stop):
{serve}

logs.configure("INFO")
sys.exit(run(serve, drain_seconds={drain_seconds}))
"""


class Life:
    """A process that has come as far as to print `ready`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it wrote to stderr."""
        _, errors = self._process.communicate(timeout=LIMIT)
        return self._process.returncode, errors


@contextmanager
def living(serve: str, *, drain_seconds: float = 30.0) -> Iterator[Life]:
    program = PROGRAM.format(serve=indent(dedent(serve), "    "), drain_seconds=drain_seconds)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Life(process)
    finally:
        process.kill()
        process.communicate()


def test_the_numbers_are_those_a_supervisor_is_configured_with() -> None:
    assert [code.value for code in ExitCode] == [0, 70, 75, 78]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_stops_when_asked_exits_with_0(number: signal.Signals) -> None:
    with living("print('ready', flush=True); await stop.wait(); print('done', flush=True)") as life:
        life.wait_for("ready")
        life.signal(number)
        life.wait_for("done")
        code, errors = life.end()
    assert code == 0
    assert "Traceback" not in errors
    assert '"stopped"' in errors


def test_a_process_whose_work_is_done_exits_with_0() -> None:
    with living("return") as life:
        assert life.end()[0] == 0


def test_a_signal_during_the_work_lets_the_work_be_finished() -> None:
    serve = """
        print('ready', flush=True)
        await stop.wait()
        await asyncio.sleep(0.3)
        print('finished', flush=True)
    """
    with living(serve) as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        life.wait_for("finished")
        assert life.end()[0] == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain_at_once_with_75(second: signal.Signals) -> None:
    serve = """
        print('ready', flush=True)
        await stop.wait()
        print('draining', flush=True)
        await asyncio.sleep(60)
    """
    with living(serve) as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        life.wait_for("draining")
        began = time.monotonic()
        life.signal(second)
        code, errors = life.end()
    assert code == 75
    assert time.monotonic() - began < 20  # less than its drain may take
    assert "second signal" in errors


def test_a_drain_that_takes_too_long_ends_with_75() -> None:
    with living("print('ready', flush=True); await asyncio.sleep(60)", drain_seconds=0.2) as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        code, errors = life.end()
    assert code == 75
    assert "drain deadline" in errors


def test_the_drain_deadline_also_ends_what_hangs_in_a_finally_clause() -> None:
    serve = """
        print('ready', flush=True)
        try:
            await stop.wait()
        finally:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
    """
    with living(serve, drain_seconds=0.2) as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        assert life.end()[0] == 75


def test_the_drain_deadline_also_ends_a_task_that_was_left_behind_and_will_not_go() -> None:
    serve = """
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        task = asyncio.create_task(stubborn())
        print('ready', flush=True)
        await stop.wait()
    """
    with living(serve, drain_seconds=0.2) as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        assert life.end()[0] == 75


def test_wrong_settings_end_with_78_and_a_sentence_for_a_person() -> None:
    with living("raise Misconfigured('the port 80 cannot be used')") as life:
        code, errors = life.end()
    assert code == 78
    assert errors.splitlines() == ["the port 80 cannot be used"]


def test_wrong_settings_found_out_later_end_with_78_too() -> None:
    serve = """
        try:
            raise OSError('secret detail')
        except OSError as exc:
            raise Misconfigured('the database stands alone') from exc
    """
    with living(serve) as life:
        code, errors = life.end()
    assert code == 78
    assert errors.strip() == "the database stands alone"


def test_a_bug_ends_with_70_and_its_traceback_in_the_log() -> None:
    with living("raise KeyError('whoops')") as life:
        code, errors = life.end()
    assert code == 70
    assert "Traceback" in errors
    assert "whoops" in errors


def test_a_bug_while_stopping_ends_with_70() -> None:
    with living("print('ready', flush=True); await stop.wait(); raise KeyError('whoops')") as life:
        life.wait_for("ready")
        life.signal(signal.SIGTERM)
        assert life.end()[0] == 70


def test_bugs_in_several_tasks_end_with_70() -> None:
    serve = """
        async def fail():
            raise KeyError('whoops')

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            tasks.create_task(fail())
    """
    with living(serve) as life:
        assert life.end()[0] == 70


def test_a_wait_that_the_driver_cancelled_ends_with_70() -> None:
    with living("asyncio.current_task().cancel(); await asyncio.sleep(60)") as life:
        assert life.end()[0] == 70


async def test_a_pause_lasts_as_long_as_it_was_told() -> None:
    began = time.monotonic()
    await pause(0.05, asyncio.Event())
    assert 0.04 < time.monotonic() - began < 20


async def test_a_pause_ends_with_a_stop() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stop.set)
    began = time.monotonic()
    await pause(60, stop)
    await pause(60, stop)
    assert time.monotonic() - began < 30


async def test_a_pause_that_is_cancelled_says_so() -> None:
    task = asyncio.create_task(pause(60, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
