"""The runner of documentation blocks fails where a reader would."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from support.pages import PageError, agrees, left_running, read_blocks, run_page


@pytest.fixture
def page(tmp_path):
    """Write a page."""

    def page(text: str):
        path = tmp_path / "page.md"
        path.write_text(dedent(text))
        return path

    return page


def run(path) -> tuple[int, str]:
    return run_page(path, path.parent / "home", seconds=20)


def test_a_page_runs_in_order_in_one_place(page):
    """Names, files, the shell's folder and its variables last from block to block."""
    path = page("""
        # A page

        ```python title="tools.py"
        from dataclasses import dataclass

        @dataclass
        class Hit:
            title: str
        ```

        Then, in a list:

        - ```python
          import asyncio
          import tools

          hit = tools.Hit("a")
          await asyncio.sleep(0)
          ```

        ```python
        assert hit.title == "a"
        lock = asyncio.Lock()
        async with lock:
            open("made.txt", "w").close()
        ```

        ```console
        $ ls *.txt
        made.txt
        $ mkdir inner && cd inner
        $ export WORD=hello
        ```

        ```console
        $ echo $WORD \\
          world; basename $PWD
        hello world
        inner
        $ ls nowhere
        ...nowhere...
        [exit 2]
        ```

        ```toml title="crossfade.toml"
        [seams]
        ```

        ```json
        {"a": [1]}
        ```

        ```yaml
        steps: [{to: shadow}]
        ```

        <!-- not run: it would print for ever -->
        ```console
        $ yes
        ```
    """)

    assert run(path) == (0, "")


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```console\n$ echo one\ntwo\n```", "page.md:2: $ echo one\nexpected:\ntwo\n\nprinted:\none\n"),
        ("```console\n$ false\n```", "page.md:2: $ false\nexited 1, expected 0"),
        ("```console\n$ true\n[exit 2]\n```", "exited 0, expected 2"),
        ("```console\n$ exit 3\n```", "exited 3, expected 0"),
        ("```console\nls\n```", "page.md:2: a console block begins with '$ command'"),
        ("```python\n\n1 / 0\n```", 'page.md", line 3'),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", "UserWarning: old"),
        ("```python\nawait undefined()\n```", "NameError"),
        ('```python title="x.py"\nraise SystemError\n```', "SystemError"),
        ("```toml\na = \n```", "page.md:2: this toml block fails"),
        ("```json\n{a: 1}\n```", "page.md:2: this json block fails"),
        ("```yaml\na: [\n```", "page.md:2: this yaml block fails"),
    ],
)
def test_a_block_that_does_not_work_fails(page, block, complaint):
    """What would fail for a reader fails here, and the report names the page's line."""
    status, output = run(page(block))

    assert status == 1
    assert complaint in output


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```rust\nfn main() {}\n```", "page.md:1: a block of 'rust' cannot be run"),
        ("```\nplain\n```", "page.md:1: a block of 'no language' cannot be run"),
        ("<!-- not run: -->\n```rust\n```", "page.md:2: '<!-- not run: reason -->' without a reason"),
        ("<!-- not run: far away -->\n\n```text\n```", "page.md:3: a block of 'text' cannot be run"),
        ("```python\n1\n", "page.md:1: this block is never closed"),
    ],
)
def test_a_block_nobody_runs_is_refused(page, block, complaint):
    """Unknown languages, marks without a reason or out of place, and open fences are errors of the page."""
    with pytest.raises(PageError) as raised:
        read_blocks(page(block))

    assert complaint in str(raised.value)


def test_a_marked_block_is_left_out_with_its_reason(page):
    """A marked block of any language is listed, not run."""
    (block,) = read_blocks(page("<!-- not run: needs a compiler -->\n```rust\nfn main() {}\n```\n"))

    assert (block.language, block.not_run, block.line) == ("rust", "needs a compiler", 3)


@pytest.mark.parametrize(
    ("expected", "output", "answer"),
    [
        ("", "anything\n", True),
        ("a\nb", "a\nb\n", True),
        ("a", "a\nb\n", False),
        ("a\n...", "a\nb\nc\n", True),
        ("a\n...", "a\n", True),
        ("...\nz", "a\nb\nz\n", True),
        ("took ... ms", "took 12.5 ms\n", True),
        ("took ... ms", "took 12\n5 ms\n", False),
        ("a.c", "abc\n", False),
        ("a", "", False),
        ("padded", "padded   \n", True),
    ],
)
def test_dots_match_anything_and_nothing_else_does(expected, output, answer):
    """Text is compared literally, except for ``...``."""
    assert agrees(expected, output) is answer


def test_a_page_sees_its_own_home_and_bus(page):
    """Servers a page starts keep their state in the page's folder, and the project's commands are on PATH."""
    path = page("""
        ```console
        $ test "$HOME" = "$PWD" && echo $CROSSFADE_BUS
        embedded:///.../home/.crossfade
        $ python -c "import crossfade.shim"
        ```
    """)

    assert run(path) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's environment")
def test_what_a_page_leaves_running_is_ended(page):
    """A server left in the background, even one of another session that ignores SIGTERM, is gone afterwards."""
    path = page("""
        ```console
        $ sleep 300 &
        $ (trap '' TERM; exec setsid sleep 300) &
        ```
    """)

    assert run(path) == (0, "")
    assert left_running(path.parent / "home") == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's environment")
def test_only_the_pages_own_processes_are_seen(tmp_path):
    """A process of another home is none of ours."""
    with subprocess.Popen(["sleep", "300"], env={"HOME": f"{tmp_path}/other", "PATH": "/usr/bin:/bin"}) as other:
        assert left_running(tmp_path) == []
        assert left_running(tmp_path / "other") == [other.pid]
        other.kill()


def test_a_page_that_never_ends_is_stopped(page):
    """A block that hangs fails its page by name."""
    with pytest.raises(PageError, match="still running after 1 s"):
        run_page((path := page("```console\n$ sleep 300\n```")), path.parent / "home", seconds=1)
