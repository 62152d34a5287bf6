"""The command that checks what an ingest process needs."""

from typing import Final

from ingest.credentials import Credentials
from ingest.settings import Settings
from preflight.broker import check_broker
from preflight.check import Check
from preflight.clock import check_synchronized
from preflight.command import make_command
from preflight.ports import check_port
from runtime.supervision import Misconfigured

EXAMPLES: Final = """Examples:

\b
  usage-ingest check
  usage-ingest check --json --timeout 2
"""


async def look(settings: Settings, seconds: float) -> list[Check]:
    """Look at everything that an ingest process with these settings needs."""
    return [
        check_access(settings),
        await check_port(
            "port",
            settings.host,
            settings.port,
            variables=("INGEST_HOST", "INGEST_PORT"),
            reuse=settings.reuse_port,
        ),
        await check_port(
            "admin port",
            settings.admin_host,
            settings.admin_port,
            variables=("INGEST_ADMIN_HOST", "INGEST_ADMIN_PORT"),
            is_replaceable="admin_port" not in settings.model_fields_set,
        ),
        *await check_broker(settings.amqp_url, variable="INGEST_AMQP_URL", seconds=seconds),
        check_synchronized(),
    ]


def check_access(settings: Settings) -> Check:
    """Read the files of credentials that INGEST_AUTH asks for."""
    modes = settings.auth
    try:
        access = Credentials(
            modes,
            api_keys_file=settings.api_keys_file,
            signing_secrets_file=settings.signing_secrets_file,
        ).access
    except Misconfigured as exc:
        mend = (
            "put the file in order, or back: `usage-ingest keys create` makes one of API keys, "
            "docs/http.md shows the other"
        )
        return Check.wrong("access", str(exc), mend)
    keys, secrets = len(access.keyring.keys), sum(map(len, access.secrets.by_project.values()))
    found = str(modes)
    if modes.api_key:
        found += f"; {keys} API keys"
    if modes.signature:
        found += f"; {secrets} signing secrets"
    if not (modes.open or keys or secrets):
        mend = (
            "make an API key with `usage-ingest keys create`, or write a signing secret into its file, "
            "as docs/http.md shows"
        )
        return Check.warning("access", f"{found}: nobody may record", mend)
    return Check.ok("access", found)


check = make_command(Settings, look)
