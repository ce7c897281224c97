"""Documentation pages as programs: every fenced block of a page, in order, in one folder.

    ```python                 runs; one namespace per page, `await` allowed at the top level
    ```python title="x.py"    is saved as x.py for later blocks, and runs as module `x`
    ```console                `$ command` lines run in one shell per page, then the output they must print:
                              `...` matches anything; no output shown: any; `[exit 2]` at the end: that status
    ```toml, json, yaml       is parsed; with a title also saved

Any other block, or one that cannot run, needs `<!-- not run: reason -->` on the line before. A page runs in a
process of its own (`page_runner.py`).
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("console", "json", "python", "toml", "yaml")

_FENCE = re.compile(r"(?P<indent>\s*(?:(?:[-*+]|\d+[.)])\s+)?)(?P<ticks>`{3,}|~{3,})(?P<info>.*)")
_TITLE = re.compile(r'title="([^"]+)"')
# The pytest plugins that pages use; loading all that this repository installs takes five seconds of CPU a run.
_PLUGINS = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "pytest_asyncio.plugin,anyio.pytest_plugin,xdist.plugin",
}
_NOT_RUN = re.compile(r"\s*<!--\s*not run:(?P<reason>.*)-->\s*")


class PageError(Exception):
    """A page breaks the rules above; the text names the line."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block; ``line`` is its first line of text, counted from 1."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None


@dataclass(frozen=True, kw_only=True)
class Command:
    """One ``$`` line of a console block and what it must print; ``status`` is its exit status."""

    line: int
    command: str
    expected: str
    status: int


@dataclass
class _Open:
    """A fence that has begun."""

    ticks: str
    indent: int
    info: str
    line: int
    not_run: str | None
    lines: list[str] = field(default_factory=list)


def read_blocks(page: Path) -> list[Block]:
    """Every fenced block of a Markdown page. Raises ``PageError`` for what no reader or runner understands."""
    blocks: list[Block] = []
    fence: _Open | None = None
    before = ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        found = _FENCE.fullmatch(line)
        if fence is None and found:
            fence = _Open(found["ticks"], len(found["indent"]), found["info"].strip(), number + 1, _reason(before))
        elif fence is not None and found and found["ticks"].startswith(fence.ticks) and not found["info"].strip():
            blocks.append(_close(page, fence))
            fence = None
        elif fence is not None:
            fence.lines.append(_dedent(line, fence.indent))
        before = line
    if fence is not None:
        raise PageError(f"{page}:{fence.line - 1}: this block is never closed")
    return blocks


def _reason(line: str) -> str | None:
    found = _NOT_RUN.fullmatch(line)
    return found["reason"].strip() if found else None


def _dedent(line: str, indent: int) -> str:
    return line[indent:] if not line[:indent].strip() else line


def _close(page: Path, fence: _Open) -> Block:
    language = fence.info.split()[0] if fence.info else ""
    where = f"{page}:{fence.line - 1}"
    if fence.not_run == "":
        raise PageError(f"{where}: '<!-- not run: reason -->' without a reason")
    if fence.not_run is None and language not in LANGUAGES:
        raise PageError(
            f"{where}: a block of {language or 'no language'!r} cannot be run: "
            f"use one of {', '.join(LANGUAGES)}, or put '<!-- not run: reason -->' on the line before"
        )
    title = _TITLE.search(fence.info)
    return Block(
        page=page,
        line=fence.line,
        language=language,
        title=title[1] if title else None,
        text="".join(f"{line}\n" for line in fence.lines),
        not_run=fence.not_run,
    )


def read_commands(block: Block) -> list[Command]:
    """The commands of a console block. A trailing backslash continues a command on the next line."""
    commands: list[Command] = []
    chunks: list[tuple[int, list[str]]] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        if line.startswith("$ "):
            chunks.append((number, [line[2:]]))
        elif chunks:
            chunks[-1][1].append(line)
        else:
            raise PageError(f"{block.page}:{number}: a console block begins with '$ command'")
    for number, lines in chunks:
        command = [lines.pop(0)]
        while command[-1].endswith("\\") and lines:
            command.append(lines.pop(0))
        status = 0
        if lines and (found := re.fullmatch(r"\[exit (\d+)\]", lines[-1])):
            status = int(found[1])
            lines.pop()
        commands.append(
            Command(line=number, command="\n".join(command), expected="\n".join(lines).strip("\n"), status=status)
        )
    return commands


def agrees(expected: str, output: str) -> bool:
    """Whether a command printed what its page shows.

    A line of ``...`` is any number of lines, ``...`` inside a line anything within it; spaces at line ends do
    not count. Nothing expected agrees with everything.
    """
    if not expected:
        return True
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += "[^\\n]*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, output.strip("\n") + "\n") is not None


def run_page(page: Path, folder: Path, *, seconds: float = 110) -> tuple[int, str]:
    """Run a page's blocks in ``folder``, as its home and with a bus of its own; returns status and output.

    Whatever the page started and left running is ended. Raises ``PageError`` after ``seconds``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **_PLUGINS,
        "HOME": str(folder),
        "CROSSFADE_BUS": f"embedded://{folder}/.crossfade",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    runner = [sys.executable, "-W", "error", str(Path(__file__).with_name("page_runner.py")), str(page)]
    # A file, not a pipe: a server left running would keep a pipe open.
    with (folder / ".output").open("w+") as output:
        try:
            status = subprocess.run(
                runner,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            output.seek(0)
            raise PageError(f"{page}: still running after {seconds} s, having printed:\n{output.read()}") from error
        finally:
            _end(folder)
        output.seek(0)
        return status, output.read()


def _end(home: Path) -> None:
    """End what a page left running: politely, and after a second for good."""
    for pid in left_running(home):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not select.select([process], [], [], 1)[0]:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], 1)
        finally:
            os.close(process)


def left_running(home: Path) -> list[int]:
    """Processes whose home is ``home``: only what a page started has it. Linux only; elsewhere none is seen."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HOME={home}".encode() in entry.read_bytes().split(b"\0"):
                pids.append(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or somebody else's
    return pids
