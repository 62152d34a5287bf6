"""Grouped, confirmed publishing: many events, one message, one confirm."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn
from uuid import uuid4

from aiormq.abc import AbstractChannel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from contract import topology
from contract.backoff import Backoff
from contract.cancellation import end
from contract.connection import (
    BrokerConnection,
    BrokerMisconfigured,
    BrokerUnavailable,
    connect,
    translated,
)
from contract.grouping import DEFAULT_LIMITS, Group, GroupLimits, Sealed
from contract.incident import Incident
from contract.logs import get_logger
from contract.origin import REQUESTS, spell
from contract.stamp import Stamp, Stamper

log = get_logger(__name__)

CONFIRM_TIMEOUT: Final = 2.0
"""Seconds; a broker that takes longer is treated as frozen or blocked, and its connection is replaced."""

SILENCE: Final = 1.0
"""Seconds without a message after which a mark tells what became of the last ones."""


class NotConfirmed(Exception):
    """The broker did not confirm in time: the events may or may not arrive, and may be sent again with the same ids."""


class Refused(Exception):
    """The broker did not take the events: the queue is full."""


class Unroutable(Refused):
    """The broker did not take the events: no queue is bound where they were sent."""


class ConfirmTimeout(BrokerUnavailable):
    """The broker takes longer to confirm than a healthy one ever does: it is frozen, or blocked by an alarm."""


RECONNECT: Final = Backoff(first=0.05, cap=2.0)

NewGroup = Callable[[], Group]
"""Makes an empty group."""


class Observer:
    """Hears what a publisher does; this one does not care."""

    def confirmed(self, stamp: Stamp, seconds: float) -> None:
        """The broker has confirmed the message of this stamp, after so long."""

    def lost(self) -> None:
        """The broker was lost, or could not be reached."""

    def alive(self) -> None:
        """Publishing gets on; or, about once a second, there is nothing to publish."""


class Publisher:
    """Publishes events in groups and answers each caller when the broker has confirmed its group.

    While a group awaits its confirm, arriving events join the next, which leaves after it; or before, when it is full
    or as large as the last one that left, and fewer than `in_flight` are under way. There is no timer: at low load a
    group holds one event and leaves at once, at high load groups grow by themselves.

    Callers who publish again when they are answered would otherwise end up in one group, with a few in the next, and
    while the broker has the large one there is nothing to do. Two groups of one size keep both sides busy.

    A group whose confirm was lost with the connection is republished on the next one, byte for byte, as long as
    somebody waits for it; the store collapses the copy by the events' ids.

    Every message is stamped, so that what became of each can be checked later. A mark, a message without events, tells
    of the last ones when nothing follows them.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        deadline: float = 4.0,
        exchange: str = topology.EXCHANGE,
        routing_key: str = topology.ROUTING_KEY,
        limits: GroupLimits = DEFAULT_LIMITS,
        confirm_timeout: float = CONFIRM_TIMEOUT,
        backoff: Backoff = RECONNECT,
        observer: Observer | None = None,
        new_group: NewGroup = Group,
    ) -> None:
        """Prepare; `run` connects. `deadline` is the longest that `publish` may take, in seconds."""
        self._url = url
        self._name = name
        self._deadline = deadline
        self._exchange = exchange
        self._routing_key = routing_key
        self._limits = limits
        self._confirm_timeout = confirm_timeout
        self._backoff = backoff
        self._observer = observer or Observer()
        self._new_group = new_group
        self._stamper = Stamper(uuid4())
        self._probe: Group | None = None
        self._waiting: deque[Group] = deque()
        self._in_flight = 0
        self._last_events = 1
        """Events in the group that left last, 1 at the least."""
        self._arrival = asyncio.Event()
        self._trouble = Incident("broker lost", "broker ready")
        self._was_ready = False
        self._accepting = False

    @property
    def ready(self) -> bool:
        """Whether the broker has confirmed something since it last failed to."""
        return self._accepting

    async def publish(self, events: Sequence[bytes], request: str | None = None) -> None:
        """Return when the broker has confirmed these events; they travel in one message, all or none.

        `events` are JSON objects in the queue's format. `request` is the id of what is answered by it, which the
        message will name.

        Raises BrokerUnavailable (nothing was sent), Refused, or NotConfirmed after `deadline` seconds.
        """
        if not self._accepting:
            raise BrokerUnavailable("the broker is unavailable")
        await self._join(events, request)

    async def finish(self) -> None:
        """Tell what became of the last messages, if the broker is there to hear it: to be called when all is published.

        Takes a few seconds at the most, and raises nothing: what is not told stays unclaimed in the books.
        """
        if self._accepting and self._stamper.owes_mark:
            await asyncio.wait([self._mark()], timeout=self._confirm_timeout)

    def _join(self, events: Sequence[bytes], request: str | None = None) -> asyncio.Future[None]:
        """Have these events go with the last group that takes them; what is returned is done when it is confirmed."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        size = sum(map(len, events)) + len(events)
        if not self._waiting or not self._waiting[-1].takes(events, size, self._limits):
            self._waiting.append(self._open_group(loop))
        group = self._waiting[-1]
        group.add(events, size, waiter)
        if request is not None:
            group.requests.append(spell(request, len(events)))
        if self._may_leave:
            self._arrival.set()
        return waiter

    @property
    def _may_leave(self) -> bool:
        """Whether the first group that waits may be sent: the slot that is busy takes it if not."""
        return not self._in_flight or len(self._waiting) > 1 or len(self._waiting[0].events) >= self._last_events

    def _open_group(self, loop: asyncio.AbstractEventLoop) -> Group:
        group = self._new_group()
        # One timer serves all who join: they come later than the group was opened, so none waits too long.
        group.expiry = loop.call_later(self._deadline, group.settle, NotConfirmed("no confirm before the deadline"))
        return group

    async def run(self) -> None:
        """Keep a connection, and publish on it, until cancelled.

        Raises BrokerMisconfigured at first contact; later that is an outage like any other.
        """
        failures = 0
        while True:
            try:
                async with connect(self._url, name=self._name) as connection:
                    channel = await connection.driver_channel()
                    await self._prove(channel)
                    failures = 0
                    await self._publish_groups(connection, channel)
            except (BrokerUnavailable, BrokerMisconfigured) as exc:
                if isinstance(exc, BrokerMisconfigured) and not self._was_ready:
                    raise
                failures += 1
                self._note_failure(exc, failures)
                self._observer.alive()
            await asyncio.sleep(self._backoff.delay(failures))

    def _note_failure(self, exc: Exception, failures: int) -> None:
        # A connection that was merely cut is back in milliseconds, and callers may wait for that. When the first
        # reconnect fails too, or the broker has stopped confirming, they are told at once.
        if self._accepting and (failures > 1 or isinstance(exc, ConfirmTimeout)):
            self._accepting = False
        if failures == 1:
            self._observer.lost()
        self._trouble.note(error=str(exc))

    async def _prove(self, channel: AbstractChannel) -> None:
        """Open for callers once the broker has confirmed a message, a mark, on the very path theirs will take."""
        # One that was lost with its connection is sent again, so that it gets decided.
        self._probe = self._probe or Group()
        try:
            await self._send(channel, self._probe)
        except Refused as exc:
            self._probe = None
            raise BrokerUnavailable(str(exc)) from exc
        self._probe = None
        if not self._trouble.end() and not self._accepting:
            log.info("broker ready")
        self._accepting = self._was_ready = True

    async def _publish_groups(self, connection: BrokerConnection, channel: AbstractChannel) -> NoReturn:
        """Publish on `in_flight` slots until the connection is lost, or should be replaced: BrokerUnavailable."""
        refused = asyncio.Event()
        slots = [asyncio.create_task(self._slot(channel, refused)) for _ in range(self._limits.in_flight)]
        tasks = [
            asyncio.create_task(_first_failure(slots)),
            asyncio.create_task(_lost(connection)),
            asyncio.create_task(self._mark_silences()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*slots, *tasks)
        for task in done:
            task.result()
        # A new connection declares a missing queue, finds out whether a full one has room again, and opens for
        # callers when it has: on a channel that was told so once, RabbitMQ 3.10 goes on refusing.
        raise BrokerUnavailable("the broker does not take what is published")

    async def _slot(self, channel: AbstractChannel, refused: asyncio.Event) -> None:
        """Publish one group after the other, until one is refused here or in another slot."""
        while (group := await self._next_group(refused)) is not None:
            was_sent = group.sealed is not None
            try:
                await self._send(channel, group)
            except Refused as exc:
                group.settle(_refusal(exc, was_sent=was_sent))
                refused.set()
                self._arrival.set()
            except BaseException:
                self._waiting.appendleft(group)
                raise
            else:
                group.settle()

    async def _next_group(self, refused: asyncio.Event) -> Group | None:
        while not refused.is_set():
            while self._waiting and self._may_leave:
                group = self._waiting.popleft()
                if group.wanted:
                    return group
                if group.sealed is not None:
                    self._give_up(group.sealed, "nobody waits for it any more")
            self._arrival.clear()
            await self._arrival.wait()
        return None

    async def _mark_silences(self) -> NoReturn:
        while True:
            before = self._stamper.sent
            await asyncio.sleep(SILENCE)
            if self._stamper.sent == before and self._stamper.owes_mark:
                await asyncio.wait([self._mark()])
            elif not self._waiting and not self._in_flight:
                self._observer.alive()

    def _mark(self) -> asyncio.Future[None]:
        mark = self._join(())
        # A failure is the slot's to see; here it is only looked at, so that asyncio does not report it.
        mark.add_done_callback(lambda done: done.cancelled() or done.exception())
        return mark

    async def _send(self, channel: AbstractChannel, group: Group) -> None:
        """Publish a group, and note what became of it: nothing yet, when the connection is lost first."""
        message = group.seal(self._stamper)
        self._in_flight += 1
        self._last_events = max(1, len(group.events))
        began = time.monotonic()
        try:
            await self._confirm(channel, message)
        except Refused as exc:
            self._give_up(message, str(exc))
            raise
        finally:
            self._in_flight -= 1
        self._settled(message, time.monotonic() - began)

    def _settled(self, message: Sealed, seconds: float) -> None:
        self._stamper.confirm(message.stamp)
        self._observer.confirmed(message.stamp, seconds)
        self._observer.alive()
        if message.stamp.events:
            log.debug("message confirmed", seconds=round(seconds, 4), **_described(message))

    def _give_up(self, message: Sealed, why: str) -> None:
        self._stamper.give_up(message.stamp)
        log.debug("message given up", why=why, **_described(message))

    async def _confirm(self, channel: AbstractChannel, message: Sealed) -> None:
        # No message_id: the driver matches what is returned by it, and makes a fresh one for each attempt.
        properties = Basic.Properties(content_type="application/json", delivery_mode=2, headers=message.headers)
        try:
            with translated():
                await channel.basic_publish(
                    message.body,
                    exchange=self._exchange,
                    routing_key=self._routing_key,
                    properties=properties,
                    mandatory=True,
                    timeout=self._confirm_timeout,
                )
        except BrokerUnavailable as exc:
            match exc.__cause__:
                case TimeoutError():
                    raise ConfirmTimeout(f"no confirm within {self._confirm_timeout} s") from exc
                case PublishError():
                    raise Unroutable("no queue is bound where events are published") from exc
                case DeliveryError():
                    raise Refused("the queue does not take more messages") from exc
            raise


def _described(message: Sealed) -> dict[str, object]:
    return {
        "stamp": message.stamp.name,
        "events": message.stamp.events,
        "requests": message.headers.get(REQUESTS),
    }


def _refusal(exc: Refused, *, was_sent: bool) -> Exception:
    # What was sent before, and had its confirm lost, may be in the queue whatever becomes of the copy.
    return NotConfirmed(f"sent twice, the second time {exc}") if was_sent else exc


async def _first_failure(slots: Sequence[asyncio.Task[None]]) -> None:
    """Raise what the first slot to fail raised; return when all have come to an end."""
    await asyncio.gather(*slots)


async def _lost(connection: BrokerConnection) -> None:
    await connection.closed()
    raise BrokerUnavailable("the connection to the broker was lost")
