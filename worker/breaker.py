"""Stopping to consume when what ingest has validated is invalid, message after message."""

from contract.event import Decoded, Source
from worker.delivery import Delivery
from worker.policies import BreakerPolicy


class BreakerOpen(Exception):
    """Ingest and this worker do not agree on what is valid: nothing more is consumed."""


class Breaker:
    """Counts invalid messages of ingest's in a row; what other producers send it does not look at."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._invalid = 0

    @property
    def is_open(self) -> bool:
        """Whether to stop; it never closes again: only another version of one of the two can help."""
        return self._invalid >= self._policy.invalid_in_a_row

    def note(self, delivery: Delivery, decoded: Decoded) -> None:
        """Look at one message. Raises BreakerOpen when it is one too many."""
        is_ingests = delivery.stamp is not None and delivery.source is Source.HTTP
        if not is_ingests or not (decoded.events or decoded.rejected):
            return
        self._invalid = self._invalid + 1 if decoded.rejected else 0
        if self.is_open:
            raise BreakerOpen(f"{self._invalid} messages from ingest in a row hold what is invalid here")
