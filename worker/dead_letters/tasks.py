"""What each command does with the dead letters, from connecting to the last line."""

import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import typer

from contract.connection import BrokerConnection, connect
from contract.event import encode_json
from worker.dead_letters.browsing import Browser
from worker.dead_letters.clearing import Clear, Purge, Replay, clear
from worker.dead_letters.letter import DeadLetter
from worker.dead_letters.rounds import Pace, Round
from worker.dead_letters.selection import Selection, Tally
from worker.dead_letters.view import HEADING, to_document, to_item, to_line, to_summary
from worker.progress import Progress
from worker.settings import Settings
from worker.tool import Stop, opened_database, tell

NAME: Final = "usage-dead-letters"
"""What an operator sees in the broker's list of connections."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Prints the letters as they come, and a summary to stderr."""

    selection: Selection
    limit: int | None
    json: bool

    async def __call__(self, settings: Settings, stop: Stop) -> None:
        """Raises BrokerUnavailable, BrokerMisconfigured, DeadLettersBusy, as all of these do."""
        # On one terminal the two would write over each other.
        with _pace(stop, is_silent=sys.stdout.isatty()) as pace:
            async with _connected(settings) as connection:
                round_ = Round(await Browser.open(connection), self.selection, pace)
                await self._print(round_)
        tell(f"{_letters(round_.tally.total)} of {round_.tally.read:,} read")
        for reason, count in sorted(round_.tally.by_reason().items()):
            tell(f"{count:>9,}  {reason}")

    async def _print(self, round_: Round) -> None:
        if not self.json:
            typer.echo(HEADING)
        tally = round_.tally
        while (self.limit is None or tally.total < self.limit) and (meant := await round_.next()) is not None:
            for held in meant[: None if self.limit is None else self.limit - tally.total]:
                typer.echo(encode_json(to_item(held.letter)) if self.json else to_line(held.letter))
                tally.note(held.letter)


@dataclass(frozen=True, slots=True)
class Finding:
    """Looks for the first letter that is meant."""

    selection: Selection

    async def __call__(self, settings: Settings, stop: Stop) -> DeadLetter | None:
        """Return it; None when there is none."""
        with _pace(stop) as pace:
            async with _connected(settings) as connection:
                round_ = Round(await Browser.open(connection), self.selection, pace)
                while (meant := await round_.next()) is not None:
                    if meant:
                        return meant[0].letter
        return None


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts the letters that are meant, and prints how many there are of each kind."""

    selection: Selection
    json: bool
    to_stderr: bool = False

    async def __call__(self, settings: Settings, stop: Stop) -> Tally:
        """Return the count."""
        with _pace(stop) as pace:
            async with _connected(settings) as connection:
                tally = await Round(await Browser.open(connection), self.selection, pace).survey()
        _report(tally, "would take", json=self.json, to_stderr=self.to_stderr)
        return tally


@dataclass(frozen=True, slots=True)
class Replaying:
    """Sends the letters that are meant to the worker once more."""

    selection: Selection
    json: bool

    async def __call__(self, settings: Settings, stop: Stop) -> Tally:
        """Return what was sent."""
        async with _connected(settings) as connection:
            act = Replay(await connection.driver_channel())
            browser = await Browser.open(connection)
            with _pace(stop) as pace:
                round_ = Round(browser, self.selection, pace)
                return await _clear(browser, round_, act, "replayed", json=self.json)


@dataclass(frozen=True, slots=True)
class Purging:
    """Takes the letters that are meant away, when the ledger has their keys."""

    selection: Selection
    json: bool
    most: int | None = None
    """Letters to read, at the most."""

    async def __call__(self, settings: Settings, stop: Stop) -> Tally:
        """Return what was taken away. Raises DatabaseUnavailable, DatabaseMisconfigured, too."""
        async with opened_database(settings) as database, _connected(settings) as connection:
            browser = await Browser.open(connection)
            with _pace(stop) as pace:
                round_ = Round(browser, self.selection, pace, most=self.most)
                return await _clear(browser, round_, Purge(database), "purged", json=self.json)


async def _clear(browser: Browser, round_: Round, act: Clear, verb: str, *, json: bool) -> Tally:
    try:
        return await clear(browser, round_, act)
    finally:
        # Also of what was done before something went wrong.
        _report(round_.tally, verb, json=json)


def _report(tally: Tally, verb: str, *, json: bool, to_stderr: bool = False) -> None:
    tell(f"{verb} {_letters(tally.total)} of {tally.read:,} read")
    lines = [encode_json(to_document(tally)).decode()] if json else to_summary(tally)
    for line in lines:
        typer.echo(line, err=to_stderr)


def _letters(count: int) -> str:
    return "1 letter" if count == 1 else f"{count:,} letters"


@contextmanager
def _pace(stop: Stop, *, is_silent: bool = False) -> Iterator[Pace]:
    """Tell of the progress, and go on until told to stop."""
    progress = Progress()

    def pace(done: int, total: int) -> bool:
        if not is_silent:
            progress.note(done, total)
        return not stop.is_due()

    try:
        yield pace
    finally:
        progress.close()


def _connected(settings: Settings) -> AbstractAsyncContextManager[BrokerConnection]:
    return connect(settings.amqp_url, name=NAME)
