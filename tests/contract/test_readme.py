"""README's examples and tables, held to the code."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

import ingest.settings
import worker.settings
from contract.event import Reason, event_id
from ingest.errors import ANSWERS
from runtime.settings import ProcessSettings
from tests.support.pair import Pair
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

Database = AsyncDatabase[dict[str, Any]]


def code(language: str, containing: str) -> str:
    """The README's code block of a language that contains something."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if containing in block)


def settings_table(settings: type[ProcessSettings]) -> str:
    """The rows that README must show for a process."""
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
    assert settings_table(settings) in README


def test_every_reason_and_every_code_is_explained() -> None:
    assert {reason.value for reason in Reason} <= set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert all(f"`{answer.code}`" in README for answer in ANSWERS.values())


def test_the_identity_vectors_are_right() -> None:
    vectors = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([0-9a-f-]{36})` \|$", README, re.MULTILINE)
    assert len(vectors) == 4
    for project_id, key, expected in vectors:
        assert str(event_id(project_id, key)) == expected


def test_the_tests_that_prove_the_guarantees_exist() -> None:
    for path in set(re.findall(r"`(tests/[a-z_/]+\.py)`", README)):
        assert (ROOT / path).is_file(), path


async def test_the_curl_line_answers_what_readme_says(pair: Pair, database: Database) -> None:
    command = shlex.split(code("sh", "curl").replace("\\\n", " ").replace("http://127.0.0.1:8080", pair.url))
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: ASYNC221
    head, body = completed.stdout.split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200 OK")
    assert body == code("http", "HTTP").split("\n\n", 1)[1].rstrip("\n")
    await eventually(lambda: database.events.count_documents({"metric": "program quantify"}))


@pytest.mark.parametrize(("containing", "key"), [("aio_pika", "order-42"), ("UsageProducer", "order-43")])
async def test_a_producer_example_is_stored(containing: str, key: str, pair: Pair, database: Database) -> None:
    environment = {**os.environ, "AMQP_URL": pair.site.amqp_url, "PYTHONPATH": str(ROOT)}
    example = [sys.executable, "-c", code("python", containing)]
    subprocess.run(example, env=environment, check=True, timeout=30)  # noqa: ASYNC221
    expected = {"_id": event_id("proj_nCBo0AB7UWpj", key), "source": "queue"}
    await eventually(lambda: database.events.find_one(expected))


async def test_the_sdk_example_prints_what_the_sdk_returns(pair: Pair) -> None:
    example = code("python", "mudbase").replace("http://127.0.0.1:8080", pair.url)
    completed = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=30)  # noqa: ASYNC221
    assert completed.stdout == "Usage recorded successfully\n"
