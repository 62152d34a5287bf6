"""Each alarm is raised by what it is for, by nothing else, and not too soon: judged by Prometheus itself."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from runtime.metrics import SECONDS

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
ALERTS = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]

Series = Mapping[str, str]

EVERY = 30
"""Seconds between two samples."""
GOOD_MINUTES = 10
"""For so long all is well, in every story."""
SAMPLES = GOOD_MINUTES * 60 // EVERY
REST = 130
"""Samples after that; the longest story needs 122."""


def level(good: float, bad: float | None = None) -> str:
    """A gauge that is `good` first, then `bad`."""
    return f"{good:g}x{SAMPLES - 1} {good if bad is None else bad:g}x{REST}"


def gone(good: float) -> str:
    """A gauge that is `good` first, then nobody reads it any more."""
    return f"{good:g}x{SAMPLES - 1} stale"


def count(good: float, bad: float | None = None) -> str:
    """A counter that grows by `good` with each sample, then by `bad`."""
    before = good * (SAMPLES - 1)
    after = good if bad is None else bad
    return f"0+{good:g}x{SAMPLES - 1} {before + after:g}+{after:g}x{REST}"


def once(good: float) -> str:
    """A counter that stands still but for one step."""
    return f"{good:g}x{SAMPLES - 1} {good + 1:g}x{REST}"


INGEST = '{job="usage-ingest",instance="a:9101"}'
WORKER = '{job="usage-worker",instance="b:9102"}'


def of(process: str, **labels: str) -> str:
    """The labels of a process's series."""
    return process[:-1] + "".join(f',{name}="{value}"' for name, value in labels.items()) + "}"


def observed(name: str, process: str, good: float, bad: float | None = None) -> dict[str, str]:
    """A histogram that observes `good` seconds four times with each sample, then `bad`."""
    after = good if bad is None else bad
    return {
        f"{name}_bucket{of(process, le=f'{bound:g}')}": count(4 * (good <= bound), 4 * (after <= bound))
        for bound in (*SECONDS, math.inf)
    }


QUEUE = '{job="rabbitmq-queues",instance="c:15692",vhost="/",queue="usage.events"}'
DEAD = QUEUE.replace("usage.events", "usage.dead-letters")
BROKER = '{job="rabbitmq",instance="c:15692"}'

HEALTHY: Series = {
    f"up{INGEST}": level(1),
    f"up{WORKER}": level(1),
    f"usage_broker_ready{INGEST}": level(1),
    f"usage_broker_ready{WORKER}": level(1),
    f"usage_database_ready{WORKER}": level(1),
    f"usage_breaker_open{WORKER}": level(0),
    f"usage_safe_mode{WORKER}": level(0),
    f"usage_messages_set_aside{WORKER}": level(0),
    f"usage_requests_shed_total{INGEST}": count(0),
    f"usage_requests_refused_total{of(INGEST, code='UNAVAILABLE')}": count(0),
    f"usage_requests_refused_total{of(INGEST, code='INTERNAL_ERROR')}": count(0),
    f"usage_requests_refused_total{of(INGEST, code='VALIDATION_ERROR')}": count(5),
    f"usage_broker_lost_total{INGEST}": count(0),
    f"usage_sessions_total{WORKER}": count(0),
    f"usage_events_stored_total{WORKER}": count(1000),
    f"usage_events_duplicate_total{WORKER}": count(10),
    f"usage_batch_seconds_count{WORKER}": count(10),
    f"usage_attempts_failed_total{of(WORKER, cause='conflict')}": count(1),
    f"usage_attempts_failed_total{of(WORKER, cause='outage')}": count(0),
    f"usage_orphaned_transactions_killed_total{WORKER}": count(0),
    f"usage_dead_letters_total{of(WORKER, reason='CONFLICT')}": count(0),
    f"usage_dead_letters_total{of(WORKER, reason='INVALID')}": count(0),
    f"process_start_time_seconds{INGEST}": level(1000),
    f"process_start_time_seconds{WORKER}": level(1000),
    f"process_resident_memory_bytes{INGEST}": level(100e6),
    f"process_resident_memory_bytes{WORKER}": level(200e6),
    f"process_open_fds{INGEST}": level(100),
    f"process_max_fds{INGEST}": level(1000),
    f"rabbitmq_detailed_queue_messages{QUEUE}": level(50),
    f"rabbitmq_detailed_queue_messages_ready{QUEUE}": level(10),
    f"rabbitmq_detailed_queue_messages_ready{DEAD}": level(0),
    f"rabbitmq_detailed_queue_consumers{QUEUE}": level(1),
    f"rabbitmq_alarms_memory_used_watermark{BROKER}": level(0),
    f"rabbitmq_alarms_free_disk_space_watermark{BROKER}": level(0),
    **observed("usage_confirm_seconds", INGEST, 0.1),
    **observed("usage_lag_seconds", WORKER, 1),
}


@dataclass(frozen=True)
class Story:
    """What goes wrong, when the alarm must not yet be there, and when it must; in seconds since."""

    series: Series
    quiet: int
    loud: int


MINUTE = 60
STORIES = {
    "UsageIngestAbsent": Story({f"up{INGEST}": gone(1)}, 30, 2 * MINUTE),
    "UsageIngestNotReady": Story({f"usage_broker_ready{INGEST}": level(1, 0)}, 30, 2 * MINUTE),
    "UsageRecordsUnavailable": Story(
        {f"usage_requests_refused_total{of(INGEST, code='UNAVAILABLE')}": count(0, 15)}, 4 * MINUTE, 7 * MINUTE
    ),
    "UsageRequestsShed": Story({f"usage_requests_shed_total{INGEST}": count(0, 1)}, 4 * MINUTE, 7 * MINUTE),
    "UsageInternalErrors": Story(
        {f"usage_requests_refused_total{of(INGEST, code='INTERNAL_ERROR')}": once(0)}, -30, 30
    ),
    "UsageConfirmSlow": Story(observed("usage_confirm_seconds", INGEST, 0.1, 2.5), 9 * MINUTE, 16 * MINUTE),
    "UsageWorkerAbsent": Story({f"up{WORKER}": gone(1)}, 90, 3 * MINUTE),
    "UsageWorkerNotReady": Story({f"usage_broker_ready{WORKER}": level(1, 0)}, 90, 3 * MINUTE),
    "UsageDatabaseAway": Story({f"usage_database_ready{WORKER}": level(1, 0)}, 90, 3 * MINUTE),
    "UsageBreakerOpen": Story(
        # then it does not consume either, which is no alarm of its own
        {f"usage_breaker_open{WORKER}": level(0, 1), f"usage_broker_ready{WORKER}": level(1, 0)},
        -15,
        4 * MINUTE,
    ),
    "UsageSafeMode": Story({f"usage_safe_mode{WORKER}": level(0, 1)}, 30, 2 * MINUTE),
    "UsageLagHigh": Story(observed("usage_lag_seconds", WORKER, 1, 300), 9 * MINUTE, 16 * MINUTE),
    "UsageTransactionsRepeated": Story(
        {f"usage_attempts_failed_total{of(WORKER, cause='outage')}": count(0, 30)}, 9 * MINUTE, 16 * MINUTE
    ),
    "UsageOrphansEnded": Story({f"usage_orphaned_transactions_killed_total{WORKER}": once(0)}, -30, 30),
    "UsageDuplicates": Story({f"usage_events_duplicate_total{WORKER}": count(10, 2000)}, 29 * MINUTE, 60 * MINUTE),
    "UsageDeadLetters": Story({f"usage_dead_letters_total{of(WORKER, reason='INVALID')}": once(0)}, -30, 30),
    "UsageConflicts": Story({f"usage_dead_letters_total{of(WORKER, reason='CONFLICT')}": once(0)}, -30, 30),
    "UsageDeadLettersWaiting": Story(
        {f"rabbitmq_detailed_queue_messages_ready{DEAD}": level(0, 3)}, 59 * MINUTE, 61 * MINUTE
    ),
    "UsageMessagesSetAside": Story({f"usage_messages_set_aside{WORKER}": level(0, 2)}, 4 * MINUTE, 6 * MINUTE),
    "UsageQueueWithoutWorkers": Story({f"rabbitmq_detailed_queue_consumers{QUEUE}": level(1, 0)}, 90, 3 * MINUTE),
    "UsageQueueStuck": Story({f"usage_batch_seconds_count{WORKER}": count(10, 0)}, 5 * MINUTE, 11 * MINUTE),
    "UsageQueueGrowing": Story(
        {f"rabbitmq_detailed_queue_messages_ready{QUEUE}": f"10x{SAMPLES - 1} 2000+10x{REST}"}, 14 * MINUTE, 16 * MINUTE
    ),
    "UsageBrokerAlarm": Story({f"rabbitmq_alarms_free_disk_space_watermark{BROKER}": level(0, 1)}, -30, 30),
    "UsageProcessDown": Story({f"up{of(INGEST, pod='2')}": level(1, 0)}, 30, 2 * MINUTE),
    "UsageProcessRestarts": Story(
        {f"process_start_time_seconds{WORKER}": f"1000x{SAMPLES - 1} 2000 2100 2200x{REST}"}, 30, 60
    ),
    "UsageConnectionsFlap": Story({f"usage_sessions_total{WORKER}": count(0, 1)}, 60, 3 * MINUTE),
    "UsageMemoryHigh": Story({f"process_resident_memory_bytes{WORKER}": level(200e6, 450e6)}, 9 * MINUTE, 11 * MINUTE),
    "UsageFilesHigh": Story({f"process_open_fds{INGEST}": level(100, 900)}, 9 * MINUTE, 11 * MINUTE),
}


def test_every_alarm_has_a_story() -> None:
    assert list(STORIES) == ALERTS


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own judge of rules, as `make test` brings it."""
    beside = Path(sys.executable).with_name("promtool")
    found = str(beside) if beside.exists() else shutil.which("promtool")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no promtool: `make test` brings it")
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_configuration_and_the_rules(promtool: str) -> None:
    assert f"{len(ALERTS)} rules found" in run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")


def firing(seconds: int, *alerts: str) -> dict[str, object]:
    """Ask which alarms there are, so long after things went wrong: these, and no others."""
    return {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{GOOD_MINUTES * 60 + seconds}s",
        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alarm_is_raised_by_what_it_is_for_and_not_sooner(alert: str, promtool: str, tmp_path: Path) -> None:
    story = STORIES[alert]
    series = {**HEALTHY, **story.series}
    test = {
        "interval": f"{EVERY}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            firing(story.quiet),
            firing(story.loud, alert),
        ],
    }
    file = tmp_path / "alerts_test.yml"
    document = {"rule_files": [str(PROMETHEUS / "alerts.yml")], "evaluation_interval": f"{EVERY}s", "tests": [test]}
    file.write_text(yaml.safe_dump(document))
    run(promtool, "test", "rules", file)
