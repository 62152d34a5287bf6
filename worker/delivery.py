"""A delivery: a message with its receipt, its body still bytes."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from contract.event import Decoded, Reason, Rejected, Source, decode
from contract.stamp import Stamp
from worker.ledger import EntryId

DIGEST_BYTES: Final = 16

REPLAY: Final = "usage-replay"
"""On a message that is a dead letter sent again: the letter's key."""


class Delivery(msgspec.Struct, frozen=True):
    """A message with its receipt; the body stays bytes until its batch is built."""

    tag: int
    body: bytes
    source: Source
    earlier_deliveries: int = 0
    stamp: Stamp | None = None
    replay: UUID | None = None
    """The key of the dead letter that this message was, when it is one that was sent again."""
    unreadable: str | None = None
    """What of its AMQP properties could not be read, as a sentence."""
    requests: object = None
    """The header that tells by which requests its events came, as it was sent."""

    @property
    def entry_id(self) -> EntryId | None:
        """What the ledger knows this message by; None when it has no identity of its own."""
        if self.unreadable is not None:
            return None
        if self.stamp is not None:
            return EntryId.of_stamp(self.stamp)
        return None if self.replay is None else EntryId.of_replay(self.replay)

    @property
    def digest(self) -> bytes:
        """A digest of the body: what is said to be a copy must be one."""
        return hashlib.blake2b(self.body, digest_size=DIGEST_BYTES).digest()

    def decode(self, now: datetime) -> Decoded:
        """Read the events; `now` is the time of receipt of those that name none."""
        if self.unreadable is not None:
            return Decoded([], [Rejected(self.body, self.source, Reason.BAD_PROPERTIES, self.unreadable)])
        return decode(self.body, source=self.source, now=now)


def replayed_key(headers: Mapping[str, Any]) -> UUID | None:
    """The key of the dead letter that a message was; None when it was none."""
    if REPLAY not in headers:
        return None
    try:
        return UUID(headers[REPLAY])
    except (TypeError, ValueError, AttributeError):
        return None
