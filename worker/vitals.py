"""What can be seen of a worker process from outside."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.event import BROKERS_REASONS, Reason, Rejected
from runtime.metrics import EVENTS, SECONDS, from_zero
from worker.ledger import Entry
from worker.plan import Outcome


class Vitals:
    """Its metrics, and its signs of life. No label holds what a sender sends: it could take any number of values."""

    def __init__(self, registry: CollectorRegistry | None = None, *, alive: Callable[[], None] = lambda: None) -> None:
        """Register the metrics; `alive` is called when consuming gets on, or has nothing to do."""
        registry = registry or CollectorRegistry()
        self.alive = alive
        self._stored = Counter("usage_events_stored", "Events that were stored.", registry=registry)
        self._duplicates = Counter(
            "usage_events_duplicate", "Events that were stored before, with the same content.", registry=registry
        )
        self._copies = Counter(
            "usage_messages_copied", "Messages that were entered into the ledger before.", registry=registry
        )
        self._redelivered = Counter(
            "usage_messages_redelivered", "Messages that had been delivered before.", registry=registry
        )
        self._dead_letters = Counter(
            "usage_dead_letters", "Dead letters that were parked, by reason.", ["reason"], registry=registry
        )
        from_zero(self._dead_letters, [reason.value for reason in Reason if reason not in BROKERS_REASONS])
        self._batch_events = Histogram("usage_batch_events", "Events in one batch.", buckets=EVENTS, registry=registry)
        self._batch_seconds = Histogram(
            "usage_batch_seconds",
            "Writing one batch, with all that had to be repeated.",
            buckets=SECONDS,
            registry=registry,
        )
        self._lag_seconds = Histogram(
            "usage_lag_seconds",
            "From the receipt of a message's first event to its commit.",
            buckets=SECONDS,
            registry=registry,
        )
        self.attempts_failed = Counter(
            "usage_attempts_failed", "Transactions that have to be repeated, by cause.", ["cause"], registry=registry
        )
        from_zero(self.attempts_failed, ["conflict", "known", "outage", "size"])
        self.orphans_killed = Counter(
            "usage_orphaned_transactions_killed", "Transactions of dead workers that were ended.", registry=registry
        )
        self.sessions = Counter("usage_sessions", "Sessions with the broker that were begun.", registry=registry)
        self.prefetch = Gauge("usage_prefetch", "Messages that the broker may send ahead.", registry=registry)
        self.unsettled = Gauge(
            "usage_messages_unsettled", "Messages that were delivered and are not done with.", registry=registry
        )
        self.safe_mode = Gauge(
            "usage_safe_mode", "1 while messages are taken one by one, for one that crashed workers.", registry=registry
        )
        self.set_aside = Gauge(
            "usage_messages_set_aside", "Messages that wait for the broker to take dead letters.", registry=registry
        )
        self.breaker_open = Gauge(
            "usage_breaker_open", "1 when consuming has stopped, for what ingest sends is invalid.", registry=registry
        )
        self.broker_ready = Gauge("usage_broker_ready", "1 while messages are consumed.", registry=registry)
        self.database_ready = Gauge("usage_database_ready", "1 while the database takes writes.", registry=registry)

    def written(self, events: int, redelivered: int, outcome: Outcome, seconds: float) -> None:
        """Count a batch that was written."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)
        self._stored.inc(outcome.stored)
        self._duplicates.inc(outcome.duplicates)
        self._copies.inc(outcome.copies)
        self._redelivered.inc(redelivered)

    def lag(self, entries: Iterable[Entry]) -> None:
        """Observe how late each message was stored."""
        now = datetime.now(UTC)
        for entry in entries:
            if entry.events:
                self._lag_seconds.observe(max(0.0, (now - entry.events[0].received_at).total_seconds()))

    def parked(self, letters: Iterable[Rejected]) -> None:
        """Count dead letters that were confirmed."""
        for reason, count in Tally(letter.reason for letter in letters).items():
            self._dead_letters.labels(reason.value).inc(count)
