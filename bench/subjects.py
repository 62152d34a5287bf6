"""What is measured: ours, the limit, and the peers, each a process that takes the same request."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from devstack.ports import free_port

ROOT: Final = Path(__file__).parents[1]
PEERS: Final = Path(__file__).parent / "peers"
PROJECT: Final = "proj_nCBo0AB7UWpj"
PATH: Final = f"/api/billing/public/projects/{PROJECT}/usage"
START_LIMIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to take records."""

    name: str
    what: str
    queue: str | None = None
    """Where it publishes, to be emptied afterwards; None: nowhere, or where a worker empties it."""


BARE: Final = Subject("bare", "aiohttp that reads the body and answers: the limit")
OURS: Final = Subject("ingest", "usage-ingest")
NAIVE: Final = Subject("naive", "aiohttp + pydantic + aio-pika, one confirmed publish per request", "bench.naive")
FASTSTREAM: Final = Subject("faststream", "FastAPI + FastStream, the same", "bench.faststream")
NODE: Final = Subject("node", "fastify + amqplib on a confirm channel, the same", "bench.node")


def all_subjects() -> list[Subject]:
    """Those that can be run here: Node's needs node, with its modules."""
    has_node = shutil.which("node") is not None and (PEERS / "node" / "node_modules").exists()
    return [BARE, OURS, NAIVE, FASTSTREAM, *([NODE] if has_node else [])]


@contextmanager
def running(
    subject: Subject, amqp_url: str, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[str, psutil.Process]]:
    """Run a subject, with these settings beside its own, for the length of a block; its URL, and its process."""
    port = free_port()
    own = _settings(subject, port, amqp_url) | dict(settings or {})
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        _command(subject, port, amqp_url),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_port(port, process)
        yield f"http://127.0.0.1:{port}{PATH}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _command(subject: Subject, port: int, amqp_url: str) -> list[str]:
    if subject is OURS:
        return [sys.executable, "-m", "ingest"]
    if subject is NODE:
        return ["node", str(PEERS / "node" / "server.js"), str(port), amqp_url]
    return [sys.executable, "-m", f"bench.peers.{subject.name}", str(port), amqp_url]


def _settings(subject: Subject, port: int, amqp_url: str) -> dict[str, str]:
    if subject is not OURS:
        return {}
    return {
        "INGEST_AMQP_URL": amqp_url,
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": str(port),
        "INGEST_ADMIN_PORT": str(free_port()),
    }


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + START_LIMIT
    while True:
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"what should listen on {port} did not start")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    # What listens may still be connecting to the broker.
    time.sleep(1)
