"""Showing what is going on, sample after sample."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager

import typer
from rich.console import Console
from rich.live import Live

from contract.event import encode_json
from worker.operate.keyboard import heard
from worker.operate.sample import Sample
from worker.operate.sampling import Plan, samples
from worker.operate.screen import UNBOUNDED, draw
from worker.settings import Settings

Show = Callable[[Sample], None]
Showing = Callable[[], AbstractContextManager[Show]]


async def run(plan: Plan, showing: Showing, settings: Settings) -> None:
    """Take the samples of the plan, and show each; until they end, a signal comes, or q is pressed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with showing() as show, heard("q", stop.set):
        async with aclosing(samples(plan, settings.amqp_url, stop)) as taken:
            async for sample in taken:
                show(sample)


@contextmanager
def on_screen() -> Iterator[Show]:
    """Fill the terminal with the newest."""
    with Live(screen=True, auto_refresh=False) as live:
        yield lambda sample: live.update(draw(sample, live.console.width), refresh=True)


@contextmanager
def as_text() -> Iterator[Show]:
    """Print each, however wide."""
    console = Console(width=UNBOUNDED, highlight=False)
    yield lambda sample: console.print(draw(sample, UNBOUNDED))


@contextmanager
def as_json() -> Iterator[Show]:
    """Print each as a line of JSON."""
    yield lambda sample: typer.echo(encode_json(sample.to_document()))
