"""Parking what cannot be stored: among the dead letters, under headers that say why."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pamqp.common import FieldTable

from contract import topology
from contract.connection import translated
from contract.event import Rejected
from contract.fields import format_timestamp
from contract.origin import REQUESTS

KEY: Final = "usage-key"
REASON: Final = "usage-reason"
DETAIL: Final = "usage-detail"
SOURCE: Final = "usage-source"
PARKED_AT: Final = "usage-parked-at"
MESSAGE: Final = "usage-message"
"""Of what message a letter was a part: `publisher:seq`."""

DETAIL_LIMIT: Final = 4000
"""Characters of the sentence that says what is wrong; headers must fit into one frame."""

AT_ONCE: Final = 500
"""Dead letters under way together: one message may hold a hundred thousand."""


class DeadLetters:
    """Publishes to the dead letters, on a connection of its own, and waits for each confirm.

    There is no time limit: while the broker is blocked by an alarm, giving up would only bring the same message
    back, one delivery nearer to its limit. When the connection is lost, the wait ends with it.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def park(self, letters: Mapping[UUID, Rejected]) -> None:
        """Return when the broker has confirmed all of them, each under its key; raises BrokerUnavailable."""
        pairs = list(letters.items())
        with translated():
            for start in range(0, len(pairs), AT_ONCE):
                await asyncio.gather(*(self._publish(key, one) for key, one in pairs[start : start + AT_ONCE]))

    async def _publish(self, key: UUID, rejected: Rejected) -> None:
        headers: FieldTable = {
            KEY: str(key),
            REASON: rejected.reason.value,
            DETAIL: rejected.detail[:DETAIL_LIMIT],
            SOURCE: rejected.source.value,
            PARKED_AT: format_timestamp(datetime.now(UTC)),
        }
        if rejected.origin.message is not None:
            headers[MESSAGE] = rejected.origin.message
        if rejected.origin.request is not None:
            headers[REQUESTS] = rejected.origin.request
        await self._channel.basic_publish(
            rejected.body,
            exchange=topology.DEAD_EXCHANGE,
            properties=Basic.Properties(content_type="application/json", delivery_mode=2, headers=headers),
            mandatory=True,
        )
