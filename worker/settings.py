"""Every knob of the worker process."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from runtime.settings import Port, ProcessSettings, Seconds


def _check_mongodb_uri(text: str) -> str:
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("it must start with mongodb:// or mongodb+srv://")
    return text


class Settings(ProcessSettings):
    """Read from variables that start with WORKER_."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    mongodb_uri: Annotated[str, AfterValidator(_check_mongodb_uri)] = Field(
        "mongodb://127.0.0.1:27017/?replicaSet=rs0", description="The database: a replica set, one member is enough."
    )
    mongodb_database: str = Field(
        "usage", pattern=r"^[A-Za-z0-9_-]{1,63}$", description="The name of the database: letters, digits, `_` and `-`."
    )
    mongodb_timeout: Seconds = Field(
        5.0, description="Seconds after which an operation counts as failed and is repeated."
    )
    admin_port: Port = Field(9102, description="The admin port, for `/healthz`, `/readyz` and `/metrics`.")

    batch_events: int = Field(
        10_000,
        gt=0,
        le=100_000,
        description="Events written in one transaction, at the most; fewer where MongoDB's cache has no room for them.",
    )
    batch_bytes: int = Field(8 * 1024 * 1024, gt=0, description="Bytes of messages in one batch, at the most.")
    batch_seconds: float = Field(0.02, ge=0, le=60, description="Seconds a batch waits for more.")
