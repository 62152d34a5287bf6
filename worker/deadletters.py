"""Parking what cannot be stored, with its reason."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pamqp.common import FieldTable

from contract import topology
from contract.connection import translated
from contract.event import Rejected
from contract.fields import format_timestamp

DETAIL_LIMIT: Final = 4000
"""Characters of the sentence that says what is wrong; headers must fit into one frame."""


AT_ONCE: Final = 500
"""Dead letters under way together: one message may hold a hundred thousand."""


class DeadLetters:
    """Publishes to the dead letters on a channel of its own, and waits for each confirm.

    There is no time limit: while the broker is blocked by an alarm, giving up would only bring the same message
    back, one delivery nearer to its limit. When the connection is lost, the wait ends with it.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def park(self, rejected: Sequence[Rejected]) -> None:
        """Return when the broker has confirmed all of them; raises BrokerUnavailable."""
        with translated():
            for start in range(0, len(rejected), AT_ONCE):
                await asyncio.gather(*map(self._publish, rejected[start : start + AT_ONCE]))

    async def _publish(self, rejected: Rejected) -> None:
        headers: FieldTable = {
            "usage-reason": rejected.reason.value,
            "usage-detail": rejected.detail[:DETAIL_LIMIT],
            "usage-source": rejected.source.value,
            "usage-parked-at": format_timestamp(datetime.now(UTC)),
        }
        await self._channel.basic_publish(
            rejected.body,
            exchange=topology.DEAD_EXCHANGE,
            properties=Basic.Properties(content_type="application/json", delivery_mode=2, headers=headers),
            mandatory=True,
        )
