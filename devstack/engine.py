"""Look for a Docker engine."""

import os
from functools import cache
from pathlib import Path

SIGNS = ("/var/run/docker.sock", "~/.docker/config.json", "~/.testcontainers.properties")
ANSWER_LIMIT = 5


@cache
def engine_answers() -> bool:
    """Whether testcontainers would find an engine that answers."""
    # Its libraries take half a second to load, so not without a sign that an engine may be there.
    if "DOCKER_HOST" not in os.environ and not any(Path(sign).expanduser().exists() for sign in SIGNS):
        return False
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415

    try:
        client = DockerClient(timeout=ANSWER_LIMIT).client
    except (DockerException, OSError):
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()
