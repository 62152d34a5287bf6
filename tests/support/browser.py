"""A person with a browser, who looks at the page of the API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from playwright.async_api import Browser, ConsoleMessage, Error, Page, ViewportSize, async_playwright, expect

from devstack.browser import find_browser

# In containers the kernel gives root no namespaces, which Chromium's sandbox is made of.
_ARGUMENTS = ["--no-sandbox"]

_NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


class NoBrowser(Exception):
    """There is no browser on this machine: install the package chromium."""


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """The system's browser, without a window. Raises NoBrowser."""
    program = find_browser()
    if program is None:
        raise NoBrowser("there is no browser on this machine: install the package chromium")
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=program, args=_ARGUMENTS) as browser,
    ):
        yield browser


@dataclass
class Visit:
    """A page that is open, with all that it has asked for and complained about."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def fill(self, **texts: str) -> None:
        """Type into fields by their names."""
        for name, text in texts.items():
            await self.page.locator(f"#{name}").fill(text)

    async def add_property(self, name: str, kind: str, text: str = "") -> None:
        """Add a row to the properties, and fill it in."""
        await self.page.get_by_role("button", name="Add a property").click()
        row = self.page.get_by_role("group", name="Property").last
        await row.get_by_label("Name").fill(name)
        await row.get_by_label("Type").select_option(kind)
        if text:
            await row.get_by_label("Value").fill(text)

    async def send(self, status: str) -> None:
        """Send the record, and wait for the answer to be told."""
        await self.page.get_by_role("button", name="Send", exact=True).click()
        await self.told(status)

    async def told(self, text: str) -> None:
        """Wait until a text is among what a screen reader reads out."""
        await expect(self.page.get_by_role("status")).to_contain_text(text)

    async def code(self, language: str) -> str:
        """The snippet in a language, as its button copies it."""
        return await self.page.locator(f"#code pre[aria-label={language}]").text_content() or ""

    async def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )

    def note(self, message: ConsoleMessage) -> None:
        """Keep an error of the console. A refused record is one, too, for Chromium; the page is not to blame."""
        if message.type in {"error", "warning"} and not message.location["url"].endswith("/usage"):
            self.errors.append(message.text)

    def fail(self, error: Error) -> None:
        """Keep an exception that nothing caught."""
        self.errors.append(str(error))

    async def check(self) -> None:
        """Nothing went wrong, and nothing was asked of anybody else."""
        assert self.errors == []
        assert await self.page.evaluate("window.violations") == []
        assert [url for url in self.requests if not url.startswith(f"{self.origin}/")] == []


@asynccontextmanager
async def visiting(
    browser: Browser, origin: str, *, width: int = 1280, height: int = 900, theme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Visit]:
    """The page at `origin`, open and ready for the length of a block, in which nothing may go wrong."""
    viewport = ViewportSize(width=width, height=height)
    async with await browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce") as context:
        page = await context.new_page()
        visit = Visit(page, origin)
        page.on("console", visit.note)
        page.on("pageerror", visit.fail)
        page.on("request", lambda request: visit.requests.append(request.url))
        await page.add_init_script(_NOTE_VIOLATIONS)
        await page.goto(f"{origin}/docs")
        await page.wait_for_selector("body[data-ready]")
        yield visit
        await visit.check()
