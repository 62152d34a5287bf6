"""Fixtures of the fault tests."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from devstack import Devstack
from tests.support.checker import Scene
from tests.support.pair import Pair, end_transactions
from tests.support.queue import Queue


@pytest.fixture
async def database(
    stack: Devstack, database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """An empty database, which can be dropped at the end although workers were killed."""
    yield database
    await end_transactions(stack.database.uri)


@pytest.fixture
def scene(pair: Pair, stack: Devstack, queue: Queue, database: AsyncDatabase[dict[str, Any]]) -> Scene:
    """What a checker looks at: a pair with its queue and database."""
    return Scene(stack.broker, queue, database, pair.site, pair.url)
