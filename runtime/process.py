"""A process of ours from its first line to its exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from runtime import logs
from runtime.settings import SettingsT, load
from runtime.supervision import ExitCode, Misconfigured, refuse, run


def run_process(
    settings_type: type[SettingsT], serve: Callable[[SettingsT, asyncio.Event], Awaitable[None]]
) -> ExitCode:
    """Read the settings, set up the logs, and run `serve(settings, stop)` until it returns."""
    try:
        settings = load(settings_type)
    except Misconfigured as exc:
        return refuse(exc)
    logs.configure(settings.log_level)
    return run(partial(serve, settings), drain_seconds=settings.drain_timeout)
