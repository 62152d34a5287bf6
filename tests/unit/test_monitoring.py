"""Alarms, dashboard and the page of what to do, held to what the processes expose and to each other."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import ingest.settings
import ingest.vitals
import worker.settings
import worker.vitals
from contract import topology
from contract.event import Reason
from ingest.errors import CODES
from runtime.metrics import expose, new_registry
from tests.support.promql import Query, read

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES]
SCRAPED = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/usage-ingest.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATE = (ROOT / "docs/operate.md").read_text()

OF_PROMETHEUS: Mapping[str, frozenset[str]] = {"up": frozenset(), "ALERTS": frozenset({"alertname", "alertstate"})}
OF_RABBITMQ: Mapping[str, frozenset[str]] = {
    # As rabbitmq_prometheus of RabbitMQ 3.10 exposes them, the first four at /metrics/detailed.
    "rabbitmq_detailed_queue_messages": frozenset({"vhost", "queue"}),
    "rabbitmq_detailed_queue_messages_ready": frozenset({"vhost", "queue"}),
    "rabbitmq_detailed_queue_messages_unacked": frozenset({"vhost", "queue"}),
    "rabbitmq_detailed_queue_consumers": frozenset({"vhost", "queue"}),
    "rabbitmq_alarms_memory_used_watermark": frozenset(),
    "rabbitmq_alarms_free_disk_space_watermark": frozenset(),
}
OF_EVERY_TARGET = {"job", "instance"}
VALUES = {
    "code": set(CODES),
    "reason": {reason.value for reason in Reason},
    "queue": {topology.QUEUE, topology.DEAD_QUEUE},
    "job": {job["job_name"] for job in SCRAPED},
    "alertstate": {"firing"},
}


def exposed(vitals: type[ingest.vitals.Vitals | worker.vitals.Vitals]) -> dict[str, frozenset[str]]:
    """Every sample of a process, with its labels, as Prometheus reads them."""
    registry = new_registry()
    counters = vitals(registry)
    if isinstance(counters, ingest.vitals.Vitals):
        counters.rejected.labels("VALIDATION_ERROR")
    return {
        sample.name: frozenset(sample.labels)
        for family in text_string_to_metric_families(expose(registry).decode())
        for sample in family.samples
    }


EXPOSED = {**exposed(ingest.vitals.Vitals), **exposed(worker.vitals.Vitals), **OF_PROMETHEUS, **OF_RABBITMQ}


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that is asked of Prometheus, with who asks."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "5m")
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


EXPRESSIONS = dict(expressions())


@pytest.fixture(params=EXPRESSIONS.values(), ids=list(EXPRESSIONS))
def query(request: pytest.FixtureRequest) -> Query:
    return read(request.param)


def test_what_is_asked_for_exists(query: Query) -> None:
    assert query.selectors
    for selector in query.selectors:
        assert selector.metric in EXPOSED
        known = EXPOSED[selector.metric] | OF_EVERY_TARGET
        assert selector.labels.keys() <= known
        for name, wanted in selector.labels.items():
            # The names of alarms are asked for by a pattern, all others by a list.
            assert set(wanted.split("|")) <= VALUES.get(name, {wanted})
    everywhere = set().union(*(EXPOSED[selector.metric] for selector in query.selectors)) | OF_EVERY_TARGET
    assert query.other_labels <= everywhere


def test_every_number_of_ours_is_on_the_dashboard() -> None:
    shown = {
        selector.metric for who, asked in EXPRESSIONS.items() if who not in ALERTS for selector in read(asked).selectors
    }
    assert _families(shown) == _families(EXPOSED)


def _families(names: Iterable[str]) -> set[str]:
    """Ours, a histogram by its own name."""
    ours = (name for name in names if name.startswith("usage_") and not name.endswith("_created"))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}


def test_no_panel_is_like_another_or_lies_over_it() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit_from_the_source_that_is_chosen(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_the_dashboard_asks_for_its_source() -> None:
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_an_alarm_says_how_urgent_it_is_what_is_wrong_and_where_the_remedy_stands(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operate.md#{rule['alert'].lower()}"


def paragraphs() -> dict[str, str]:
    """The text under each of operate.md's headings."""
    parts = re.split(r"^#{1,3} (.+)$", OPERATE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alarm_has_a_paragraph_and_every_paragraph_an_alarm() -> None:
    assert [heading for heading in paragraphs() if heading.startswith("Usage")] == ALERTS
    for alert in ALERTS:
        text = paragraphs()[alert].strip()
        meaning = re.match(r"\*[^*]+\*", text)
        assert meaning, f"{alert}: what it means comes first, in italics"
        assert len(text[meaning.end() :].split()) > 15, f"{alert}: then what to do"


def test_what_the_page_points_to_is_there() -> None:
    anchors = {
        heading.lower().replace(" ", "-").translate({ord(mark): None for mark in ":?,"}) for heading in paragraphs()
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", OPERATE)) <= anchors
    for path in re.findall(r"`(deploy/[\w/.-]+)`", OPERATE):
        assert (ROOT / path).exists(), path


def test_the_page_names_numbers_and_settings_that_exist() -> None:
    named = set(re.findall(r"\busage_[a-z_]+", OPERATE))
    assert named <= EXPOSED.keys() | {parts.removesuffix("_bucket") for parts in EXPOSED}
    settings = {
        f"{model.model_config.get('env_prefix', '')}{name.upper()}"
        for model in (ingest.settings.Settings, worker.settings.Settings)
        for name in model.model_fields
    }
    assert set(re.findall(r"\b(?:INGEST|WORKER)_[A-Z_]+", OPERATE)) <= settings
