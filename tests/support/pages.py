"""README and the pages of docs/."""

from typing import Final

from tests.support.processes import ROOT

DOCS: Final = ROOT / "docs"
PAGES: Final = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
