"""The two kinds of ids that events get at ingest; how much an index costs depends on which."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

import uuid_utils.compat as uuid_utils


class Ids(StrEnum):
    """Where an event's id comes from."""

    KEYED = "idempotency keys"
    """Spread over the whole index, as hashes are."""
    OWN = "ids of ingest's own"
    """In order of time, to the millisecond: at the end of the index."""

    def new(self, at: datetime) -> UUID:
        """Make an id that lies in the index as that of a record received at this time does."""
        if self is Ids.KEYED:
            return uuid4()
        return uuid_utils.uuid7(nanoseconds=round(at.timestamp() * 1e6) * 1000)
