"""The page of the API, as a browser fetches it."""

from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest
from hatchling.builders.wheel import WheelBuilder

from ingest.docs_page import PATH
from tests.contract.live import Ingest, running_ingest
from tests.support.processes import ROOT

FILES = sorted(path.name for path in (ROOT / "ingest" / "docs").iterdir() if path.name != "page.html")
SIX = {"error", "code", "details", "timestamp", "path", "requestId"}


class Page(HTMLParser):
    """What a page loads, and the code that is written into it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_script = tag in {"script", "style"}
        if tag in {"script", "link", "img"}:
            self.loads.append(str(given.get("src") or given.get("href")))
        self.inline += [name for name in given if name == "style" or name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.inline.append(data)


async def test_the_page_loads_only_what_is_served_beside_it(ingest: Ingest, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{ingest.url}{PATH}") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        page = Page(await response.text())
    assert page.loads
    assert page.inline == []
    assert {name.removeprefix("docs/") for name in page.loads} <= set(FILES)


@pytest.mark.parametrize("name", ["", *(f"/{name}" for name in FILES)])
async def test_every_file_of_it_is_guarded_and_fetched_once(
    name: str, ingest: Ingest, session: aiohttp.ClientSession
) -> None:
    url = f"{ingest.url}{PATH}{name}"
    async with session.get(url) as response:
        assert response.status == 200
        headers = response.headers
        policy = dict(rule.partition(" ")[::2] for rule in headers["Content-Security-Policy"].split("; "))
        assert (
            policy["default-src"]
            == policy["base-uri"]
            == policy["form-action"]
            == policy["frame-ancestors"]
            == "'none'"
        )
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert len(await response.read()) > 0
    async with session.get(url, headers={"If-None-Match": f'"other", {headers["ETag"]}'}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == headers["ETag"]
    async with session.get(url, headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200
    async with session.head(url) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, headers["Content-Type"])
        assert int(response.headers["Content-Length"]) == int(headers["Content-Length"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_can_only_be_read(method: str, ingest: Ingest, session: aiohttp.ClientSession) -> None:
    async with session.request(method, f"{ingest.url}{PATH}") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD"
        assert set(await response.json()) == SIX


@pytest.mark.parametrize("path", ["/", "/page.html", "/../settings.py", "/%2e%2e/settings.py", "/nothing.js"])
async def test_nothing_else_is_below_it(path: str, ingest: Ingest) -> None:
    answer = await ingest.send(f"GET {PATH}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.status == 404


async def test_it_can_be_switched_off(
    fresh_broker: str, tmp_path_factory: pytest.TempPathFactory, session: aiohttp.ClientSession
) -> None:
    async with running_ingest(fresh_broker, tmp_path_factory, "silent", {"docs": "false"}) as ingest:
        for path in (PATH, f"{PATH}/page.js"):
            async with session.get(f"{ingest.url}{path}") as response:
                body: dict[str, Any] = await response.json()
                assert (response.status, set(body), body["code"]) == (404, SIX, "NOT_FOUND")
        async with session.get(f"{ingest.url}/openapi.json") as response:
            assert response.status == 200


def test_a_wheel_has_all_of_it() -> None:
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"ingest/docs/{name}" for name in (*FILES, "page.html")} <= files
