"""Whether this process traces."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from runtime.supervision import Misconfigured

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from runtime.otlp import Trouble

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"

FLUSH_SECONDS: Final = 2.0
"""For which a stop waits, at the most, for the last spans to be exported."""


def asked_by(environment: Mapping[str, str]) -> str | None:
    """Return the standard variable that asks for traces; None when none does.

    Raises Misconfigured for what is asked for and cannot be done.
    """
    given = {name: value for name, text in environment.items() if name.startswith("OTEL_") and (value := text.strip())}
    exporter = given.get(EXPORTER)
    if exporter == "none" or given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    asking = next((name for name in (EXPORTER, *ENDPOINTS) if name in given), None)
    if asking is None:
        return None
    if exporter not in {None, "otlp"}:
        raise Misconfigured(f"{EXPORTER} must be otlp or none")
    for name in ENDPOINTS:
        if not given.get(name, "http://").startswith(("http://", "https://")):
            raise Misconfigured(f"{name} must start with http:// or https://")
    protocol = next((name for name in PROTOCOLS if name in given), None)
    if protocol is not None and given[protocol] != SPOKEN:
        raise Misconfigured(f"{protocol} must be {SPOKEN}")
    return asking


@asynccontextmanager
async def tracing(service: str, trouble: "Trouble", *, drain_seconds: float) -> AsyncIterator["Tracer | None"]:
    """Yield what begins spans, or None when nobody asks for them; on leaving, export what is left.

    `service` is its name, unless the environment names it. Leaving takes a small part of the `drain_seconds` that a
    stop may take. Raises Misconfigured, also when the packages are missing.
    """
    asking = asked_by(os.environ)
    if asking is None:
        yield None
        return
    try:
        from runtime.otlp import exporting  # noqa: PLC0415 - an extra, and nothing of it is loaded without need
    except ImportError as exc:
        raise Misconfigured(f"{asking} asks for traces, which need an extra: pip install 'usage-ingest[otel]'") from exc
    async with exporting(service, trouble, min(FLUSH_SECONDS, drain_seconds / 4)) as tracer:
        yield tracer
