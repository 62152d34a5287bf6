"""A stack finds its services in order, starts each once, and leaves nothing."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psutil
import pytest

from devstack import Devstack, DidNotStart, NotOurs, Unavailable, database, rabbitmq, sources
from devstack.directory import KeptDirectory, VanishingDirectory
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE, ExternalService
from devstack.ports import free_port
from devstack.stack import OnDemand

URL = "amqp://user:secret@elsewhere/"
URI = "mongodb://elsewhere/?replicaSet=x"


@pytest.fixture(autouse=True)
def _nothing_provided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AMQP_VARIABLE, raising=False)
    monkeypatch.delenv(MONGODB_VARIABLE, raising=False)
    monkeypatch.setattr(sources, "engine_answers", lambda: False)


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AMQP_VARIABLE, URL)
    monkeypatch.setenv(MONGODB_VARIABLE, URI)
    with Devstack() as stack:
        assert (stack.broker.url, stack.database.uri) == (URL, URI)


@pytest.mark.parametrize("deed", ["stop", "kill", "freeze", "thaw"])
def test_what_the_environment_provides_is_not_ours_to_break(monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    monkeypatch.setenv(AMQP_VARIABLE, URL)
    monkeypatch.setenv(MONGODB_VARIABLE, URI)
    with Devstack() as stack:
        with pytest.raises(NotOurs, match=f"this broker came from {AMQP_VARIABLE}; it cannot be "):
            getattr(stack.broker, deed)()
        with pytest.raises(NotOurs, match=f"this database came from {MONGODB_VARIABLE}; it cannot be "):
            getattr(stack.database, deed)()
        with pytest.raises(NotOurs, match="controlled by rabbitmqctl list_queues"):
            stack.broker.ctl("list_queues")


def test_where_there_is_nothing_the_remedies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq, "find_home", lambda: None)
    monkeypatch.setattr(database, "find_mongod", lambda: None)
    with Devstack() as stack:
        with pytest.raises(Unavailable, match=f"install the Debian package rabbitmq-server .* or set {AMQP_VARIABLE}"):
            _ = stack.broker
        with pytest.raises(Unavailable, match=f"install the Python package .* or set {MONGODB_VARIABLE}"):
            _ = stack.database


def test_a_temporary_directory_goes_with_the_stack() -> None:
    directory = VanishingDirectory()
    (directory.path / "deep" / "deeper").mkdir(parents=True)
    directory.close()
    assert not directory.path.exists()


def test_a_temporary_directory_goes_with_a_caller_that_is_killed() -> None:
    script = (
        "from devstack.directory import VanishingDirectory; v = VanishingDirectory();"
        "print(v.path, v._remover.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as caller:
        assert caller.stdout is not None
        path, pid = caller.stdout.readline().split()
        remover = psutil.Process(int(pid))
        assert Path(path).is_dir()
        caller.kill()
    assert psutil.wait_procs([remover], timeout=20)[1] == []
    assert not Path(path).exists()


def test_a_directory_of_the_caller_stays(tmp_path: Path) -> None:
    with Devstack(tmp_path / "new"):
        pass
    assert (tmp_path / "new").is_dir()


def test_a_directory_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty"):
        KeptDirectory(tmp_path)


def test_ports_lie_below_those_of_outgoing_connections_and_are_given_once() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert max(ports) < 32_768


def test_a_binary_that_may_not_be_run_is_copied(tmp_path: Path) -> None:
    binary = tmp_path / "mongod"
    binary.write_text("#!/bin/sh\nexit 42\n")
    (tmp_path / "stack").mkdir()
    copy = database.executable(binary, tmp_path / "stack")
    assert subprocess.run([copy], check=False).returncode == 42
    assert database.executable(copy, tmp_path) == copy


def test_a_mongod_on_path_is_the_second_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = tmp_path / "mongod"
    on_path.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert database.find_mongod() != on_path
    monkeypatch.setattr(database, "WHEEL", "no-such-wheel")
    assert database.find_mongod() == on_path


class Slow(ExternalService):
    """A service whose start lasts until it is closed."""

    def __init__(self) -> None:
        super().__init__("service", "NOWHERE")
        self.starts = 0
        self.starting = Event()
        self.closed = Event()

    def start(self) -> None:
        self.starts += 1
        self.starting.set()
        if self.closed.wait(30):
            raise DidNotStart("closed")

    def close(self) -> None:
        self.closed.set()


def test_a_service_is_started_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Slow()
    monkeypatch.setattr(service.closed, "wait", lambda _seconds: False)
    on_demand = OnDemand(lambda: service)
    with ThreadPoolExecutor(4) as threads:
        found = {id(future.result()) for future in [threads.submit(on_demand.get) for _ in range(4)]}
    assert (found, service.starts) == ({id(service)}, 1)


def test_closing_ends_a_start_that_is_under_way() -> None:
    service = Slow()
    on_demand = OnDemand(lambda: service)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(on_demand.get)
        service.starting.wait(30)
        on_demand.close()
        with pytest.raises(DidNotStart):
            asked.result(30)


def test_what_is_found_after_closing_is_not_started() -> None:
    service = Slow()
    on_demand = OnDemand(lambda: service)
    on_demand.close()
    with pytest.raises(DidNotStart, match="the stack was closed"):
        on_demand.get()
    assert service.starts == 0
