"""The page of the API in a browser, with the real pair behind it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from contract.event import event_id
from contract.fields import RULES
from ingest.api_keys import digest_of, spell_key
from tests.contract.live import Ingest, running_ingest
from tests.support.browser import NoBrowser, Visit, running_browser, visiting
from tests.support.pair import EXAMPLE, Pair
from tests.support.snippets import SUCCESS, run_snippet
from tests.support.waiting import eventually
from worker.documents import from_document

Database = AsyncDatabase[dict[str, Any]]

KEY = spell_key("aaaaaaaa", "s" * 43)
LARGEST = "9223372036854775807"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all visits. A laptop may be without; CI may not."""
    expect.set_options(timeout=30_000)  # the five seconds of Playwright are few where the machine is shared
    try:
        async with running_browser() as browser:
            yield browser
    except NoBrowser as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
async def events(lasting_pair: Pair) -> AsyncIterator[Database]:
    uri = lasting_pair.site.mongodb_uri
    async with AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", tz_aware=True) as client:
        yield client[lasting_pair.site.database]


@pytest.fixture
async def visit(browser: Browser, lasting_pair: Pair) -> AsyncIterator[Visit]:
    async with visiting(browser, lasting_pair.url) as visit:
        yield visit


@pytest.fixture
def project() -> str:
    """One of the test's own."""
    return f"proj_{uuid4().hex[:12]}"


async def stored(events: Database, project: str, count: int = 1) -> list[dict[str, Any]]:
    async def all_there() -> list[dict[str, Any]] | None:
        found = await events.events.find({"projectId": project}).to_list()
        return found if len(found) >= count else None

    return await eventually(all_there, what=f"{count} events of {project}")


async def test_a_record_sent_from_the_page_is_stored(visit: Visit, events: Database, project: str) -> None:
    await visit.page.get_by_role("button", name="Every field").click()
    await visit.fill(projectId=project)
    await visit.send("200 OK")

    inspector = visit.page.get_by_role("region", name="Inspector")
    await expect(inspector).to_contain_text("Usage recorded successfully")
    [document] = await stored(events, project)
    assert document["_id"] == UUID(await inspector.locator(".usage-id code").text_content())
    assert document["_id"] == event_id(project, "order-42")
    assert str(document["quantity"]) == "12345678901234567.89"
    assert document["properties"] == {"region": "eu-north", "retries": 3, "sandbox": True}


async def test_each_error_stands_beside_its_field_until_that_is_changed(visit: Visit) -> None:
    page = visit.page
    await page.get_by_role("button", name="All of it").click()
    await visit.send("400 Bad Request")

    await expect(page.get_by_role("status")).to_contain_text("VALIDATION_ERROR: see the marked fields.")
    await expect(page.locator("#email")).to_be_focused()
    for name in ("email", "metric", "quantity", "timestamp"):
        field = page.get_by_role("textbox", name=name, exact=False).and_(page.locator(f"#{name}"))
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_have_accessible_description(RULES[name])
    await expect(page.locator("#projectId")).not_to_have_attribute("aria-invalid", "true")

    await visit.fill(email="a@b.co")
    await expect(page.locator("#email")).not_to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#email-error")).to_be_hidden()
    await expect(page.locator("#metric-error")).to_be_visible()


async def test_what_no_server_would_see_is_said_before_sending(visit: Visit) -> None:
    await visit.fill(projectId="..")
    await visit.add_property("n", "number", "many")
    await visit.page.get_by_role("button", name="Send", exact=True).click()
    await visit.told("Not sent")
    await expect(visit.page.locator("#projectId-error")).to_contain_text(RULES["projectId"])
    await expect(visit.page.locator("#properties-error")).to_contain_text("n must be a JSON number")
    assert [url for url in visit.requests if url.endswith("/usage")] == []


async def test_the_code_follows_the_form(visit: Visit) -> None:
    for language in SUCCESS:
        assert '"program quantify"' in await visit.code(language)
    await visit.fill(metric="other", idempotencyKey="order-7", projectId="p-1")
    await visit.add_property("region", "text", "eu")
    for language in SUCCESS:
        code = await visit.code(language)
        assert '"other"' in code
        assert "order-7" in code
        assert "p-1" in code
        assert ('"region": "eu"' in code) == (language != "Python"), code
    assert "no way to send properties" in await visit.code("Python")


SNIPPETS = ["cURL", "Python", "JavaScript"]
# name -> what is typed, properties, and which snippets can say it
TRICKY: dict[str, tuple[dict[str, str], list[tuple[str, str, str]], list[str]]] = {
    "quotes": (
        {
            "email": "o'brien@example.com",
            "metric": "it's \"50%\" of $HOME `id` \\n \\' ☃ 𝄞 \u2028 @x #y //z {a:'b'} !!",
            "quantity": "12345678901234567",
        },
        [],
        SNIPPETS,
    ),
    "keys": ({"quantity": "1.50E2", "idempotencyKey": "\"order\" \\ '42' "}, [], SNIPPETS),
    "largest": ({}, [("n", "number", LARGEST)], ["cURL", "JavaScript"]),
    "foreign": ({"quantity": "-0", "idempotencyKey": "Zähler 7"}, [], ["cURL", "JavaScript"]),
    "exact": ({"quantity": "12345678901234567.89"}, [], ["cURL", "JavaScript"]),
    "properties": (
        {"timestamp": datetime.now(UTC).isoformat()},
        [
            ("__proto__", "text", 'it\'s "it"\\'),
            ("1", "false", ""),
            ("small", "number", "0.000000001"),
        ],
        ["cURL", "JavaScript"],
    ),
}


@pytest.mark.parametrize("case", TRICKY)
async def test_every_snippet_records_what_the_form_does(
    case: str, visit: Visit, events: Database, project: str
) -> None:
    texts, properties, languages = TRICKY[case]
    await visit.fill(projectId=project, **texts)
    for name, kind, text in properties:
        await visit.add_property(name, kind, text)
    codes = {language: await visit.code(language) for language in languages}

    await visit.send("200 OK")
    outputs = await asyncio.gather(*(run_snippet(language, code) for language, code in codes.items()))

    for language, output in zip(codes, outputs, strict=True):
        assert SUCCESS[language] in output, codes[language]
    key = texts.get("idempotencyKey")
    documents = await stored(events, project, 1 + len(codes) if key is None else 1)
    assert len({from_document(document).content for document in documents}) == 1
    if key is not None:
        assert [document["_id"] for document in documents] == [event_id(project, key)]
    [first, *_] = documents
    assert first["metric"] == texts.get("metric", EXAMPLE["metric"])
    assert set(first.get("properties", {})) == {name for name, _, _ in properties}


async def test_a_snippet_is_copied_as_it_is_shown(visit: Visit) -> None:
    await visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await visit.page.get_by_role("tab", name="Python").click()
    # The word stands there for a moment, so time must stand still until it has been looked at.
    await visit.page.clock.install()
    await visit.page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    copy = visit.page.get_by_role("button", name="Copy the Python code")
    await copy.click()
    await expect(copy).to_have_text("Copied")
    assert await visit.page.evaluate("navigator.clipboard.readText()") == await visit.code("Python")
    await visit.page.clock.run_for(1500)
    await expect(copy).to_have_text("Copy")


async def test_no_snippet_pretends_to_send_what_its_client_cannot(visit: Visit) -> None:
    await visit.fill(quantity="12345678901234567.89")
    assert "round" in await visit.code("Python")
    assert "record_usage" not in await visit.code("Python")
    await visit.fill(quantity="1", idempotencyKey="Zähler 7", timestamp="2026-01-31T12:00:00Z")
    assert "no way to send idempotencyKey and timestamp" in await visit.code("Python")


async def test_what_is_typed_stays_text(visit: Visit) -> None:
    await visit.fill(metric="<img src=x onerror=alert(1)>", email="<b>@x")
    await visit.send("400")
    await visit.page.get_by_role("tab", name="Sent").click()
    await expect(visit.page.get_by_role("tabpanel", name="Sent")).to_contain_text("<img src=x")
    assert await visit.page.locator("main img, main b").count() == 0


async def test_a_record_is_sent_with_the_keyboard_alone(visit: Visit, events: Database, project: str) -> None:
    keyboard = visit.page.keyboard

    async def go_to(name: str) -> None:
        for _ in range(60):
            await keyboard.press("Tab")
            if await visit.page.evaluate("document.activeElement.id") == name:
                return
        pytest.fail(f"Tab does not come to {name}")

    await keyboard.press("Tab")
    await expect(visit.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await keyboard.press("Enter")
    await go_to("projectId")
    await keyboard.press("ControlOrMeta+A")
    await keyboard.type(project)
    await go_to("quantity")
    await keyboard.press("ControlOrMeta+A")
    await keyboard.type("7.25")
    await keyboard.press("Enter")
    await visit.told("200 OK")
    [document] = await stored(events, project)
    assert str(document["quantity"]) == "7.25"

    await go_to("code-tab-0")
    await keyboard.press("ArrowRight")
    await expect(visit.page.get_by_role("tab", name="Python")).to_be_focused()
    await expect(visit.page.get_by_role("tabpanel", name="Python")).to_be_visible()
    await expect(visit.page.get_by_role("tabpanel", name="cURL")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
async def test_everybody_can_read_and_use_it(
    width: int, theme: Literal["light", "dark"], browser: Browser, lasting_pair: Pair
) -> None:
    async with visiting(browser, lasting_pair.url, width=width, theme=theme) as visit:
        for example, status in (("Every field", "200 OK"), ("All of it", "400")):
            await visit.page.get_by_role("button", name=example).click()
            await visit.fill(projectId="looked-at")
            await visit.send(status)
            await visit.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            assert await visit.overflow() == 0
        found = await Axe().run(visit.page)
        assert found.violations_count == 0, found.generate_report()
        paper = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) > 382) == (theme == "light")


async def test_the_theme_that_was_chosen_is_kept(visit: Visit) -> None:
    button = visit.page.get_by_role("button", name="Dark theme")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await button.click()
    await visit.page.reload()
    await expect(button).to_have_attribute("aria-pressed", "true")


async def test_a_new_key_makes_each_press_of_send_the_same_record(visit: Visit, events: Database, project: str) -> None:
    await visit.fill(projectId=project)
    await visit.page.get_by_role("button", name="New key").click()
    key = await visit.page.locator("#idempotencyKey").input_value()
    assert key in await visit.code("cURL")
    await visit.send("200 OK")
    await visit.fill(metric="other")
    await visit.fill(metric=str(EXAMPLE["metric"]))
    await visit.send("200 OK")
    history = visit.page.get_by_role("region", name="Inspector").get_by_role("listitem")
    await expect(history).to_have_count(2)
    [document] = await stored(events, project)
    assert document["_id"] == event_id(project, key)


async def test_what_was_sent_before_can_be_looked_at_again(visit: Visit) -> None:
    await visit.fill(projectId="looked-at", metric="first")
    await visit.send("200 OK")
    await visit.fill(quantity="many")
    await visit.send("400")
    inspector = visit.page.get_by_role("region", name="Inspector")
    await expect(inspector.locator(".summary")).to_contain_text("400")
    await inspector.get_by_role("listitem").last.get_by_role("button").click()
    await expect(inspector.locator(".summary")).to_contain_text("200 OK")
    await inspector.get_by_role("tab", name="Headers").click()
    await expect(inspector.get_by_role("tabpanel", name="Headers")).to_contain_text("x-request-id")


async def test_an_outage_says_when_to_try_again(browser: Browser, lonely: Ingest) -> None:
    async with visiting(browser, lonely.url) as visit:
        await visit.send("503")
        inspector = visit.page.get_by_role("region", name="Inspector")
        await expect(inspector).to_contain_text("UNAVAILABLE")
        await expect(inspector.locator(".retry")).to_have_text("Try again now.")


async def test_no_answer_is_not_taken_for_a_refusal(visit: Visit) -> None:
    await visit.page.route("**/usage", lambda route: route.abort())
    await visit.page.get_by_role("button", name="Send", exact=True).click()
    await visit.told("No answer came. Whether the record arrived is not known")
    await expect(visit.page.get_by_role("button", name="Send", exact=True)).not_to_have_attribute(
        "aria-disabled", "true"
    )


@pytest.fixture(scope="module")
async def guarded(fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    """Ingest that asks for an API key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    entry = {
        "id": "aaaaaaaa",
        "sha256": digest_of(KEY).hex(),
        "projects": "all",
        "createdAt": "2026-01-31T12:00:00Z",
    }
    keys.write_text(json.dumps({"keys": [entry]}))
    access = {"auth": "api-key", "api_keys_file": str(keys)}
    async with running_ingest(fresh_broker, tmp_path_factory, "guarded", access) as ingest:
        yield ingest


async def test_an_api_key_is_asked_for_used_and_kept_nowhere(browser: Browser, guarded: Ingest) -> None:
    async with visiting(browser, guarded.url) as visit:
        field = visit.page.get_by_label("API key")
        await visit.send("401")
        await expect(field).to_be_focused()
        await expect(field).to_have_attribute("aria-invalid", "true")
        await field.fill("zu kurz ☃")
        await visit.page.get_by_role("button", name="Send", exact=True).click()
        await visit.told("Not sent")
        await field.fill(KEY)
        await visit.fill(projectId="keyed")
        await visit.send("200 OK")

        codes = {language: await visit.code(language) for language in SNIPPETS}
        outputs = await asyncio.gather(*(run_snippet(language, code, key=KEY) for language, code in codes.items()))
        for language, output in zip(codes, outputs, strict=True):
            assert SUCCESS[language] in output, codes[language]
        assert KEY not in (await visit.page.content())
        assert KEY not in await visit.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


async def test_without_keys_none_is_asked_for(visit: Visit) -> None:
    await expect(visit.page.get_by_label("API key")).to_have_count(0)


async def test_the_reference_says_what_openapi_says(visit: Visit) -> None:
    document = await visit.page.evaluate("fetch('openapi.json').then((answer) => answer.json())")
    text = await visit.page.locator("main").inner_text()
    [single, batch] = [item["post"] for path, item in document["paths"].items() if path.endswith(("usage", "batch"))]
    for name, rule in document["components"]["schemas"]["Record"]["properties"].items():
        assert name in text
        assert rule["description"] in text
    for operation in (single, batch):
        assert operation["description"] in text
        assert operation["requestBody"]["description"] in text
        for parameter in operation["parameters"]:
            assert parameter["name"] in text
    for status, response in single["responses"].items():
        assert status in text
        assert response["description"].replace("`", "") in text
        for name in response["headers"]:
            assert name in text


async def test_a_page_without_its_contract_says_so(browser: Browser, lasting_pair: Pair) -> None:
    async with await browser.new_page() as page:
        await page.route("**/openapi.json", lambda route: route.fulfill(status=502, body="down"))
        await page.goto(f"{lasting_pair.url}/docs")
        await expect(page.get_by_role("alert")).to_contain_text("The API cannot be described")
