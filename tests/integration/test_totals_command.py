"""How much was used, told by the real command: every digit, whatever the shape."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import UsageEvent
from devstack import Devstack
from tests.integration.test_store import Parked, event, never, parked, storing, write
from tests.support.letters import Tool
from tests.support.pair import Site
from worker.database import Database
from worker.operate.periods import Period
from worker.operate.usage import Per, Question, read_usage
from worker.operate.usage_view import to_item
from worker.store import Store

__all__ = ["parked"]  # a fixture

Documents = AsyncDatabase[dict[str, Any]]

HEX = "507F1F77BCF86CD799439011"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def used(number: int, quantity: str, at: str, **changes: Any) -> UsageEvent:
    return event(number, quantity, timestamp=moment(at), **changes)


EVENTS = [
    used(1, "0.1", "2026-01-31T22:59:59"),
    used(2, "0.2", "2026-01-31T23:00:00"),
    used(3, "99999999999999999.999999999", "2026-01-31T23:59:59"),
    used(4, "-0.000000001", "2026-02-01T00:00:00"),
    used(5, "7", "2026-02-01T00:30:00", metric="gb"),
    used(6, "2", "2026-02-01T00:30:00", email="b@example.com"),
    used(7, "1", "2026-03-15T12:00:00", email="b@example.com"),
    used(8, "5", "2026-02-01T00:30:00", project_id="p2"),
    used(9, "6", "2026-02-01T00:30:00", project_id=HEX.lower()),
]


@pytest.fixture
async def stored(stack: Devstack, database: Documents, parked: Parked) -> Store:
    """What two workers have stored the events with; the last of them."""
    for part in (EVENTS[::2], EVENTS[1::2]):
        async with storing(stack.database.uri, database.name) as store:
            await write(store, part, parked.park, abandoned=never)
    return store


@pytest.fixture
def tool(site: Site, stored: Store) -> Tool:
    del stored  # asked for only to be there
    return Tool(site, command="totals")


A, B = "a@example.com", "b@example.com"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question(("p",)), ["a calls 100000000000000000.299999998 4", "a gb 7 1", "b calls 3 2"]),
        (Question(("p",), (A,), ("calls",)), ["a calls 100000000000000000.299999998 4"]),
        (Question(("p",), metrics=("gb", "nothing")), ["a gb 7 1"]),
        (Question(("p",), (A, B), ("gb",), by=Period.HOUR), ["a gb 2026-02-01T00:00Z 7 1"]),
        (
            Question(("p",), metrics=("calls",), by=Period.MONTH),
            [
                "a calls 2026-01 100000000000000000.299999999 3",
                "a calls 2026-02 -0.000000001 1",
                "b calls 2026-02 2 1",
                "b calls 2026-03 1 1",
            ],
        ),
        (
            Question(("p",), (A,), until=moment("2026-02-01"), by=Period.HOUR),
            ["a calls 2026-01-31T22:00Z 0.1 1", "a calls 2026-01-31T23:00Z 100000000000000000.199999999 2"],
        ),
        (
            Question(("p",), since=moment("2026-02-01"), until=moment("2026-02-01T01:00"), by=Period.DAY),
            ["a calls 2026-02-01 -0.000000001 1", "a gb 2026-02-01 7 1", "b calls 2026-02-01 2 1"],
        ),
        (Question(("p",), per=Per.PROJECT), ["calls 100000000000000003.299999998 6", "gb 7 1"]),
        (Question(("p",), since=moment("2027-01-01")), []),
    ],
)
async def test_usage_is_summed_up_by_what_is_asked_for(
    stack: Devstack, database: Documents, stored: Store, question: Question, expected: list[str]
) -> None:
    del stored  # asked for only to be there
    ours = Database(stack.database.uri, database.name, timeout_seconds=5)
    async with ours.snapshot() as snapshot:
        items = [to_item(usage, question.by) async for usage in read_usage(snapshot, question)]
    await ours.close()
    assert [item.pop("projectId") for item in items] == ["p"] * len(items)
    assert [" ".join(str(value).removesuffix("@example.com") for value in item.values()) for item in items] == expected


async def test_the_options_say_what_is_meant(tool: Tool) -> None:
    options = "--email A@Example.com --metric calls --from 2026-01-31T23:00:00Z --to 2026-02-01 --by day --json"
    assert (await tool("--project", "p", *options.split())).items == [
        {
            "projectId": "p",
            "email": "a@example.com",
            "metric": "calls",
            "day": "2026-01-31",
            "quantity": "100000000000000000.199999999",
            "events": 2,
        }
    ]


async def test_projects_are_told_apart_and_an_object_id_has_any_case(tool: Tool) -> None:
    ended = await tool("--project", "p2", "--project", HEX, "--csv")
    assert list(csv.DictReader(io.StringIO(ended.text))) == [
        {"projectId": project, "email": "a@example.com", "metric": "calls", "quantity": quantity, "events": "1"}
        for project, quantity in [("p2", "5"), (HEX.lower(), "6")]
    ]
    assert ended.stderr == "2 sums of 2 events\n"


async def test_a_sum_beyond_what_the_server_can_hold_is_exact(site: Site, database: Documents) -> None:
    largest = Decimal("9999999999999999999999999.999999999")
    hour = datetime(2026, 1, 31, 12, tzinfo=UTC)
    key = {"projectId": "p", "email": "a@example.com", "metric": "calls", "hour": hour}
    await database.totals.insert_many(
        {"_id": {**key, "slot": slot}, "quantity": Decimal128(largest), "count": 2**40} for slot in range(64)
    )
    [item] = (await Tool(site, command="totals")("--project", "p", "--json")).items
    assert item["quantity"] == "639999999999999999999999999.999999936"
    assert item["events"] == 64 * 2**40


async def test_a_person_gets_a_table_or_a_chart(tool: Tool) -> None:
    shown = await tool("--project", "p", "--email", "a@example.com")
    assert shown.text.splitlines() == [
        "PROJECT  EMAIL          METRIC  QUANTITY                           EVENTS",
        "p        a@example.com  calls   100,000,000,000,000,000.299999998       4",
        "p        a@example.com  gb                            7                 1",
    ]
    drawn = await tool("--project", "p", "--email", "b@example.com", "--by", "month", "--chart")
    heading, february, march = drawn.text.split("\n")[:3]
    assert heading == "p  b@example.com  calls"
    assert february.startswith("2026-02 ██████")
    assert february.count("█") == 2 * march.count("█") > 60


async def test_a_database_that_is_away_is_a_sentence(site: Site, unused_tcp_port: int) -> None:
    away = {"mongodb_uri": f"mongodb://127.0.0.1:{unused_tcp_port}/?replicaSet=rs0", "mongodb_timeout": "0.2"}
    ended = await Tool(site, away, command="totals")("--project", "p", code=75)
    assert ended.stderr.startswith("the database is unavailable: ")
    assert ended.stdout == b""
