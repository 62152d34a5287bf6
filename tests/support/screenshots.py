"""The pictures of the page in docs/, taken anew: python -m tests.support.screenshots."""

import asyncio
import tempfile
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser

from devstack import Devstack
from devstack.application import Application
from tests.support.browser import Visit, running_browser, visiting

DIRECTORY = Path(__file__).parents[2] / "docs"

WIDTHS = {"desktop": 1280, "phone": 390}
HEIGHT = 1000
PORT = 8080
KEY = "order-42"


async def take(browser: Browser, url: str, device: str, theme: Literal["light", "dark"]) -> None:
    """One picture: a record that was taken in the light, one that was refused in the dark."""
    async with visiting(browser, url, width=WIDTHS[device], height=HEIGHT, theme=theme) as visit:
        if theme == "light":
            await visit.fill(idempotencyKey=KEY)
            await visit.send("200 OK")
        else:
            await visit.page.get_by_role("button", name="All of it").click()
            await visit.send("400")
        await _show(visit, "#inspector" if (device, theme) == ("phone", "light") else "#try")
        await visit.page.screenshot(path=DIRECTORY / f"docs-{device}-{theme}.png")


async def _show(visit: Visit, part: str) -> None:
    await visit.page.evaluate("document.activeElement.blur()")
    await visit.page.mouse.move(0, 0)
    await visit.page.locator(part).evaluate("(part) => part.scrollIntoView()")


async def take_all(url: str) -> None:
    """Both devices, both themes."""
    async with running_browser() as browser:
        for device in WIDTHS:
            await take(browser, url, device, "light")
            await take(browser, url, device, "dark")


def main() -> None:
    """Bring the pair up, and look at it."""
    with tempfile.TemporaryDirectory() as logs, Devstack() as stack:
        stack.start()
        with Application(stack.broker.url, stack.database.uri, Path(logs), port=PORT) as application:
            asyncio.run(take_all(application.url))


if __name__ == "__main__":
    main()
