"""What every broker or database can do, wherever it comes from."""

from typing import Protocol


class Unavailable(Exception):
    """There is no broker or no database to be had on this machine; the text says what to do."""


class NotOurs(Exception):
    """A service that somebody else runs was asked for what only its owner can do."""


class DidNotStart(Exception):
    """A service failed to become ready in time; the text ends with the tail of its log."""


class NotRunning(Exception):
    """A service that is down was asked for what only a running one can do."""


class Service(Protocol):
    """A server that tests may break. Every method returns when its effect can be seen."""

    def start(self) -> None:
        """Bring it up on the port and data it always had; nothing if it runs."""

    def stop(self) -> None:
        """End it as an operator would, with time to write everything down."""

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""

    def freeze(self) -> None:
        """Make it hang: connections stay open, nobody answers (SIGSTOP)."""

    def thaw(self) -> None:
        """Let it go on after `freeze`."""

    def close(self) -> None:
        """End it for good, in no particular manner."""


class Broker(Service, Protocol):
    """A RabbitMQ."""

    @property
    def url(self) -> str:
        """Where clients connect, as amqp://user:password@host:port/."""

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` with these arguments; its output. Raises subprocess.CalledProcessError."""


class Database(Service, Protocol):
    """A MongoDB replica set."""

    @property
    def uri(self) -> str:
        """Where clients connect, as mongodb://host:port/?options."""
