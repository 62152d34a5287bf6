"""Every knob of the ingest process."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ingest.auth import Modes
from ingest.credentials import AuthModes
from runtime.settings import Port, ProcessSettings, Seconds

Rate = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Settings(ProcessSettings):
    """Read from variables that start with INGEST_."""

    model_config = SettingsConfigDict(env_prefix="INGEST_")

    host: str = Field("0.0.0.0", description="The address to listen on.")
    port: Port = Field(8080, description="The public port; 0 takes a free one.")
    reuse_port: bool = Field(
        default=False, description="`true`: several processes listen on one port, and the kernel deals out connections."
    )
    admin_port: Port = Field(9101, description="The admin port, for `/healthz`, `/readyz` and `/metrics`.")
    docs: bool = Field(default=True, description="`true`: the public port explains itself at `/docs`.")

    auth: AuthModes = Field(
        Modes(open=True), description="Who may record: `open`, `api-key`, `signature`, or several in a comma list."
    )
    api_keys_file: Path | None = Field(None, description="The API keys, as `python -m ingest keys` writes them.")
    signing_secrets_file: Path | None = Field(None, description="The secrets that signatures are checked with.")
    rate_per_project: Rate = Field(0.0, description="Records a second for one project; 0: no limit.")
    burst_per_project: int = Field(1000, gt=0, description="Records at once for one project, within its rate.")
    rate_per_credential: Rate = Field(0.0, description="Records a second for one credential; 0: no limit.")
    burst_per_credential: int = Field(1000, gt=0, description="Records at once for one credential, within its rate.")

    deadline: Seconds = Field(4.0, description="Seconds from a request's last byte to its answer, at the most.")
    body_timeout: Seconds = Field(10.0, description="Seconds for a body to arrive; beyond: 408.")
    head_timeout: Seconds = Field(15.0, description="Seconds for a request's line and headers to arrive; beyond: 408.")
    keepalive_timeout: Seconds = Field(
        75.0, description="Seconds an idle connection stays open; keep it above your proxy's."
    )
    max_body_bytes: int = Field(65536, gt=0, description="The largest body, inflated; beyond: 413.")
    batch_records: int = Field(
        1000, gt=0, le=10_000, description="Records in one batch request, at the most; beyond: 413."
    )
    batch_body_bytes: int = Field(1048576, gt=0, description="The largest body of a batch, inflated; beyond: 413.")
    max_waiting_bytes: int = Field(
        12 * 1024 * 1024,
        gt=0,
        description="Bytes of all requests under way, 4096 for each beside its body; beyond: 503 at once.",
    )

    group_events: int = Field(500, gt=0, description="Events in one message, at the most.")
    group_bytes: int = Field(262144, gt=0, description="Bytes of one message, at the most.")
    groups_in_flight: int = Field(
        2,
        gt=0,
        le=64,
        description="Messages that await their confirm at once. Beside another, one leaves when full or no smaller.",
    )

    timestamp_seconds_ahead: float = Field(
        300.0, ge=0, le=86400, allow_inf_nan=False, description="How far in the future a timestamp may lie."
    )
    timestamp_days_back: float = Field(
        35.0, ge=0, le=36500, allow_inf_nan=False, description="How far in the past a timestamp may lie."
    )
