"""A broker or a database in a Docker container."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import WaitStrategy, WaitStrategyTarget

from devstack.broker import REMEMBER_QUEUES, speaks_amqp
from devstack.database import REPLICA_SET
from devstack.ports import free_port
from devstack.replicaset import becomes_primary
from devstack.service import DidNotStart

BROKER_IMAGE = "rabbitmq:4"
DATABASE_IMAGE = "mongo:7"
AMQP_PORT = 5672
MONGODB_PORT = 27017
START_LIMIT = 120.0
STOP_LIMIT = 30


class Ready(WaitStrategy):
    """Waits until a client is served, which the port alone does not tell: Docker accepts connections before that."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._ready = ready

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:  # noqa: ARG002  the base class names it
        """Raises TimeoutError."""
        limit = time.monotonic() + START_LIMIT
        while not self._ready():
            if time.monotonic() > limit:
                raise TimeoutError(f"not ready after {START_LIMIT:.0f} s")
            time.sleep(0.1)


class ContainerService(ABC):
    """A container that keeps its port on the host, which Docker would choose anew at each start."""

    def __init__(self, container: DockerContainer, port: int) -> None:
        self._wait = Ready(self.ready)
        self._container = container.with_bind_ports(port, free_port()).waiting_for(self._wait)
        self._inner_port = port
        self._started = False

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves clients now."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for clients."""
        return self._container.get_container_host_ip(), self._container.get_exposed_port(self._inner_port)

    def start(self) -> None:
        """Create it, or start it again. Raises DidNotStart."""
        try:
            if self._started:
                self._container.get_wrapped_container().start()
                self._wait.wait_until_ready(self._container)
            else:
                self._container.start()
                self._started = True
        except (DockerException, TimeoutError, RuntimeError) as error:
            raise DidNotStart(f"the container of {self._container.image} did not start: {error}") from error

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was its last deed."""
        self._container.reload()
        return self._container.status == "paused"

    def stop(self) -> None:
        """Stop it in order, keeping its data."""
        if self.frozen:
            self.thaw()
        self._container.get_wrapped_container().stop(timeout=STOP_LIMIT)

    def kill(self) -> None:
        """SIGKILL, keeping its data."""
        if self.frozen:
            self.thaw()  # Docker sends no signal to a paused container
        container = self._container.get_wrapped_container()
        container.kill()
        container.wait()

    def freeze(self) -> None:
        """Stop all its processes by the kernel's freezer."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """Let them go on."""
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        """Remove it with its data."""
        self._container.stop()


class ContainerBroker(ContainerService):
    """RabbitMQ as its makers publish it."""

    def __init__(self) -> None:
        super().__init__(DockerContainer(BROKER_IMAGE), AMQP_PORT)

    @property
    def url(self) -> str:
        """Where clients connect."""
        host, port = self.address
        return f"amqp://guest:guest@{host}:{port}/"

    def ready(self) -> bool:
        """Whether it speaks AMQP."""
        return speaks_amqp(*self.address)

    def kill(self) -> None:
        """SIGKILL, once it has written down which queues exist."""
        if not self.frozen:
            self.ctl("eval", REMEMBER_QUEUES)
        super().kill()

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` inside; its output. Raises subprocess.CalledProcessError."""
        command = ["rabbitmqctl", "--quiet", *arguments]
        result = self._container.exec(command)
        output = result.output.decode(errors="replace")
        if result.exit_code != 0:
            raise subprocess.CalledProcessError(result.exit_code or 1, command, output)
        return output


class ContainerDatabase(ContainerService):
    """MongoDB as its makers publish it."""

    def __init__(self, arguments: Sequence[str], cache_gb: float) -> None:
        options = [f"--replSet={REPLICA_SET}", "--bind_ip_all", f"--wiredTigerCacheSizeGB={cache_gb}"]
        options += ["--setParameter=enableTestCommands=1", *arguments]
        super().__init__(DockerContainer(DATABASE_IMAGE).with_command(options), MONGODB_PORT)

    @property
    def uri(self) -> str:
        """Where clients connect: directly, since the set knows its member by an address inside the container."""
        host, port = self.address
        return f"mongodb://{host}:{port}/?directConnection=true"

    def ready(self) -> bool:
        """Whether it is primary."""
        return becomes_primary(*self.address, member=f"localhost:{MONGODB_PORT}")
