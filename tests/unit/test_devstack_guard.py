"""A guard leaves nothing of its command behind, however the caller or the command ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from devstack import guard
from devstack.processes import GuardedProcess, run_guarded

SOON = 30.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

# A daemon is in a session of its own and its parent has ended, so neither process groups nor parents lead to it.
DAEMON_THEN = "(setsid sleep 1000 & echo $! > {pid}); {then}"


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "pid"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def caller(pid_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A guard whose lifeline we hold by hand."""
    script = DAEMON_THEN.format(pid=pid_file, then="echo up; sleep 1000")
    command = [sys.executable, "-P", guard.__file__, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def daemon(pid_file: Path) -> psutil.Process:
    return psutil.Process(int(pid_file.read_text()))


def assert_gone(process: psutil.Process) -> None:
    gone, alive = psutil.wait_procs([process], timeout=SOON)
    assert (len(gone), alive) == (1, [])


def test_a_daemon_ends_when_the_lifeline_closes(caller: subprocess.Popen[bytes], pid_file: Path) -> None:
    escaped = daemon(pid_file)
    assert caller.stdin is not None
    caller.stdin.close()
    caller.wait(SOON)
    assert_gone(escaped)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_daemon_ends_when_the_guard_is_asked_to_end(
    caller: subprocess.Popen[bytes], pid_file: Path, number: signal.Signals
) -> None:
    escaped = daemon(pid_file)
    caller.send_signal(number)
    assert caller.wait(SOON) == 128 + number
    assert_gone(escaped)


def test_a_frozen_command_ends_as_well(caller: subprocess.Popen[bytes], pid_file: Path) -> None:
    escaped = daemon(pid_file)
    escaped.suspend()
    assert caller.stdin is not None
    caller.stdin.close()
    caller.wait(SOON)
    assert_gone(escaped)


def test_a_daemon_ends_with_the_command(pid_file: Path, log: Path) -> None:
    script = DAEMON_THEN.format(pid=pid_file, then="exit 7")
    process = GuardedProcess(["sh", "-c", script], environment=ENVIRONMENT, log=log)
    assert process.wait(SOON) == 7
    assert not process.running
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_orphans_that_end_are_buried(log: Path) -> None:
    script = (
        "for i in 1 2 3; do (sh -c 'exit 0' &); done; sleep 1000; :"  # the last command keeps sh from becoming sleep
    )
    process = GuardedProcess(["sh", "-c", script], environment=ENVIRONMENT, log=log)
    try:
        sleeper = _await_process(process, "sleep")
        family = psutil.Process(sleeper.ppid()).parent()
        assert family is not None
        _await_children(family, 1)
    finally:
        process.release()


def test_a_command_that_does_not_exist_ends_at_once(log: Path) -> None:
    process = GuardedProcess(["/does/not/exist"], environment=ENVIRONMENT, log=log)
    assert process.wait(SOON) != 0
    assert "No such file" in log.read_text()


def test_a_guarded_run_returns_output_in_the_environment_it_was_given(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "HOME": str(tmp_path)}
    assert run_guarded(["sh", "-c", "echo $HOME"], environment=environment, timeout=SOON) == f"{tmp_path}\n"


def test_a_guarded_run_that_fails_notes_what_it_said() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run_guarded(["sh", "-c", "echo sorry >&2; exit 3"], environment=ENVIRONMENT, timeout=SOON)
    assert failure.value.returncode == 3
    assert failure.value.__notes__ == ["sorry\n"]


def test_a_guarded_run_that_takes_too_long_ends_with_its_daemons(pid_file: Path) -> None:
    script = DAEMON_THEN.format(pid=pid_file, then="sleep 1000")
    with pytest.raises(subprocess.TimeoutExpired):
        run_guarded(["sh", "-c", script], environment=ENVIRONMENT, timeout=5)  # in which the daemon must have begun
    assert not psutil.pid_exists(int(pid_file.read_text()))


def _await_process(process: GuardedProcess, name: str) -> psutil.Process:
    limit = time.monotonic() + SOON
    while (found := process.find(name)) is None:
        assert time.monotonic() < limit, f"no {name}"
        time.sleep(0.02)
    return found


def _await_children(parent: psutil.Process, count: int) -> None:
    limit = time.monotonic() + SOON
    while len(children := parent.children()) != count:
        assert time.monotonic() < limit, f"{children} are not {count}"
        time.sleep(0.02)
