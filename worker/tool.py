"""How a command of the worker's runs: with its settings, until it is done or told to stop, to an exit code."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import structlog
import typer

from contract.connection import BrokerMisconfigured, BrokerUnavailable
from contract.publisher import Refused
from runtime import logs
from runtime.redaction import redact
from runtime.settings import load
from runtime.supervision import ExitCode, Misconfigured
from worker.database import Database
from worker.database_errors import DatabaseMisconfigured, DatabaseUnavailable, WriteConflict
from worker.glance import DeadLettersBusy
from worker.settings import Settings

log = structlog.get_logger(__name__)

BY_SIGNAL: Final = 128
"""Plus its number: the exit code of what a signal has ended early."""

SNAPSHOT_SECONDS: Final = 300.0
"""For so long the server keeps one moment to be read, by default."""

T = TypeVar("T")


class Stop:
    """The first SIGINT or SIGTERM, which is heeded where stopping is safe; a second one ends the process at once."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_heeded = False

    def watch(self) -> None:
        """Listen from now on, for as long as the event loop runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note, number)

    def _note(self, number: signal.Signals) -> None:
        self._number = number
        tell("stopping when the letters under way are done with")
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(one)

    def is_due(self) -> bool:
        """Whether to stop; whoever asks, does."""
        self._is_heeded = self._number is not None
        return self._is_heeded

    @property
    def exit_code(self) -> int:
        """0 when everything was done before the signal came, or none did."""
        return BY_SIGNAL + self._number if self._is_heeded and self._number is not None else 0


def run_tool(work: Callable[[Settings, Stop], Awaitable[T]]) -> T:
    """Run `work(settings, stop)`, and return what it returns.

    Raises typer.Exit: 75 when broker or database are unavailable, or somebody else reads the dead letters, 78 when the
    settings are wrong, each with a sentence on stderr; 70 for a bug; 128 and the signal's number when one has stopped
    the work.
    """
    stop = Stop()

    async def watched(settings: Settings) -> T:
        stop.watch()
        return await work(settings, stop)

    result = run_query(watched)
    if stop.exit_code:
        raise typer.Exit(stop.exit_code)
    return result


def run_query(work: Callable[[Settings], Coroutine[Any, Any, T]]) -> T:
    """Run `work(settings)`, which changes nothing and so may be ended by a signal anywhere, and return what it returns.

    Raises typer.Exit as `run_tool` does, but for the signal's number.
    """
    with _refusing():
        settings = load(Settings)
        logs.configure(settings.log_level, secrets=settings.secrets())
        return asyncio.run(work(settings))


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, once it has let us in. Raises DatabaseUnavailable, DatabaseMisconfigured."""
    async with _database(settings, settings.mongodb_timeout) as database:
        await database.check()
        yield database


@asynccontextmanager
async def patient_database(settings: Settings) -> AsyncIterator[Database]:
    """The same for reading all of it: one operation may take as long as the server keeps a snapshot."""
    async with opened_database(settings):
        pass
    async with _database(settings, SNAPSHOT_SECONDS) as database:
        yield database


@asynccontextmanager
async def _database(settings: Settings, timeout_seconds: float) -> AsyncIterator[Database]:
    database = Database(settings.mongodb_uri, settings.mongodb_database, timeout_seconds=timeout_seconds)
    try:
        yield database
    finally:
        await database.close()


def tell(text: str) -> None:
    """Say something to whoever runs the command: data goes to stdout, talk to stderr."""
    typer.echo(text, err=True)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say on stderr what stands in the way, and raise typer.Exit with the code that `run_tool` describes."""
    try:
        yield
    except Misconfigured as exc:
        raise _exit(ExitCode.MISCONFIGURED, str(exc)) from exc
    except BrokerMisconfigured as exc:
        raise _exit(ExitCode.MISCONFIGURED, f"WORKER_AMQP_URL cannot be used: {exc}") from exc
    except DatabaseMisconfigured as exc:
        raise _exit(ExitCode.MISCONFIGURED, f"WORKER_MONGODB_URI cannot be used: {exc}") from exc
    except DeadLettersBusy as exc:
        raise _exit(ExitCode.FORCED, f"{exc}: try again when that is done") from exc
    except (BrokerUnavailable, Refused) as exc:
        raise _exit(ExitCode.FORCED, str(exc)) from exc
    except (DatabaseUnavailable, WriteConflict) as exc:
        raise _exit(ExitCode.FORCED, f"the database is unavailable: {exc}") from exc
    except BrokenPipeError:
        # A reader of ours that has hung up, which is not for us to judge.
        raise
    except Exception as exc:
        # Not as Python would end, by 1: that has a meaning of its own.
        log.exception("unexpected error")
        raise typer.Exit(ExitCode.UNEXPECTED.value) from exc


def _exit(code: ExitCode, text: str) -> typer.Exit:
    tell(redact(text))
    return typer.Exit(code.value)
