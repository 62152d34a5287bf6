"""The examples and tables of README and docs/, held to the code."""

import os
import re
import shlex
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from pymongo.asynchronous.database import AsyncDatabase

import ingest.settings
import worker.settings
from contract.event import Reason, event_id
from ingest.errors import ANSWERS
from runtime.settings import ProcessSettings
from tests.support.pages import DOCS, PAGES
from tests.support.pair import Pair
from tests.support.processes import ROOT
from tests.support.waiting import eventually

EVERYTHING = "\n".join(page.read_text() for page in PAGES)

Database = AsyncDatabase[dict[str, Any]]


def code(language: str, containing: str) -> str:
    """The first code block of a language that contains something."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", EVERYTHING, re.DOTALL)
    return next(block for block in blocks if containing in block)


def settings_table(settings: type[ProcessSettings]) -> str:
    """The rows that must be shown for a process."""
    prefix = settings.model_config.get("env_prefix", "")
    rows = ["| variable | default | |", "| --- | --- | --- |"]
    rows += [
        f"| `{prefix}{name.upper()}` | `{field.default:g}` | {field.description} |"
        if isinstance(field.default, float)
        else f"| `{prefix}{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join(rows)


@pytest.mark.parametrize("settings", [ingest.settings.Settings, worker.settings.Settings])
def test_the_settings_table_is_that_of_the_models(settings: type[ProcessSettings]) -> None:
    assert f"{settings_table(settings)}\n" in f"{(DOCS / 'settings.md').read_text()}\n"


def test_every_variable_that_is_named_exists() -> None:
    models = (ingest.settings.Settings, worker.settings.Settings)
    variables = {f"{model.model_config['env_prefix']}{name.upper()}" for model in models for name in model.model_fields}
    named = set(re.findall(r"\b(?:INGEST|WORKER)_[A-Z_]*[A-Z]", EVERYTHING))
    assert named - variables == {"WORKER_CHECK_JSON", "WORKER_CHECK_TIMEOUT"}  # options of a command


def test_every_reason_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "queue.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(reason.value for reason in Reason)


def test_every_code_is_explained_with_its_status() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| ([`A-Z_, ]+) \|", (DOCS / "http.md").read_text(), re.MULTILINE)
    explained = {pair for row in rows for pair in zip(*(cell.split(", ") for cell in row), strict=True)}
    assert explained == {(str(answer.status), f"`{answer.code}`") for answer in ANSWERS.values()}


def test_the_identity_vectors_are_right() -> None:
    vectors = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \| `([0-9a-f-]{36})` \|$", (DOCS / "queue.md").read_text(), re.MULTILINE
    )
    assert len(vectors) == 4
    for project_id, key, expected in vectors:
        assert str(event_id(project_id, key)) == expected


def test_each_guarantee_is_proven_by_tests_that_exist() -> None:
    [rows] = re.findall(
        r"^\| what \| proven by \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGES[0].read_text(), re.MULTILINE
    )
    for guarantee in rows.splitlines():
        proofs = re.findall(r"`(tests/[a-z_/]+\.py)`", guarantee)
        assert proofs, guarantee
        assert [path for path in proofs if not (ROOT / path).is_file()] == []


async def test_the_curl_line_answers_what_readme_says(pair: Pair, database: Database) -> None:
    command = shlex.split(code("sh", "curl").replace("\\\n", " ").replace("http://127.0.0.1:8080", pair.url))
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)  # noqa: ASYNC221
    head, body = completed.stdout.split("\n\n", 1)
    shown, shown_body = code("http", "HTTP").rstrip("\n").split("\n\n", 1)
    assert body == shown_body
    assert [line.split(":")[0] for line in head.splitlines()] == [line.split(":")[0] for line in shown.splitlines()]
    await eventually(lambda: database.events.count_documents({"metric": "program quantify"}))


async def test_the_record_that_readme_shows_is_stored(pair: Pair, database: Database) -> None:
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(pair.usage_url("p"), data=code("json", "order-42")) as answer,
    ):
        assert answer.status == 200, await answer.text()
    stored = await eventually(lambda: database.events.find_one({"_id": event_id("p", "order-42")}))
    assert stored["properties"] == {"plan": "pro"}


@pytest.mark.parametrize(("containing", "key"), [("aio_pika", "order-42"), ("UsageProducer", "order-43")])
async def test_a_producer_example_is_stored(containing: str, key: str, pair: Pair, database: Database) -> None:
    environment = {**os.environ, "AMQP_URL": pair.site.amqp_url, "PYTHONPATH": str(ROOT)}
    example = [sys.executable, "-c", code("python", containing)]
    subprocess.run(example, env=environment, check=True, timeout=90)  # noqa: ASYNC221
    expected = {"_id": event_id("proj_nCBo0AB7UWpj", key), "source": "queue"}
    await eventually(lambda: database.events.find_one(expected))


async def test_the_sdk_example_prints_what_the_sdk_returns(pair: Pair) -> None:
    example = code("python", "mudbase").replace("http://127.0.0.1:8080", pair.url)
    completed = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=90)  # noqa: ASYNC221
    assert completed.stdout == "Usage recorded successfully\n"
