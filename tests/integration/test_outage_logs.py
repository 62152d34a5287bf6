"""What an outage leaves in the logs: one line when it begins, one when it is over."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from devstack import Devstack
from devstack.proxy import Proxy
from tests.support.deployment import proxy_of
from tests.support.logs import entries
from tests.support.pair import EXAMPLE, Pair, Site, running_pair
from tests.support.waiting import eventually

RETRIES = 3


@pytest.fixture
async def to_database(stack: Devstack) -> AsyncIterator[Proxy]:
    """A way to the database that can be broken."""
    async with proxy_of(stack.database.uri) as proxy:
        yield proxy


@pytest.fixture
async def pair(site: Site, proxy: Proxy, to_database: Proxy) -> AsyncIterator[Pair]:
    """Both processes behind ways that can be broken."""
    site.amqp_url = str(URL(site.amqp_url).with_port(proxy.port))
    site.mongodb_uri = f"mongodb://127.0.0.1:{to_database.port}/?directConnection=true"
    site.worker_settings["mongodb_timeout"] = "2"
    site.ingest_settings["log_level"] = "DEBUG"
    async with running_pair(site) as pair:
        yield pair


def logged(log: Path, event: str, *levels: str) -> list[dict[str, Any]]:
    return [entry for entry in entries([log], event) if entry["level"] in levels]


async def retried(log: Path, event: str) -> None:
    """Wait until several attempts have failed in one outage."""
    await eventually(lambda: len(logged(log, f"{event}, still", "debug")) >= RETRIES, what=f"retries after {event!r}")


async def over(log: Path, began: str, ended: str) -> None:
    """Wait for the end of an outage, which was told of in two lines, whatever number of attempts failed."""
    [end] = await eventually(
        lambda: [entry for entry in logged(log, ended, "info") if "failures" in entry], what=f"{ended!r} in {log}"
    )
    assert end["failures"] > RETRIES
    assert end["seconds"] > 0
    [begin] = logged(log, began, "info", "warning", "error")
    assert begin["level"] == "warning"
    assert begin["error"]


async def test_a_lost_broker_is_one_warning_in_each_process_and_one_line_when_it_is_back(
    pair: Pair, proxy: Proxy
) -> None:
    logs = (pair.ingest.log, "broker ready"), (pair.worker.log, "consuming")
    proxy.reset()
    for log, _ in logs:
        await retried(log, "broker lost")
    proxy.pass_()
    for log, ended in logs:
        await over(log, "broker lost", ended)


async def test_a_lost_database_is_one_warning_and_one_line_when_it_is_back(
    pair: Pair, to_database: Proxy, http: aiohttp.ClientSession
) -> None:
    to_database.reset()
    async with http.post(pair.usage_url(), json=EXAMPLE) as response:
        assert response.status == 200
    await retried(pair.worker.log, "database lost")
    to_database.pass_()
    await over(pair.worker.log, "database lost", "database back")
