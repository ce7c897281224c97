"""Every page tells the truth: its blocks run, its links lead somewhere, and the index knows it."""

from __future__ import annotations

import fcntl
import re
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from crossfade.shim.stages import TABLE
from support.links import broken, links
from support.pages import read_blocks, run_page
from support.project import TOP, files

PAGES = files("README.md", "docs/**.md")
LINKED = files("*.md")
# Blocks marked "not run" in all pages together. Raise it in the commit that needs it, with the reason there.
MOST_NOT_RUN = 15


@pytest.mark.timeout(300)  # a page that names a port waits for the others that do
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_of_a_page_runs(page, tmp_path):
    """Code, commands and their output, and settings on a page work as shown, in the page's order."""
    with own_ports((TOP / page).read_text()):
        status, output = run_page(TOP / page, tmp_path / "home")

    assert status == 0, output


@contextmanager
def own_ports(text):
    """While the block runs no other page does that names one of the same ports: two would answer for each other."""
    with ExitStack() as held:
        for port in sorted(set(re.findall(r"127\.0\.0\.1:([1-9]\d{3,4})", text))):
            lock = held.enter_context((Path(tempfile.gettempdir()) / f"crossfade-docs-{port}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_blocks_that_do_not_run_are_few_and_listed(note):
    """The marked blocks appear in the run's summary with their reasons, and there are few."""
    marked = [block for page in PAGES for block in read_blocks(TOP / page) if block.not_run]

    for block in marked:
        note(f"{block.page.relative_to(TOP)}:{block.line}: not run: {block.not_run}")
    assert len(marked) <= MOST_NOT_RUN


@pytest.mark.parametrize("page", LINKED, ids=str)
def test_links_lead_somewhere(page):
    """Each relative link of a page names an existing file, and a heading that is in it."""
    assert broken(TOP / page) == []


def test_the_index_links_every_page():
    """No page of docs/ can be reached by nobody."""
    index = TOP / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}

    assert [page for page in PAGES if page.parts[0] == "docs" and TOP / page not in {index, *linked}] == []


def test_the_readmes_stages_are_the_codes():
    """The README's table says of each stage what the code's own table says."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", (TOP / "README.md").read_text(), re.MULTILINE)
    answers = {"legacy": "legacy", "split": "the bus for a share of keys, else legacy", "bus": "the bus"}

    assert rows == [(stage, answers[row.answers], row.on_the_bus, row.way_back) for stage, row in TABLE.items()]


def test_ci_runs_the_readmes_command():
    """The line a reader copies to run the tests is the line CI runs, letter for letter."""
    command = "python3 -m pip install uv && python3 -m uv run pytest"

    assert f"$ {command}\n" in (TOP / "README.md").read_text()
    assert f"'{command}'\n" in (TOP / ".ci" / "run").read_text()


def test_pages_are_found():
    """The run sees the README and the documentation's front page."""
    assert {Path("README.md"), Path("docs/index.md")} <= set(PAGES)
