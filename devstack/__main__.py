"""The whole pipeline on this machine: one sample record, then a live line of counters, until Ctrl-C."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from pymongo import MongoClient
from pymongo.collection import Collection

from devstack import Devstack, DidNotStart, Unavailable
from devstack.application import Application, DidNotDrain
from devstack.live import lines

PORT = 8080
PATH = "/api/billing/public/projects/proj_nCBo0AB7UWpj/usage"
SAMPLE = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}
STORE_LIMIT = 10.0

Events = Collection[dict[str, Any]]


def post_sample(url: str) -> str:
    """Record the sample; the id of its event."""
    request = urllib.request.Request(
        url, data=json.dumps(SAMPLE).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.headers["Usage-Id"])


def show_stored(events: Events, usage_id: str) -> None:
    """Print the sample's document as soon as it is there."""
    limit = time.monotonic() + STORE_LIMIT
    while (document := events.find_one({"_id": UUID(usage_id)})) is None:
        if time.monotonic() > limit:
            raise DidNotStart(f"the sample {usage_id} was not stored within {STORE_LIMIT:g} s")
        time.sleep(0.02)
    for name, value in document.items():
        print(f"    {name:<12} {value}")


def commands(application: Application) -> str:
    """The lines for a shell that let the operator's commands, and the examples, find what runs here."""
    export = " \\\n    ".join(f"{name}={shlex.quote(value)}" for name, value in application.variables.items())
    options = "".join(f" --{module} {url}" for module, url in application.moved.items())
    return f"  export {export}\n  {shlex.quote(os.path.relpath(sys.executable))} -m worker top{options}"


async def watch(application: Application) -> None:
    """Keep one line true, until interrupted."""
    try:
        async for line in lines(application.admin_url("ingest"), application.admin_url("worker")):
            width = shutil.get_terminal_size().columns - 1  # in the last column the cursor would go on to the next line
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
    finally:
        print("\nstopping ...", flush=True)


def show(stack: Devstack, logs: Path) -> None:
    """Bring everything up, prove it with one record, then watch."""
    print("starting broker and database ...", flush=True)
    stack.start()
    with (
        Application(stack.broker.url, stack.database.uri, logs, port=PORT) as application,
        MongoClient[dict[str, Any]](stack.database.uri, uuidRepresentation="standard", tz_aware=True) as client,
    ):
        events = client["usage"]["events"]
        url = f"{application.url}{PATH}"
        usage_id = post_sample(url)
        print(f"\nposted one record, answered 200 with Usage-Id {usage_id}; stored in MongoDB as\n")
        show_stored(events, usage_id)
        print(f"\ndocs      {application.url}/docs")
        print(f"broker    {stack.broker.url}\ndatabase  {stack.database.uri}\nlogs      {logs}\n\ntry it:\n")
        print(f"  curl -i {url} \\\n    -H 'Content-Type: application/json' \\\n    -d '{json.dumps(SAMPLE)}'\n")
        print(f"in another terminal, here:\n\n{commands(application)}\n")
        print("Ctrl-C stops everything.\n")
        asyncio.run(watch(application))


def interrupt(_number: int, _frame: FrameType | None) -> None:
    # Not by raising KeyboardInterrupt: in an event loop it comes up in whatever task is running, which asyncio tells
    # of with tracebacks. Of SIGINT it makes a cancellation of the main task.
    signal.raise_signal(signal.SIGINT)


def end_alike_on_both_signals() -> None:
    """Let SIGTERM do what Ctrl-C does, also in the background of a script, where shells have SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)


def main() -> int:
    """Run until Ctrl-C; the exit code."""
    end_alike_on_both_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="usage-ingest-") as logs, Devstack() as stack:
            show(stack, Path(logs))
    except (Unavailable, DidNotStart, DidNotDrain) as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
