"""Taking dead letters out of the queue: by replay, or for ever."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from aiormq.abc import AbstractChannel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic
from pamqp.common import FieldTable

from contract import topology
from contract.connection import BrokerUnavailable, translated
from contract.event import Source
from contract.fields import current_time
from contract.origin import REQUESTS
from contract.publisher import Refused, Unroutable
from worker.database import Database
from worker.dead_letters.browsing import Browser
from worker.dead_letters.letter import DeadLetter
from worker.dead_letters.rounds import Round
from worker.dead_letters.selection import Tally
from worker.delivery import REPLAY
from worker.ledger import stamp_fields

CONFIRM_TIMEOUT: Final = 10.0
"""Seconds; a broker that takes longer is frozen, or blocked by an alarm."""

Obstacle = BrokerUnavailable | Refused
Clear = Callable[[Sequence[DeadLetter]], Awaitable[Sequence[Obstacle | None]]]
"""Makes letters superfluous: returns None for each that can be settled now, else what stands against it."""


async def clear(browser: Browser, round_: Round, act: Clear) -> Tally:
    """Go through the letters, and settle those that are meant once `act` has cleared them.

    Whatever ends this half-way, a letter lies in the queue until it is cleared, and clearing it again does no harm.

    Raises BrokerUnavailable, Refused, and whatever `act` raises.
    """
    while (meant := await round_.next()) is not None:
        obstacles = await act([held.letter for held in meant])
        cleared = [held for held, obstacle in zip(meant, obstacles, strict=True) if obstacle is None]
        await browser.settle(cleared)
        for held in cleared:
            round_.tally.note(held.letter)
        for obstacle in filter(None, obstacles):
            if isinstance(obstacle, Refused):
                await browser.finish()
            raise obstacle
    await browser.finish()
    return round_.tally


class Replay:
    """Sends letters once more, as the messages that they were."""

    def __init__(self, channel: AbstractChannel) -> None:
        """`channel` confirms, and raises what comes back."""
        self._channel = channel

    async def __call__(self, letters: Sequence[DeadLetter]) -> list[Obstacle | None]:
        """Send all of them; what the broker has not confirmed is an obstacle."""
        return list(await asyncio.gather(*map(self._send, letters)))

    async def _send(self, letter: DeadLetter) -> Obstacle | None:
        exchange, routing_key = _route(letter)
        try:
            with translated():
                await self._channel.basic_publish(
                    letter.body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=_properties(letter),
                    mandatory=True,
                    timeout=CONFIRM_TIMEOUT,
                )
        except BrokerUnavailable as exc:
            return _explained(exc)
        return None


def _route(letter: DeadLetter) -> tuple[str, str]:
    """The exchange says to the worker what source it is; neither of the two has an alternate exchange."""
    return (topology.EXCHANGE, topology.ROUTING_KEY) if letter.source is Source.HTTP else ("", topology.QUEUE)


def _properties(letter: DeadLetter) -> Basic.Properties:
    # A whole message is entered under its own number: for the books it was never anything but late.
    headers: FieldTable = {REPLAY: str(letter.key)} if letter.stamp is None else letter.stamp.to_headers()
    if letter.requests:
        headers[REQUESTS] = letter.headers[REQUESTS]
    return Basic.Properties(content_type="application/json", delivery_mode=2, headers=headers)


def _explained(exc: BrokerUnavailable) -> Obstacle:
    # A broker that refuses is there: the connection is closed in order, and what was settled before stays so.
    match exc.__cause__:
        case TimeoutError():
            return BrokerUnavailable(f"the broker does not confirm within {CONFIRM_TIMEOUT:g} s")
        case PublishError():
            return Unroutable("no queue is bound where dead letters are replayed to")
        case DeliveryError():
            return Refused("the queue does not take more messages")
    return exc


class Purge:
    """Enters letters into the ledger as purged, so that the books know where they went."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, letters: Sequence[DeadLetter]) -> list[None]:
        """Enter all of them, durably. Raises DatabaseUnavailable."""
        now = current_time()
        # At once: the database writes its journal for many of them together.
        await asyncio.gather(*(self._database.enter([to_row(letter, now)]) for letter in letters))
        return [None] * len(letters)


def to_row(letter: DeadLetter, now: datetime) -> dict[str, Any]:
    """Return what the ledger keeps of a purged letter: of a whole message with a stamp, all that it claims."""
    row: dict[str, Any] = {"_id": {"purged": letter.key}, "reason": letter.reason.value, "at": now}
    if letter.stamp is None:
        return row
    stamp = letter.stamp
    return {**row, "publisher": stamp.publisher, "seq": stamp.seq, "events": stamp.events, **stamp_fields(stamp)}
