"""From a request's id to what became of its events, as an operator would look for it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.letters import Tool, tool
from tests.support.logs import entries
from tests.support.pair import EXAMPLE, Pair, Site, running_pair
from tests.support.waiting import eventually

__all__ = ["tool"]  # a fixture


@pytest.fixture
async def pair(site: Site) -> AsyncIterator[Pair]:
    site.ingest_settings["log_level"] = "DEBUG"
    async with running_pair(site) as pair:
        yield pair


async def line(pair: Pair, module: str, event: str, holding: str) -> dict[str, Any]:
    """Wait for the one line of a process with this event that holds a text."""
    log = {"ingest": pair.ingest, "worker": pair.worker}[module].log

    def found() -> list[dict[str, Any]]:
        return [entry for entry in entries([log], event) if holding in json.dumps(entry)]

    [entry] = await eventually(found, what=f"{event!r} of {module} with {holding}")
    return entry


async def test_a_request_id_leads_to_the_message_and_from_there_to_the_batch(
    pair: Pair, http: aiohttp.ClientSession
) -> None:
    for request_id, body, path in [
        ("single-1", EXAMPLE, pair.usage_url()),
        ("batch-1", {"events": [EXAMPLE, {"email": "nobody"}, EXAMPLE]}, f"{pair.usage_url()}/batch"),
    ]:
        async with http.post(path, json=body, headers={"X-Request-Id": request_id}) as response:
            assert response.status == 200
            assert response.headers["X-Request-Id"] == request_id
        message = await line(pair, "ingest", "message confirmed", request_id)
        batch = await line(pair, "worker", "batch", message["stamp"])
        assert message["stamp"] in batch["stamps"]
        assert batch["stored"] >= message["events"] == {"single-1": 1, "batch-1": 2}[request_id]
    assert message["requests"] == "batch-1:2"


async def test_what_is_answered_with_an_error_leads_to_its_code(pair: Pair, http: aiohttp.ClientSession) -> None:
    for request_id, path, status, code in [
        ("wrong-1", pair.usage_url(), 400, "VALIDATION_ERROR"),
        ("lost-1", f"{pair.url}/nowhere", 404, "NOT_FOUND"),
    ]:
        async with http.post(path, json={"email": "x"}, headers={"X-Request-Id": request_id}) as response:
            assert (await response.json())["requestId"] == request_id
        refused = await line(pair, "ingest", "request refused", request_id)
        assert (refused["status"], refused["code"]) == (status, code)
    async with http.post(f"{pair.url}/nowhere") as response:
        made = (await response.json())["requestId"]
    assert (await line(pair, "ingest", "request refused", made))["status"] == 404


async def test_a_dead_letter_names_the_request_that_brought_it_and_so_it_does_when_replayed(
    pair: Pair, http: aiohttp.ClientSession, tool: Tool
) -> None:
    async def send(request_id: str, quantity: str) -> None:
        record = {**EXAMPLE, "idempotencyKey": "order-42", "quantity": quantity}
        async with http.post(pair.usage_url(), json=record, headers={"X-Request-Id": request_id}) as response:
            assert response.status == 200

    async def letters() -> list[dict[str, Any]]:
        return (await tool("list", "--json")).items

    await send("first-1", "1")
    await send("second-1", "2")
    told = await line(pair, "worker", "parked", "second-1")
    assert told["reasons"] == {"CONFLICT": 1}
    assert (await line(pair, "worker", "dead letter", "second-1"))["reason"] == "CONFLICT"
    [letter] = await letters()
    assert (letter["key"], letter["requests"], letter["message"]) == (told["key"], ["second-1"], told["stamp"])
    assert (await line(pair, "ingest", "message confirmed", "second-1"))["stamp"] == told["stamp"]

    shown = (await tool("show", letter["key"])).text
    assert f"message:     {told['stamp']}" in shown
    assert 'requests:    ["second-1"]' in shown

    await tool("replay", "--key", letter["key"])

    async def came_back() -> bool:
        return [one["requests"] for one in await letters() if one["key"] != letter["key"]] == [["second-1"]]

    await eventually(came_back, what="the letter to come back")
    assert "order-42" not in pair.worker.text + pair.ingest.text
