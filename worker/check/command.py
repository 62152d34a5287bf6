"""The command that checks what a worker needs."""

from typing import Final

from preflight.broker import check_broker
from preflight.check import Check
from preflight.clock import check_synchronized
from preflight.command import make_command
from preflight.ports import check_port
from worker.check.inspection import check_database
from worker.settings import Settings

EXAMPLES: Final = """Examples:

\b
  usage-worker check
  usage-worker check --json --timeout 2
"""


async def look(settings: Settings, seconds: float) -> list[Check]:
    """Look at everything that a worker with these settings needs."""
    return [
        await check_port(
            "admin port",
            settings.admin_host,
            settings.admin_port,
            variables=("WORKER_ADMIN_HOST", "WORKER_ADMIN_PORT"),
            is_replaceable="admin_port" not in settings.model_fields_set,
        ),
        *await check_broker(settings.amqp_url, variable="WORKER_AMQP_URL", seconds=seconds),
        *await check_database(settings.mongodb_uri, settings.mongodb_database, seconds=seconds),
        check_synchronized(),
    ]


check = make_command(Settings, look)
