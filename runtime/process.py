"""A process of ours from its first line to its exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from runtime import logs
from runtime.notify import Supervisor
from runtime.settings import SettingsT, load
from runtime.supervision import ExitCode, Misconfigured, refuse, run


def run_process(
    settings_type: type[SettingsT], serve: Callable[[SettingsT, Supervisor, asyncio.Event], Awaitable[None]]
) -> ExitCode:
    """Read the settings, set up the logs, and run `serve(settings, supervisor, stop)` until it returns."""
    try:
        settings = load(settings_type)
    except Misconfigured as exc:
        return refuse(exc)
    logs.configure(settings.log_level, secrets=settings.secrets())
    supervisor = Supervisor.from_environment()
    return run(
        partial(serve, settings, supervisor),
        drain_seconds=settings.drain_timeout,
        on_stop=lambda: supervisor.stopping(settings.drain_timeout),
    )
