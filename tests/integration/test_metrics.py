"""What a monitor reads of both processes."""

import json
import re
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase

import ingest.vitals
import worker.vitals
from contract.event import BROKERS_REASONS, Reason
from ingest.errors import CODES
from tests.support.pages import DOCS
from tests.support.pair import EXAMPLE, Pair
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
OBSERVE = (DOCS / "observe.md").read_text()

INGEST, WORKER = CollectorRegistry(), CollectorRegistry()
ingest.vitals.Vitals(INGEST)
worker.vitals.Vitals(WORKER)


def names(registry: CollectorRegistry) -> set[str]:
    """As they are read: a counter's with `_total`."""
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


class Monitor:
    """Reads a process's numbers."""

    def __init__(self, http: aiohttp.ClientSession, process: Process) -> None:
        self._http = http
        self._process = process

    async def samples(self) -> dict[str, float]:
        """Name, with its label if it has one, -> value."""
        port = (await self._process.logged(r'"port": (\d+)'))[1]
        async with self._http.get(f"http://127.0.0.1:{port}/metrics") as response:
            assert response.status == 200
            assert response.content_type == "text/plain"
            text = await response.text()
        return {
            sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


async def test_what_happens_can_be_read_from_the_numbers_of_both(
    pair: Pair, http: aiohttp.ClientSession, database: Database, queue: Queue
) -> None:
    # given two records and a copy, a batch with a bad one, a refused request, garbage on the queue
    for key in ("a", "b", "b"):
        async with http.post(pair.usage_url(), json={**EXAMPLE, "idempotencyKey": key}) as response:
            assert response.status == 200
    async with http.post(f"{pair.usage_url()}/batch", json={"events": [EXAMPLE, EXAMPLE, {}]}) as response:
        assert response.status == 200
    async with http.post(pair.usage_url(), json={}) as response:
        assert response.status == 400
    async with http.get(f"{pair.url}/nowhere") as response:
        assert response.status == 404
    await queue.send([b"not json", json.dumps({**EXAMPLE, "projectId": "p"}).encode()])
    await eventually(lambda: database.events.find_one({"idempotencyKey": "b"}))

    # then ingest tells of what it answered, and how long the broker took
    told = await Monitor(http, pair.ingest).samples()
    assert told["usage_events_accepted_total"] == 5
    assert told["usage_records_rejected_total{VALIDATION_ERROR}"] == 1
    assert told["usage_requests_refused_total{VALIDATION_ERROR}"] == 1
    assert told["usage_requests_refused_total{NOT_FOUND}"] == 1
    assert told["usage_group_events_sum"] == 5
    assert told["usage_confirm_seconds_count"] >= 4
    assert told["usage_broker_ready"] == 1
    assert told["usage_waiting_bytes"] == 0
    assert told["process_resident_memory_bytes"] > 0

    # and the worker, once it is done with all of them, of what it stored and parked
    async def done() -> dict[str, float] | None:
        samples = await Monitor(http, pair.worker).samples()
        stored, unsettled = samples["usage_events_stored_total"], samples["usage_messages_unsettled"]
        parked = [samples[f"usage_dead_letters_total{{{reason}}}"] for reason in ("UNDECODABLE", "MISSING_ID")]
        return samples if (stored, parked, unsettled) == (4, [1, 1], 0) else None

    told = await eventually(done)
    assert told["usage_events_duplicate_total"] == 1
    assert told["usage_dead_letters_total{MISSING_ID}"] == 1
    assert told["usage_lag_seconds_count"] >= 4
    assert told["usage_lag_seconds_sum"] < 60
    assert told["usage_sessions_total"] == 1
    assert told["usage_prefetch"] >= 20
    assert (told["usage_broker_ready"], told["usage_database_ready"], told["usage_breaker_open"]) == (1, 1, 0)


def test_the_first_of_each_kind_is_an_increase_that_can_be_seen() -> None:
    for code in CODES:
        assert INGEST.get_sample_value("usage_requests_refused_total", {"code": code}) == 0
    for reason in set(Reason) - BROKERS_REASONS:
        assert WORKER.get_sample_value("usage_dead_letters_total", {"reason": reason.value}) == 0


@pytest.mark.parametrize("registry", [INGEST, WORKER], ids=["ingest", "worker"])
def test_every_number_has_a_usage_prefix_and_a_documented_meaning(registry: CollectorRegistry) -> None:
    for name in names(registry):
        assert name.startswith("usage_")
        assert f"`{name}`" in OBSERVE, name


def test_the_page_names_no_number_that_does_not_exist() -> None:
    named = set(re.findall(r"^\| `(usage_[a-z_]+)`", OBSERVE, re.MULTILINE))
    assert named == names(INGEST) | names(WORKER)


def test_no_label_holds_what_a_client_sends() -> None:
    collectors = [*INGEST._collector_to_names, *WORKER._collector_to_names]
    labels = {label for collector in collectors for label in getattr(collector, "_labelnames", ())}
    assert labels == {"code", "reason", "cause"}
