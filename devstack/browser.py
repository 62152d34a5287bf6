"""The browser of this machine, for the tests that look at a page."""

import shutil
from pathlib import Path

PACKAGE = "chromium"

# Ubuntu's chromium-browser is none: it asks for a snap.
NAMES = ("chromium", "google-chrome-stable", "google-chrome")


def find_browser() -> Path | None:
    """Chromium, or what is made from it."""
    found = filter(None, map(shutil.which, NAMES))
    return next(map(Path, found), None)
