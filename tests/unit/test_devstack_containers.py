"""Containers keep their port, and do what a service does."""

import subprocess
from typing import Any, Self

import pytest
from testcontainers.core.container import BytesExecResult
from testcontainers.core.wait_strategies import WaitStrategy

from devstack import DidNotStart, containers
from devstack.containers import ContainerBroker, ContainerDatabase


class Engine:
    """What a container is told, in the place of testcontainers and Docker."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.calls: list[str] = []
        self.ports: dict[int, int] = {}
        self.command: list[str] = []
        self.status = "created"
        self.result = BytesExecResult(0, b"done\n")
        self.wait_strategy: WaitStrategy | None = None

    def with_bind_ports(self, container: int, host: int) -> Self:
        self.ports[container] = host
        return self

    def with_command(self, command: list[str]) -> Self:
        self.command = command
        return self

    def waiting_for(self, strategy: WaitStrategy) -> Self:
        self.wait_strategy = strategy
        return self

    def get_wrapped_container(self) -> Self:
        return self

    def get_container_host_ip(self) -> str:
        return "docker-host"

    def get_exposed_port(self, port: int) -> int:
        return self.ports[port]

    def reload(self) -> None:
        pass

    def exec(self, command: list[str]) -> BytesExecResult:
        self.calls.append(" ".join(command))
        return self.result

    def pause(self) -> None:
        self.calls.append("pause")
        self.status = "paused"

    def unpause(self) -> None:
        self.calls.append("unpause")
        self.status = "running"

    def __getattr__(self, name: str) -> Any:
        return lambda **_options: self.calls.append(name)


@pytest.fixture(autouse=True)
def _no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "DockerContainer", Engine)
    monkeypatch.setattr(containers, "speaks_amqp", lambda _host, _port: True)
    monkeypatch.setattr(containers, "becomes_primary", lambda _host, _port, member: bool(member))


def engine_of(service: ContainerBroker | ContainerDatabase) -> Engine:
    engine: Any = service._container
    assert isinstance(engine, Engine)
    return engine


def test_a_broker_keeps_its_address_over_restarts() -> None:
    broker = ContainerBroker()
    broker.start()
    url = broker.url
    broker.stop()
    broker.start()
    assert broker.url == url == f"amqp://guest:guest@docker-host:{engine_of(broker).ports[5672]}/"
    assert engine_of(broker).calls == ["start", "stop", "start"]


def test_a_database_is_a_replica_set_that_is_reached_directly() -> None:
    database = ContainerDatabase(["--quiet"], 0.5)
    database.start()
    engine = engine_of(database)
    assert database.uri == f"mongodb://docker-host:{engine.ports[27017]}/?directConnection=true"
    assert {"--replSet=rs0", "--wiredTigerCacheSizeGB=0.5", "--quiet"} <= set(engine.command)


def test_a_broker_writes_down_its_queues_before_it_is_killed() -> None:
    broker = ContainerBroker()
    broker.kill()
    told, *killed = engine_of(broker).calls
    assert "dets:sync" in told
    assert killed == ["kill", "wait"]


def test_what_is_frozen_is_thawed_to_be_ended() -> None:
    broker = ContainerBroker()
    broker.freeze()
    broker.kill()
    broker.freeze()
    broker.stop()
    assert engine_of(broker).calls == ["pause", "unpause", "kill", "wait", "pause", "unpause", "stop"]


def test_control_returns_the_output_or_raises() -> None:
    broker = ContainerBroker()
    assert broker.ctl("list_queues") == "done\n"
    engine_of(broker).result = BytesExecResult(64, b"sorry\n")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        broker.ctl("list_queues")
    assert (failure.value.returncode, failure.value.output) == (64, "sorry\n")


def test_a_container_that_is_never_ready_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "START_LIMIT", 0.0)
    monkeypatch.setattr(containers, "speaks_amqp", lambda _host, _port: False)
    broker = ContainerBroker()
    broker.start()  # the first wait is testcontainers' own
    with pytest.raises(DidNotStart, match="the container of rabbitmq:4 did not start: not ready after 0 s"):
        broker.start()
