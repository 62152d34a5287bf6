"""The deliveries of one channel, in order, with a prefetch that fits them."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from contract import topology
from contract.connection import translated
from contract.event import Source
from contract.origin import REQUESTS
from contract.properties import unreadable
from contract.stamp import Stamp
from worker.delivery import Delivery, replayed_key
from worker.policies import MessageShape, PrefetchPolicy

log = structlog.get_logger(__name__)

RPC_TIMEOUT: Final = 5.0


class _Done:
    """What stands for a task that is over."""

    def add_done_callback(self, callback: object) -> None:
        """Nothing is left to be told."""


_DONE: Final = _Done()


class Subscription:
    """What the broker has delivered and nobody has taken yet.

    `changed` is called after every arrival, and when the stream is `lost`: the channel is gone, the broker cancelled
    the consumer, or a delivery is missing, after which no acknowledgement of several at once would be safe.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        policy: PrefetchPolicy,
        changed: Callable[[], None],
        read: Callable[[DeliveredMessage], Delivery],
    ) -> None:
        self.arrived: deque[Delivery] = deque()
        self.lost: str | None = None
        self.prefetch = 0
        self._channel = channel
        self._receive_at_once()
        self._policy = policy
        self._changed = changed
        self._read = read
        self._consumer_tag: str | None = None
        self._next_tag = 1
        self._shape: MessageShape | None = None

    @property
    def delivered(self) -> int:
        """How many messages have arrived on this channel."""
        return self._next_tag - 1

    async def start(self) -> None:
        """Subscribe with the smallest prefetch: nothing is known of the messages yet. Raises BrokerUnavailable."""
        self._channel.on_consumer_cancel_callbacks.add(lambda _: self._lose("the broker cancelled the consumer"))
        self._channel.closing.add_done_callback(lambda _: self._lose("the channel was closed"))
        await self._consume(self._policy.first())

    async def stop(self) -> None:
        """Have no more delivered; what has arrived stays ours. Raises BrokerUnavailable."""
        if self._consumer_tag is not None:
            with translated():
                await self._channel.basic_cancel(self._consumer_tag, timeout=RPC_TIMEOUT)
            self._consumer_tag = None

    async def retune(self, shape: MessageShape, messages: int, *, suspect: bool) -> None:
        """Fit the prefetch to what was just taken: so many messages of this shape. Raises BrokerUnavailable.

        The broker applies a new prefetch to new consumers only: cancel, set, consume again, on the same channel, so
        that what is unsettled stays so. What a quorum queue has sent, and its channel not passed on yet when the
        consumer is cancelled, comes again with one more delivery to its count.
        """
        known = self._shape or shape
        self._shape = known.blend(shape, min(1.0, messages / self._policy.memory))
        wanted = self._policy.next(self.prefetch, self._shape, suspect=suspect)
        if wanted != self.prefetch:
            await self.stop()
            await self._consume(wanted)
            log.debug("prefetch", count=wanted)

    async def _consume(self, prefetch: int) -> None:
        with translated():
            await self._channel.basic_qos(prefetch_count=prefetch, timeout=RPC_TIMEOUT)
            ok = await self._channel.basic_consume(topology.QUEUE, self._receive, timeout=RPC_TIMEOUT)
        self._consumer_tag = ok.consumer_tag
        self.prefetch = prefetch

    def _receive_at_once(self) -> None:
        """Have each delivery received as it is read.

        The driver would make a task of it, which costs more than to decode an event. Should it come to do something
        else, this has no effect.
        """
        create_task, code = self._channel.create_task, self._receive.__code__

        def run_or_create_task(coroutine: Coroutine[Any, None, Any]) -> object:
            if getattr(coroutine, "cr_code", None) is not code:
                return create_task(coroutine)
            try:
                coroutine.send(None)
            except StopIteration:
                return _DONE
            except Exception as exc:  # noqa: BLE001 - whatever it is, a delivery is missing
                self._lose(f"a delivery could not be received: {exc!r}")
                return _DONE
            raise RuntimeError("receiving must not wait")

        # Not a method that a type checker would let us assign.
        setattr(self._channel, "create_task", run_or_create_task)  # noqa: B010

    async def _receive(self, message: DeliveredMessage) -> None:
        delivery = self._read(message)
        if delivery.tag != self._next_tag:
            self._lose(f"delivery {self._next_tag} is missing")
        if self.lost is None:
            self._next_tag += 1
            self.arrived.append(delivery)
            self._changed()

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
            self._changed()


def delivery_of(message: DeliveredMessage) -> Delivery:
    """Take from the driver's message what we need."""
    headers = message.header.properties.headers or {}
    # Not without the broker's own flag: on a first delivery the header is the producer's, and may be a lie.
    is_again = isinstance(message.delivery, Basic.Deliver) and message.delivery.redelivered
    count = headers.get("x-delivery-count", 0) if is_again else 0
    return Delivery(
        tag=message.delivery_tag or 0,
        body=message.body,
        source=Source.HTTP if message.exchange == topology.EXCHANGE else Source.QUEUE,
        earlier_deliveries=count if isinstance(count, int) else 0,
        stamp=Stamp.from_headers(headers),
        replay=replayed_key(headers),
        unreadable=unreadable(message.header.properties),
        requests=headers.get(REQUESTS),
    )
