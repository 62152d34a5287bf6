"""What is told of each kind of process, the most important first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from worker.operate.window import Window

Read = Callable[[Window], float | None]


@dataclass(frozen=True, slots=True)
class Number:
    """One of them: its name for programs, its heading for people, where it comes from, and how it is spelt."""

    name: str
    heading: str
    read: Read
    spell: Callable[[float], str]


def spell_count(value: float) -> str:
    """With one decimal while it is small."""
    return f"{value:,.1f}" if 0 < abs(value) < 10 and value != int(value) else f"{value:,.0f}"  # noqa: PLR2004 - small


def spell_seconds(value: float) -> str:
    """In the unit that leaves three digits or fewer before the point."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _rate(metric: str) -> Read:
    return lambda window: window.rate(metric)


def _mean(metric: str) -> Read:
    return lambda window: window.mean(metric)


def _quantile(metric: str, share: float) -> Read:
    return lambda window: window.quantile(metric, share)


def _value(metric: str) -> Read:
    return lambda window: window.value(metric)


INGEST: Final[Sequence[Number]] = (
    Number("acceptedPerSecond", "EVENTS/s", _rate("usage_events_accepted_total"), spell_count),
    Number("refusedPerSecond", "REFUSED/s", _rate("usage_requests_refused_total"), spell_count),
    Number("confirmSecondsMedian", "CONFIRM p50", _quantile("usage_confirm_seconds", 0.5), spell_seconds),
    Number("confirmSeconds99", "p99", _quantile("usage_confirm_seconds", 0.99), spell_seconds),
    Number("eventsPerMessage", "GROUP", _mean("usage_group_events"), spell_count),
    Number("waitingBytes", "WAITING", _value("usage_waiting_bytes"), spell_count),
    Number("shedPerSecond", "SHED/s", _rate("usage_requests_shed_total"), spell_count),
    Number("rejectedPerSecond", "REJECTED/s", _rate("usage_records_rejected_total"), spell_count),
    Number("brokerLost", "LOST", _value("usage_broker_lost_total"), spell_count),
)

WORKER: Final[Sequence[Number]] = (
    Number("storedPerSecond", "EVENTS/s", _rate("usage_events_stored_total"), spell_count),
    Number("lagSecondsMedian", "LAG p50", _quantile("usage_lag_seconds", 0.5), spell_seconds),
    Number("lagSeconds99", "p99", _quantile("usage_lag_seconds", 0.99), spell_seconds),
    Number("eventsPerBatch", "BATCH", _mean("usage_batch_events"), spell_count),
    Number("secondsPerBatch", "TOOK", _mean("usage_batch_seconds"), spell_seconds),
    Number("unsettled", "UNACKED", _value("usage_messages_unsettled"), spell_count),
    Number("deadLettersPerSecond", "DEAD/s", _rate("usage_dead_letters_total"), spell_count),
    Number("duplicatesPerSecond", "DUPL/s", _rate("usage_events_duplicate_total"), spell_count),
    Number("redeliveredPerSecond", "AGAIN/s", _rate("usage_messages_redelivered_total"), spell_count),
    Number("failedAttemptsPerSecond", "FAILED/s", _rate("usage_attempts_failed_total"), spell_count),
    Number("prefetch", "PREFETCH", _value("usage_prefetch"), spell_count),
)


def modes(window: Window) -> list[str]:
    """What is unusual in how a worker works."""
    names = {"usage_safe_mode": "safe mode", "usage_breaker_open": "breaker open"}
    return [name for metric, name in names.items() if window.value(metric)]
