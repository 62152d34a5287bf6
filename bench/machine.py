"""What was measured on: figures of another machine, or of other versions, are other figures."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient

from contract.connection import connect
from devstack import Devstack

LIBRARIES: Final = (
    "aiohttp",
    "uvloop",
    "aio-pika",
    "aiormq",
    "motor",
    "pymongo",
    "pydantic",
    "jiter",
    "msgspec",
    "fastapi",
    "faststream",
    "uvicorn",
)


async def describe(stack: Devstack) -> dict[str, str]:
    """Return what there is, and of which version."""
    found = {
        "cores": f"{len(os.sched_getaffinity(0))} of {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, {platform.machine()}",
        "Python": platform.python_version(),
        "RabbitMQ": await _broker_version(stack.broker.url),
        "MongoDB": await _database_version(stack.database.uri),
    }
    if node := _output("node", "--version"):
        found["Node"] = node.removeprefix("v")
    if wrk := _output("wrk", "-v"):
        found["wrk"] = wrk.split()[1]
    return found | {name: _installed(name) for name in LIBRARIES}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a table of the kernel, not a file
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


async def _broker_version(url: str) -> str:
    async with connect(url, name="bench") as connection:
        return str(connection.server.get("version", "unknown"))


async def _database_version(uri: str) -> str:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        return str((await client.server_info())["version"])
