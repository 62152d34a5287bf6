"""From the 200 to the stored event: the time until a reader of the database finds it."""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import UUID

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from bench.checks import STALLED
from bench.workers import Database

LOOK_EVERY: Final = 0.005
"""Seconds between two looks, by which a lag may come out too long; never too short."""
AT_ONCE: Final = 20
"""So many are looked for, that a long queue does not make looking a load of its own."""


@dataclass
class LagSampler:
    """Looks for events again and again until a majority's database has them."""

    database: Database
    lags: list[tuple[float, float]] = field(default_factory=list)
    """When an event was answered with 200, by the monotonic clock, and how many seconds later it was found."""
    _waiting: dict[UUID, float] = field(default_factory=dict)
    _over: bool = False
    _moved: float = 0.0
    """When an event was found last, or asked for."""

    def expect(self, event: UUID, answered_at: float) -> None:
        """Look for one more event."""
        self._waiting[event] = answered_at
        self._moved = time.monotonic()

    def finish(self) -> None:
        """Let `run` return when nothing is looked for any more."""
        self._over = True

    async def run(self) -> None:
        """Look until told to finish, and everything is found, or nothing is found any more."""
        events = self.database.get_collection("events", read_concern=ReadConcern("majority"))
        while (self._waiting and not self._stalled()) or not self._over:
            if self._waiting:
                await self._look(events)
            await asyncio.sleep(LOOK_EVERY)
        # Whether these are lost is judged elsewhere; it has been at least as long as this.
        self.lags += [(answered_at, time.monotonic() - answered_at) for answered_at in self._waiting.values()]

    def _stalled(self) -> bool:
        return time.monotonic() - self._moved > STALLED

    async def _look(self, events: AsyncCollection[dict[str, Any]]) -> None:
        # They are stored in about the order in which they were answered.
        oldest = list(islice(self._waiting, AT_ONCE))
        found = await events.find({"_id": {"$in": oldest}}, {"_id": 1}).to_list()
        now = time.monotonic()
        for document in found:
            answered_at = self._waiting.pop(document["_id"])
            self.lags.append((answered_at, now - answered_at))
            self._moved = now
