"""Writing a batch, and settling its messages."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final
from uuid import UUID

import structlog
from aiormq.abc import AbstractChannel

from contract.cancellation import end
from contract.connection import BrokerUnavailable, translated
from contract.event import Rejected
from contract.incident import Incident
from worker.batching import Batch, Message
from worker.encoding import NO_DRAFTS, Drafts
from worker.ledger import STAMPED_EVENTS, Entry, split, weigh
from worker.parking import DeadLetters
from worker.parking_log import ParkingLog
from worker.plan import Outcome
from worker.policies import BatchPolicy
from worker.store import NotAtOnce, Park, Store
from worker.vitals import Vitals

log = structlog.get_logger(__name__)

PARK_PATIENCE: Final = 3.0
"""Seconds for which a batch, or a stop, waits for dead letters to be confirmed."""

SMALL_TRANSACTION: Final = 1_000
"""Events: to no fewer is limited what comes after a batch for which the server had no room."""
SMALL_SECONDS: Final = 600.0
"""After which it is tried whether it has room for more again."""


class ParkingBlocked(Exception):
    """The broker does not confirm dead letters, as in an alarm; these were to be parked."""

    def __init__(self, keys: frozenset[UUID]) -> None:
        super().__init__("the broker does not confirm dead letters")
        self.keys = keys


class Settler:
    """Writes the batches of one session, one after the other, and acknowledges what is stored or parked.

    In an alarm, which only consuming may end, the broker takes no dead letters. Then the messages that have something
    to be parked are set aside, unacknowledged, until it does, and the others are stored and acknowledged without them.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        dead_letters: DeadLetters,
        store: Store,
        policy: BatchPolicy,
        *,
        abandoned: Callable[[], bool],
        vitals: Vitals,
    ) -> None:
        """Prepare; `abandoned` says whether to give up what does not work at once: it will be delivered again."""
        self._channel = channel
        self._dead_letters = dead_letters
        self._store = store
        self._limit = self._most = max(2 * policy.events, STAMPED_EVENTS)
        """How many events one transaction may have, and may have for now."""
        self._small_until = 0.0
        self._abandoned = abandoned
        self._vitals = vitals
        self.acknowledged = 0
        """How many messages are done with."""
        self._parked = ParkingLog()
        self._blocked = Incident("dead letters blocked", "dead letters parked")
        self._aside: list[Message] = []
        self._parking: asyncio.Task[None] | None = None
        self._under_way: dict[UUID, asyncio.Task[None]] = {}
        """Dead letters that were published, and nobody has heard yet whether they are confirmed."""

    async def write(self, batch: Batch) -> None:
        """Return when the batch is stored and acknowledged, but for what is set aside.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        began, park = time.monotonic(), _once(self._park_soon)
        try:
            outcome = await self._store_all(batch.entries, park, batch.drafts)
        except ParkingBlocked:
            outcome = await self._store_apart(batch, park)
        else:
            if self._aside:
                await self._acknowledge(batch.apart())
            else:
                await self._acknowledge_up_to(batch.tags[-1])
                self.acknowledged += batch.messages
        outcome += Outcome(copies=batch.copies)
        self._vitals.written(batch.events, batch.redelivered, outcome, time.monotonic() - began)
        log.debug("batch", messages=batch.messages, redelivered=batch.redelivered, **asdict(outcome), **_named(batch))

    async def finish(self) -> None:
        """Return when nothing is set aside any more; raises what `write` does."""
        if self._parking is not None:
            await self._parking

    async def close(self) -> None:
        """Return when nothing is under way any more, whatever became of it."""
        if self._parking is not None:
            await asyncio.gather(self._parking, return_exceptions=True)
        await end(*set(self._under_way.values()))
        self._vitals.set_aside.set(0)  # what was goes back to the queue
        self._parked.tell()

    def look(self) -> None:
        """To be called now and then: raises what ended the work at what is set aside."""
        self._parked.tell_if_due()
        if self._parking is not None and self._parking.done():
            self._parking.result()

    async def _store_all(self, entries: Sequence[Entry], park: Park, drafts: Drafts = NO_DRAFTS) -> Outcome:
        """Store in one transaction, or in several, when there is more than one should hold."""
        if time.monotonic() > self._small_until:
            self._most = self._limit
        total = Outcome()
        waiting = deque(split(entries, self._most))
        while waiting:
            together = waiting.popleft()
            try:
                total += await self._store.write(together, park, abandoned=self._abandoned, drafts=drafts)
            except NotAtOnce as exc:
                half = weigh(together) // 2
                if exc.is_for_size:
                    self._make_smaller(half, exc)
                waiting.extendleft(reversed([*split(together, half)]))
            else:
                self._vitals.lag(together)
        return total

    def _make_smaller(self, events: int, reason: NotAtOnce) -> None:
        most = max(SMALL_TRANSACTION, events)
        if most < self._most:
            self._most, self._small_until = most, time.monotonic() + SMALL_SECONDS
            log.warning("transactions made smaller", events=most, error=str(reason))

    async def _store_apart(self, batch: Batch, park: Park) -> Outcome:
        """Store what has nothing to be parked, and set the rest aside."""
        messages = batch.apart()
        while True:
            try:
                outcome = await self._store_all(_entries(messages), park)
            except ParkingBlocked as exc:
                blocked = [one for one in messages if not exc.keys.isdisjoint(one.entry.letter_keys())]
                # One whose entry had to be given another identity is not known by its keys.
                self._set_aside(blocked or messages)
                messages = [one for one in messages if one not in blocked] if blocked else []
            else:
                await self._acknowledge(messages)
                return outcome

    def _set_aside(self, messages: Sequence[Message]) -> None:
        self._aside += messages
        self._vitals.set_aside.set(len(self._aside))
        if self._parking is None or self._parking.done():
            self._blocked.note(messages=len(self._aside))
            self._parking = asyncio.create_task(self._settle_aside())

    async def _settle_aside(self) -> None:
        while messages := self._aside[:]:
            await self._store_all(_entries(messages), _once(self._park_late))
            await self._acknowledge(messages)
            del self._aside[: len(messages)]
            self._vitals.set_aside.set(len(self._aside))
            self._blocked.end(messages=len(messages))

    async def _acknowledge_up_to(self, tag: int) -> None:
        """Acknowledge a whole batch, by one frame; the caller has written all that came before it, too."""
        with translated():
            await self._channel.basic_ack(tag, multiple=True, wait=False)

    async def _acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge these, one by one: what was delivered between them may still be under way."""
        with translated():
            for message in messages:
                await self._channel.basic_ack(message.tag, wait=False)
        self.acknowledged += len(messages)

    async def _park_soon(self, letters: Mapping[UUID, Rejected]) -> None:
        """Park; raises ParkingBlocked when that takes long, or is known to."""
        if self._aside:
            raise ParkingBlocked(frozenset(letters))
        await self._park(letters, patient=False)

    async def _park_late(self, letters: Mapping[UUID, Rejected]) -> None:
        """Park, for as long as it takes."""
        await self._park(letters, patient=True)

    async def _park(self, letters: Mapping[UUID, Rejected], *, patient: bool) -> None:
        parking = self._publish(letters)
        while waiting := [task for task in parking if not task.done()]:
            await asyncio.wait(waiting, timeout=PARK_PATIENCE)
            self._vitals.alive()
            if all(task.done() for task in parking):
                break
            if self._abandoned():
                await end(*parking)
                raise BrokerUnavailable("the broker does not confirm dead letters")
            if not patient:
                raise ParkingBlocked(frozenset(letters))
        for task in parking:
            task.result()
        for key in letters:
            del self._under_way[key]
        self._vitals.parked(letters.values())
        self._parked.note(letters)

    def _publish(self, letters: Mapping[UUID, Rejected]) -> set[asyncio.Task[None]]:
        """Publish what is not under way yet; what is, would lie there twice."""
        if new := {key: rejected for key, rejected in letters.items() if key not in self._under_way}:
            self._under_way |= dict.fromkeys(new, asyncio.create_task(self._dead_letters.park(new)))
        return {self._under_way[key] for key in letters}


def _named(batch: Batch) -> dict[str, object]:
    """The messages that have a name; thousands of them are spelled only for somebody to read."""
    return {"stamps": [str(name) for name in batch.single]} if log.is_enabled_for(logging.DEBUG) else {}


def _once(park: Park) -> Park:
    """Park nothing again under a key that is confirmed: what is stored in parts may come by more than once."""
    confirmed: set[UUID] = set()

    async def park_once(letters: Mapping[UUID, Rejected]) -> None:
        if new := {key: rejected for key, rejected in letters.items() if key not in confirmed}:
            await park(new)
            confirmed.update(new)

    return park_once


def _entries(messages: Sequence[Message]) -> list[Entry]:
    """The entries of messages, each once: a copy shares that of its original."""
    return [entry for entry in {id(one.entry): one.entry for one in messages}.values() if not entry.is_empty]
