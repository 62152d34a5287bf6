"""Where a broker or a database comes from: the environment, else Docker, else this machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from devstack.broker import LocalBroker
from devstack.database import LocalDatabase
from devstack.engine import engine_answers
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE, ExternalBroker, ExternalDatabase
from devstack.service import Broker, Database


def find_broker(directory: Path) -> Broker:
    """A broker, not started yet. Raises Unavailable."""
    if url := os.environ.get(AMQP_VARIABLE):
        return ExternalBroker(url)
    if engine_answers():
        from devstack.containers import ContainerBroker  # noqa: PLC0415  half a second, for those with Docker alone

        return ContainerBroker()
    return LocalBroker(directory / "broker")


def find_database(directory: Path, *, mongod_arguments: Sequence[str], cache_gb: float) -> Database:
    """A database, not started yet. Raises Unavailable."""
    if uri := os.environ.get(MONGODB_VARIABLE):
        return ExternalDatabase(uri)
    if engine_answers():
        from devstack.containers import ContainerDatabase  # noqa: PLC0415

        return ContainerDatabase(mongod_arguments, cache_gb)
    return LocalDatabase(directory / "database", arguments=mongod_arguments, cache_gb=cache_gb)
