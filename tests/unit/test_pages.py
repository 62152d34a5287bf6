"""What README and docs/ name, held to what is there."""

import re
from collections import Counter
from pathlib import Path

import pytest
import typer

import ingest.keys
import worker.commands
from tests.support.pages import PAGES
from tests.support.processes import ROOT

FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

PATH = re.compile(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./@-]*\w/?)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"(?:python -m |`usage-)(?:worker|ingest) (dead-letters \w+|keys \w+|[a-z][a-z-]+)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """What a link to one of a page's headings ends with, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def outside_of_urls(page: Path) -> str:
    return re.sub(r"\b[a-z+]+://\S+", "", page.read_text())


@pages
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = set(PATH.findall(outside_of_urls(page)))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pages
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for path, heading in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in anchors(target), f"{path}#{heading}"


def test_no_row_and_no_code_stands_twice() -> None:
    text = "".join(page.read_text() for page in PAGES)
    said = re.findall(r"^\|(?! ---).+\|$(?!\n\| ---)", text, re.MULTILINE)  # rows, but no heads
    said += re.findall(r"^```\w+\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [one for one, times in Counter(said).items() if times > 1] == []
    assert len(said) > 100


@pages
def test_every_page_is_named_in_readme(page: Path) -> None:
    assert page == PAGES[0] or f"](docs/{page.name})" in PAGES[0].read_text()


@pages
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^ +|`)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= TARGETS


def test_the_pages_name_enough_for_this_to_mean_something() -> None:
    readme = outside_of_urls(PAGES[0])
    assert len(set(PATH.findall(readme))) > 15
    assert len(LINK.findall(readme)) > 10
    assert {"run", "test", "bench", "soak"} <= TARGETS


def commands() -> set[str]:
    """What both programs can be asked, as it is written after their names."""
    named: set[str] = set()
    for app, prefix in ((worker.commands.app, ""), (ingest.keys.app, "keys ")):
        group = typer.main.get_group(app)
        for name, command in group.commands.items():
            named.add(f"{prefix}{name}")
            named |= {f"{name} {below}" for below in getattr(command, "commands", ())}
    return named | {"keys"}


@pages
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = set(COMMAND.findall(page.read_text()))
    assert named - commands() == set()
