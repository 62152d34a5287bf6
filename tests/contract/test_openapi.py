"""The OpenAPI document, held to the application's routes and to what a running ingest answers."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import requests
import schemathesis
from aiohttp import ClientSession
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client import CollectorRegistry
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from contract import asyncapi
from contract.publisher import Publisher
from ingest.api_keys import digest_of, spell_key
from ingest.app import create_app, create_handlers
from ingest.body import JSON, NDJSON
from ingest.credentials import Credentials
from ingest.settings import Settings
from ingest.vitals import Vitals
from tests.contract.live import Ingest, running_ingest

Document = dict[str, Any]

EXAMPLES = 25
OPERATIONS = ["recordUsage", "recordUsageBatch", "healthz", "readyz", "openapi", "asyncapi"]

load_all_checks()
CONFORMS: list[Any] = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
NO_BUG: list[Any] = CHECKS.get_by_names(["not_a_server_error"])


class Compressing(requests.adapters.HTTPAdapter):
    """Makes true what a generated header says about the body."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if request.headers.get("Content-Encoding") == "gzip" and request.body:
            replace_body(request, gzip.compress(bytes_of(request)))
        return super().send(request, *args, **kwargs)


class AsLines(Compressing):
    """Says the same batch with one record on each line."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        records = json.loads(bytes_of(request))["events"]
        replace_body(request, b"\n".join(json.dumps(record).encode() for record in records))
        request.headers["Content-Type"] = NDJSON
        return super().send(request, *args, **kwargs)


def bytes_of(request: requests.PreparedRequest) -> bytes:
    assert isinstance(request.body, str | bytes)
    return request.body.encode() if isinstance(request.body, str) else request.body


def replace_body(request: requests.PreparedRequest, body: bytes) -> None:
    request.body = body
    request.headers["Content-Length"] = str(len(body))


@pytest.fixture(scope="module")
async def served(running: Ingest, session: ClientSession) -> Document:
    """The document as ingest serves it."""
    async with session.get(f"{running.url}/openapi.json") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, JSON)
        content = await response.json()
        assert isinstance(content, dict)
        return content


@pytest.fixture(scope="module")
async def guarded(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    """Ingest that asks for an API key, and takes one record with each."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    entries = [key_entry("aaaaaaaa", "all"), key_entry("bbbbbbbb", ["another-project"])]
    keys.write_text(json.dumps({"keys": entries}))
    access = {"auth": "api-key", "api_keys_file": str(keys)}
    rate = {"rate_per_credential": "0.001", "burst_per_credential": "1"}
    async with running_ingest(fresh_broker, tmp_path_factory, "guarded", access | rate) as ingest:
        yield ingest


def key_of(key_id: str) -> str:
    return spell_key(key_id, "s" * 43)


def key_entry(key_id: str, projects: object) -> dict[str, object]:
    digest = digest_of(key_of(key_id)).hex()
    return {"id": key_id, "sha256": digest, "projects": projects, "createdAt": "2026-01-31T12:00:00Z"}


def described(content: Document) -> set[tuple[str, str]]:
    return {
        (method.upper(), path) for path, item in content["paths"].items() for method in item if method != "parameters"
    }


async def test_the_routes_are_those_of_the_document(served: Document) -> None:
    settings = Settings()
    app = create_app(
        create_handlers(
            settings,
            Publisher(settings.amqp_url, name="looked-at"),
            Credentials(settings.auth),
            Vitals(CollectorRegistry()),
        )
    )
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"  # each GET brings one along
    }
    assert routes == described(served)


async def test_what_is_served_is_an_openapi_document_with_each_operation_tried_here(served: Document) -> None:
    OpenAPIV31SpecValidator(served).validate()
    ids = {
        operation["operationId"]
        for item in served["paths"].values()
        for operation in item.values()
        if "operationId" in operation
    }
    assert ids == set(OPERATIONS)


async def test_the_queue_contract_is_served_too(ingest: Ingest, session: ClientSession) -> None:
    async with session.get(f"{ingest.url}/asyncapi.json") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, JSON)
        assert await response.json() == json.loads(json.dumps(asyncapi.document()))


@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_what_the_document_allows_is_answered_as_it_says(
    ingest: Ingest, served: Document, operation_id: str
) -> None:
    statuses = await asyncio.to_thread(send_examples, ingest.url, served, operation_id)
    assert statuses[200]  # else the examples would not reach what they are to try


@pytest.mark.parametrize("operation_id", ["recordUsage", "recordUsageBatch"])
async def test_what_the_document_forbids_is_answered_as_it_says(
    ingest: Ingest, served: Document, operation_id: str
) -> None:
    statuses = await asyncio.to_thread(send_examples, ingest.url, served, operation_id, GenerationMode.NEGATIVE)
    assert statuses[400]


async def test_lines_of_records_are_answered_as_the_document_says(ingest: Ingest, served: Document) -> None:
    statuses = await asyncio.to_thread(send_examples, ingest.url, served, "recordUsageBatch", adapter=AsLines())
    assert statuses[200]


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({}, {401}),
        ({"X-API-Key": "made-up"}, {401}),
        ({"X-API-Key": key_of("bbbbbbbb")}, {403}),
        ({"Authorization": f"Bearer {key_of('aaaaaaaa')}"}, {200, 429}),
    ],
)
async def test_who_is_turned_away_is_answered_as_the_document_says(
    guarded: Ingest, served: Document, headers: dict[str, str], statuses: set[int]
) -> None:
    seen = await asyncio.to_thread(send_examples, guarded.url, served, "recordUsage", headers=headers)
    assert set(seen) - {400} == statuses


def send_examples(
    url: str,
    content: Document,
    operation_id: str,
    mode: GenerationMode = GenerationMode.POSITIVE,
    *,
    adapter: requests.adapters.HTTPAdapter | None = None,
    headers: dict[str, str] | None = None,
) -> Counter[int]:
    """Send generated requests, each answer checked against the document; return how often which status came."""
    operation = schemathesis.openapi.from_dict(content).find_operation_by_id(operation_id)
    statuses: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @bounded(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def send(case: Case[Any]) -> None:
        response = case.call(base_url=url, session=client, headers=headers)
        statuses[response.status_code] += 1
        # A 503 is an answer; any other server error is a bug.
        case.validate_response(response, checks=CONFORMS if response.status_code == 503 else CONFORMS + NO_BUG)

    with requests.Session() as client:
        client.mount("http://", adapter or Compressing())
        send()
    return statuses
