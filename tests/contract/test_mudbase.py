"""The published SDK, unmodified, against the real pair: what it reads is what the API must say."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from mudbase import ApiClient, BillingApi, Configuration, RecordUsageRequest
from mudbase.exceptions import ApiException, BadRequestException, NotFoundException, ServiceException
from mudbase.models.error import Error
from mudbase.models.message_response import MessageResponse
from pymongo import AsyncMongoClient

from tests.contract.live import Ingest
from tests.support.pair import EXAMPLE, EXAMPLE_PROJECT, Pair
from tests.support.waiting import eventually

REQUEST = RecordUsageRequest(**EXAMPLE)


@pytest.fixture(scope="module")
def pair(lasting_pair: Pair) -> Pair:
    """One for all tests here."""
    return lasting_pair


def record_usage(url: str, request: RecordUsageRequest, project: str = EXAMPLE_PROJECT, **options: Any) -> Any:
    """What the client's own documentation does; it blocks."""
    with ApiClient(Configuration(host=url)) as client:
        return BillingApi(client).record_usage(project, request, **options)


async def refusal(url: str, request: RecordUsageRequest, project: str = EXAMPLE_PROJECT) -> ApiException:
    with pytest.raises(ApiException) as error:
        await asyncio.to_thread(record_usage, url, request, project)
    return error.value


def named(error: Error) -> set[str]:
    """The fields that the error says something about."""
    assert error.details is not None
    details = error.details.actual_instance
    assert isinstance(details, dict)
    return set(details)


async def test_a_recorded_usage_is_a_message_response(pair: Pair) -> None:
    answer = await asyncio.to_thread(record_usage, pair.url, REQUEST)
    assert isinstance(answer, MessageResponse)
    assert answer.message == "Usage recorded successfully"
    assert answer.to_dict() == {"message": "Usage recorded successfully"}


async def test_what_the_client_records_is_stored(pair: Pair) -> None:
    project = f"proj_{uuid4().hex[:12]}"
    await asyncio.to_thread(record_usage, pair.url, REQUEST, project)
    async with AsyncMongoClient[dict[str, Any]](pair.site.mongodb_uri, uuidRepresentation="standard") as client:
        events = client[pair.site.database].events

        async def stored() -> list[dict[str, Any]]:
            return await events.find({"projectId": project}).to_list()

        documents: list[dict[str, Any]] = await eventually(stored, what="the stored event")
    [document] = documents
    assert (document["email"], document["metric"]) == (EXAMPLE["email"], EXAMPLE["metric"])
    assert str(document["quantity"]) == "195.84"


async def test_the_response_carries_the_headers_of_ours(pair: Pair) -> None:
    def with_http_info() -> Any:
        with ApiClient(Configuration(host=pair.url)) as client:
            return BillingApi(client).record_usage_with_http_info(
                EXAMPLE_PROJECT, REQUEST, _headers={"X-Request-Id": "from-the-sdk"}
            )

    response = await asyncio.to_thread(with_http_info)
    assert response.status_code == 200
    assert response.headers["X-Request-Id"] == "from-the-sdk"
    assert response.headers["Usage-Id"]


@pytest.mark.parametrize("quantity", [0, 0.0, -0.0, 1, 0.1, 1e-9, 10**16, 12345678.9])
async def test_ordinary_quantities_are_recorded(pair: Pair, quantity: float) -> None:
    request = RecordUsageRequest(email="a@b.co", metric="m", quantity=quantity)
    assert (await asyncio.to_thread(record_usage, pair.url, request)).message == "Usage recorded successfully"


@pytest.mark.parametrize(
    ("changes", "code", "fields"),
    [
        ({"email": ""}, "VALIDATION_ERROR", {"email"}),
        ({"email": "nobody"}, "VALIDATION_ERROR", {"email"}),
        ({"metric": ""}, "VALIDATION_ERROR", {"metric"}),
        ({"metric": "a\x00b"}, "VALIDATION_ERROR", {"metric"}),
        ({"quantity": -1}, "VALIDATION_ERROR", {"quantity"}),
        ({"quantity": -0.5}, "VALIDATION_ERROR", {"quantity"}),
        ({"quantity": 10**30}, "VALIDATION_ERROR", {"quantity"}),
        ({"quantity": 1e300}, "VALIDATION_ERROR", {"quantity"}),
        ({"quantity": 1e-300}, "VALIDATION_ERROR", {"quantity"}),
        ({"email": "x", "metric": "", "quantity": -1e30}, "VALIDATION_ERROR", {"email", "metric", "quantity"}),
        ({"quantity": float("nan")}, "INVALID_JSON", set()),
        ({"quantity": float("inf")}, "INVALID_JSON", set()),
        ({"quantity": float("-inf")}, "INVALID_JSON", set()),
        ({"metric": "\ud800"}, "INVALID_JSON", set()),
    ],
)
async def test_a_wrong_record_is_a_bad_request_with_the_error_parsed(
    pair: Pair, changes: dict[str, Any], code: str, fields: set[str]
) -> None:
    error = await refusal(pair.url, RecordUsageRequest(**{**EXAMPLE, **changes}))
    assert isinstance(error, BadRequestException)
    assert isinstance(error.data, Error)
    assert error.data.code == code
    assert error.data.error
    assert named(error.data) == fields
    assert error.data.path == f"/api/billing/public/projects/{EXAMPLE_PROJECT}/usage"
    assert error.data.timestamp is not None
    assert error.data.timestamp.tzinfo is not None
    assert error.data.request_id == (error.headers or {})["X-Request-Id"]


@pytest.mark.parametrize("project", ["a/b", "a b", "\x00", "ü", "x" * 65])
async def test_a_wrong_project_is_a_bad_request_that_names_it(pair: Pair, project: str) -> None:
    error = await refusal(pair.url, REQUEST, project)
    assert isinstance(error, BadRequestException)
    assert isinstance(error.data, Error)
    assert named(error.data) == {"projectId"}


async def test_an_empty_project_is_not_found(pair: Pair) -> None:
    error = await refusal(pair.url, REQUEST, "")
    assert isinstance(error, NotFoundException)
    assert '"code":"NOT_FOUND"' in (error.body or "")


async def test_an_outage_is_a_service_exception_that_says_when_to_come_back(lonely: Ingest) -> None:
    error = await refusal(lonely.url, REQUEST)
    assert isinstance(error, ServiceException)
    assert error.status == 503
    assert '"code":"UNAVAILABLE"' in (error.body or "")
    assert (error.headers or {})["Retry-After"]
