"""What can be seen of an ingest process from outside."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.publisher import Observer
from contract.stamp import Stamp
from ingest.errors import CODES
from runtime.metrics import EVENTS, SECONDS, PlainCounter, from_zero


class Vitals(Observer):
    """Its metrics, and its signs of life. No label holds what a client sends: it could take any number of values."""

    def __init__(self, registry: CollectorRegistry, *, alive: Callable[[], None] = lambda: None) -> None:
        """Register the metrics; `alive` is called when publishing gets on, or has nothing to do."""
        self._alive = alive
        self.accepted = PlainCounter("usage_events_accepted", "Events that were answered with 200.", registry=registry)
        self.rejected = Counter(
            "usage_records_rejected", "Records of batches that were left out, by code.", ["code"], registry=registry
        )
        self.refused = Counter(
            "usage_requests_refused", "Requests that were answered with an error, by code.", ["code"], registry=registry
        )
        from_zero(self.refused, CODES)
        self.shed = Counter(
            "usage_requests_shed", "Requests answered with 503 for the bytes that were waiting.", registry=registry
        )
        self.waiting_bytes = Gauge(
            "usage_waiting_bytes", "Bytes of all requests under way, 4096 for each beside its body.", registry=registry
        )
        self.broker_ready = Gauge("usage_broker_ready", "1 while the broker confirms.", registry=registry)
        self._confirm_seconds = Histogram(
            "usage_confirm_seconds", "From a message's publish to its confirm.", buckets=SECONDS, registry=registry
        )
        self._group_events = Histogram(
            "usage_group_events", "Events in one confirmed message.", buckets=EVENTS, registry=registry
        )
        self._lost = Counter("usage_broker_lost", "Times that the broker was lost.", registry=registry)

    def confirmed(self, stamp: Stamp, seconds: float) -> None:
        """Count a confirmed message; a mark, which holds no event, tells of the broker all the same."""
        self._confirm_seconds.observe(seconds)
        if stamp.events:
            self._group_events.observe(stamp.events)

    def lost(self) -> None:
        """Count a lost connection."""
        self._lost.inc()

    def alive(self) -> None:
        """Pass it on."""
        self._alive()
