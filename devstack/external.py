"""Services that somebody else runs, known by their URL."""

from typing import NoReturn

from devstack.service import NotOurs

AMQP_VARIABLE = "DEVSTACK_AMQP_URL"
MONGODB_VARIABLE = "DEVSTACK_MONGODB_URI"


class ExternalService:
    """A server we may use, and must leave as it is."""

    def __init__(self, kind: str, variable: str) -> None:
        self._origin = f"this {kind} came from {variable}"
        self._remedy = f"unset {variable} to get one that tests may break"

    def start(self) -> None:
        """Nothing: whoever runs it has started it."""

    def close(self) -> None:
        """Nothing: it was there before us."""

    def stop(self) -> None:
        self._refuse("stopped")

    def kill(self) -> None:
        self._refuse("killed")

    def freeze(self) -> None:
        self._refuse("frozen")

    def thaw(self) -> None:
        self._refuse("thawed")

    def _refuse(self, verb: str) -> NoReturn:
        raise NotOurs(f"{self._origin}; it cannot be {verb} from here ({self._remedy})")


class ExternalBroker(ExternalService):
    """The broker that DEVSTACK_AMQP_URL names."""

    def __init__(self, url: str) -> None:
        super().__init__("broker", AMQP_VARIABLE)
        self.url = url

    def ctl(self, *arguments: str) -> NoReturn:
        self._refuse(f"controlled by rabbitmqctl {' '.join(arguments)}")


class ExternalDatabase(ExternalService):
    """The database that DEVSTACK_MONGODB_URI names."""

    def __init__(self, uri: str) -> None:
        super().__init__("database", MONGODB_VARIABLE)
        self.uri = uri
