"""One broker with one database, started when first asked for."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Generic, Self, TypeVar

from devstack.database import CACHE_GB
from devstack.directory import KeptDirectory, VanishingDirectory
from devstack.service import Broker, Database, DidNotStart, Service
from devstack.sources import find_broker, find_database

S = TypeVar("S", bound=Service)


class OnDemand(Generic[S]):
    """A service that is found and started by the first who asks; the others wait for that."""

    def __init__(self, find: Callable[[], S]) -> None:
        self._find = find
        self._lock = Lock()
        self._closed = False
        self._found: S | None = None
        self._started: S | None = None

    def get(self) -> S:
        """The running service. Raises Unavailable, DidNotStart."""
        with self._lock:
            if self._started is None:
                self._found = self._find()
                if self._closed:
                    raise DidNotStart("the stack was closed")
                self._found.start()
                self._started = self._found
            return self._started

    def close(self) -> None:
        """End it, also while another thread is starting it."""
        # Hence without the lock. Here the flag is set before the service is looked at, in `get` it is the other way
        # round, so one of the two sees the other.
        self._closed = True
        if self._found is not None:
            self._found.close()


class Devstack:
    """A broker and a database until the end of the with statement, which leaves no process and no file behind.

    Each is started by the first use of its property (it takes seconds and blocks: in async code, use
    `asyncio.to_thread`), so whoever needs only one does not wait for the other. Threads may share it.

    directory: where data and logs go; it must be new or empty, and stays. None: a temporary one, removed at the end.
    mongod_arguments: more of them, as on a command line. cache_gb: for WiredTiger, in GiB.
    """

    def __init__(
        self, directory: Path | None = None, *, mongod_arguments: Sequence[str] = (), cache_gb: float = CACHE_GB
    ) -> None:
        self._directory = VanishingDirectory() if directory is None else KeptDirectory(directory)
        here = self._directory.path
        self._broker: OnDemand[Broker] = OnDemand(partial(find_broker, here))
        self._database: OnDemand[Database] = OnDemand(
            partial(find_database, here, mongod_arguments=mongod_arguments, cache_gb=cache_gb)
        )

    @property
    def broker(self) -> Broker:
        """Raises Unavailable, DidNotStart."""
        return self._broker.get()

    @property
    def database(self) -> Database:
        """Raises Unavailable, DidNotStart."""
        return self._database.get()

    def start(self) -> Self:
        """Bring up both at once. Raises Unavailable, DidNotStart."""
        with ThreadPoolExecutor(2, "devstack") as threads:
            broker, database = threads.submit(self._broker.get), threads.submit(self._database.get)
            try:
                broker.result()
                database.result()
            except BaseException:
                # Also for Ctrl-C: the threads wait for their services, so these have to go first.
                self.close()
                raise
        return self

    def close(self) -> None:
        """End what was started, which cannot be started again; remove the temporary directory."""
        self._broker.close()
        self._database.close()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
