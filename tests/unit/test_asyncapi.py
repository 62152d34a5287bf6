"""The AsyncAPI document, held to what is declared and to the messages there are."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import jsonschema_rs
import pytest
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from contract import topology
from contract.asyncapi import document
from contract.event import BROKERS_REASONS, Reason, Source, UsageEvent

DOCUMENT = document()
GOLDEN = sorted((Path(__file__).parents[1] / "contract" / "golden").glob("*.message.json"))
PAYLOAD = jsonschema_rs.Draft7Validator(
    {"components": DOCUMENT["components"], "allOf": [{"$ref": "#/components/messages/events/payload"}]},
    validate_formats=True,
)
EVENT = {"projectId": "p", "email": "a@b.co", "metric": "m", "quantity": "1"}


class Channel:
    """Takes down what is declared."""

    def __init__(self) -> None:
        self.exchanges: dict[str, str] = {}
        self.queues: dict[str, object] = {}

    async def declare_exchange(self, name: str, kind: ExchangeType, **_: object) -> "Channel":
        self.exchanges[name] = kind.value
        return self

    async def declare_queue(self, name: str, *, arguments: object, **_: object) -> "Channel":
        self.queues[name] = arguments
        return self

    async def bind(self, *_: object) -> None:
        pass


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        node: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_it_has_what_asyncapi_3_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for channel in DOCUMENT["channels"].values():
        binding = channel["bindings"]["amqp"]
        assert ("queue" in binding, "exchange" in binding) == (binding["is"] == "queue", binding["is"] == "routingKey")


def test_it_names_every_exchange_and_queue_as_they_are_declared() -> None:
    declared = Channel()
    asyncio.run(topology.declare(cast("AbstractChannel", declared)))
    channels = DOCUMENT["channels"].values()
    exchanges = [c["bindings"]["amqp"]["exchange"] for c in channels if c["bindings"]["amqp"]["is"] == "routingKey"]
    assert {exchange["name"]: exchange["type"] for exchange in exchanges} == declared.exchanges
    assert {c["address"]: c["x-arguments"] for c in channels if "x-arguments" in c} == declared.queues


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_a_golden_message_is_one_by_the_schema(path: Path) -> None:
    assert PAYLOAD.is_valid(json.loads(path.read_bytes()))


def test_what_ingest_publishes_is_a_message_by_the_schema() -> None:
    event = UsageEvent(
        id=UUID("d756084a-f7a0-51e2-96e1-80b49e81eaae"),
        project_id="p",
        email="a@b.co",
        metric="m",
        quantity=Decimal("-1.5"),
        received_at=datetime(2026, 1, 31, tzinfo=UTC),
        source=Source.HTTP,
        properties={"plan": "pro"},
    )
    assert PAYLOAD.is_valid(json.loads(event.to_wire()))


@pytest.mark.parametrize(
    ("event", "taken"),
    [
        ({**EVENT, "idempotencyKey": "k"}, True),
        ({**EVENT, "id": "d756084a-f7a0-51e2-96e1-80b49e81eaae"}, True),
        (EVENT, False),
        ({**EVENT, "idempotencyKey": "k", "idempotency_key": "k"}, False),
        ({"idempotencyKey": "k"}, False),
    ],
)
def test_an_event_needs_its_fields_and_an_identity(event: object, *, taken: bool) -> None:
    assert PAYLOAD.is_valid(event) is taken
    assert PAYLOAD.is_valid([event, event]) is taken


def test_a_dead_letter_has_one_of_the_reasons() -> None:
    headers = DOCUMENT["components"]["messages"]["deadLetter"]["headers"]
    schema = jsonschema_rs.Draft7Validator(headers)
    # what the broker itself dead-letters has none
    assert {reason for reason in Reason if not schema.is_valid({"usage-reason": reason.value})} == BROKERS_REASONS
    assert not schema.is_valid({"usage-reason": "BORED"})


def test_a_traceparent_is_one_by_the_schema() -> None:
    schema = jsonschema_rs.Draft7Validator(DOCUMENT["components"]["messages"]["events"]["headers"])
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert schema.is_valid({"traceparent": good})
    assert not any(schema.is_valid({"traceparent": bad}) for bad in (good.upper(), good[:-1], f"{good}-", 5))
