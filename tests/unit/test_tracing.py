"""Whether a process traces: asked by the standard variables, and nothing is loaded unless it is."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from runtime.supervision import Misconfigured
from runtime.tracing import asked_by
from tests.support.processes import ROOT

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
TRACES_ENDPOINT = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}

NOBODY = "127.0.0.1:9"
"""Where nobody listens."""

SERVING = {"ingest": "ingest.__main__", "worker": "worker.serving"}
"""Where each process is put together."""

SERVED_ONCE = """
import asyncio, sys
from runtime.notify import Supervisor
from runtime.settings import load
from {serving} import serve
from {module}.settings import Settings

async def main():
    stop = asyncio.Event()
    stop.set()
    await serve(load(Settings), Supervisor.from_environment(), stop)

asyncio.run(main())
print(sum(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""

WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from {module}.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("environment", "asking"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        (ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (TRACES_ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, None),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_TRACES_EXPORTER": ""}, None),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
    ],
)
def test_traces_are_asked_for_by_the_standard_variables(environment: Mapping[str, str], asking: str | None) -> None:
    assert asked_by(environment) == asking


@pytest.mark.parametrize(
    ("environment", "wrong"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp,console"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://c"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(environment: Mapping[str, str], wrong: str) -> None:
    with pytest.raises(Misconfigured, match=f"^{wrong} must "):
        asked_by(environment)


def run(program: str, module: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program about a process of ours, where neither broker nor database is."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("INGEST_", "WORKER_", "OTEL_"))}
    away = {
        "INGEST_AMQP_URL": f"amqp://guest:guest@{NOBODY}/",
        "INGEST_PORT": "0",
        "INGEST_ADMIN_PORT": "0",
        "WORKER_MONGODB_URI": f"mongodb://{NOBODY}/",
        "WORKER_ADMIN_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", program.format(module=module, serving=SERVING[module])],
        cwd=ROOT,
        env={**kept, **away, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("module", SERVING)
def test_nothing_of_opentelemetry_is_loaded_unless_traces_are_asked_for(module: str) -> None:
    def loaded(environment: Mapping[str, str]) -> int:
        done = run(SERVED_ONCE, module, environment)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    assert loaded({}) == 0
    assert loaded(ENDPOINT) > 0


@pytest.mark.parametrize("module", SERVING)
def test_who_asks_for_traces_without_their_packages_is_told_what_to_install(module: str) -> None:
    done = run(WITHOUT_THE_EXTRA, module, ENDPOINT)
    assert done.returncode == 78, done.stderr
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("OTEL_EXPORTER_OTLP_ENDPOINT ")
    assert "pip install 'usage-ingest[otel]'" in sentence
