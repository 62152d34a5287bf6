"""The life of a process under a supervisor: signals in, an exit code out."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import IntEnum

import structlog

from runtime.redaction import redact

log = structlog.get_logger(__name__)


class ExitCode(IntEnum):
    """What a supervisor learns from our end; the numbers are those of sysexits.h."""

    STOPPED = 0
    UNEXPECTED = 70
    FORCED = 75
    MISCONFIGURED = 78


class Misconfigured(Exception):
    """The process cannot work as it is set up, and a restart would not help; the text says what to change."""


def run(
    serve: Callable[[asyncio.Event], Awaitable[None]],
    *,
    drain_seconds: float,
    on_stop: Callable[[], None] = lambda: None,
) -> ExitCode:
    """Run `serve(stop)` until it returns, and say how the process should exit.

    The first SIGTERM or SIGINT sets `stop`, after `on_stop()`: `serve` finishes what it accepted and returns. A second
    signal, or `drain_seconds` after the first, ends the process at once: what was not settled is still in the queue.
    """
    try:
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(_supervise(serve, drain_seconds, on_stop))
    except Misconfigured as exc:
        return refuse(exc)
    except (Exception, asyncio.CancelledError):
        # Nobody cancels us: that one comes out of a driver.
        log.exception("unexpected error")
        return ExitCode.UNEXPECTED
    return ExitCode.STOPPED


def refuse(exc: Misconfigured) -> ExitCode:
    """Say what to change, as a sentence for a person whatever the log format."""
    print(redact(str(exc)), file=sys.stderr)  # noqa: T201
    return ExitCode.MISCONFIGURED


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _supervise(
    serve: Callable[[asyncio.Event], Awaitable[None]], drain_seconds: float, on_stop: Callable[[], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _force("second signal")
        log.info("stopping", drain_seconds=drain_seconds)
        on_stop()
        stop.set()
        loop.call_later(drain_seconds, _force, "drain deadline")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await serve(stop)
    log.info("stopped")


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but not through a stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _force(why: str) -> None:
    # Not by an exception: what hangs may hang in a finally clause, too.
    log.error("stopped by force", why=why)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.FORCED)
