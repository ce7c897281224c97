"""Runs the blocks of one page: ``python page_runner.py PAGE`` in the page's own folder and environment.

Stops at the first block that fails, prints where and why, and exits 1.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import json
import linecache
import subprocess
import sys
import tomllib
import types
from contextlib import closing
from pathlib import Path

import yaml
from pages import Block, Command, PageError, agrees, read_blocks, read_commands

# Printed by the shell after each command, so that one shell can serve a whole page.
MARK = "-- end of command, status "


class Shell:
    """One bash per page: ``cd``, ``export`` and background jobs last from block to block."""

    def __init__(self) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """End the shell; its background jobs go on until the page's caller ends them."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.close()
        self._bash.wait()
        self._bash.stdout.close()  # not read to its end: the jobs hold it

    def run(self, command: str) -> tuple[str, int]:
        """What ``command`` printed, both streams, and its exit status."""
        assert self._bash.stdin
        assert self._bash.stdout
        # The command reads no input: ours is the script itself.
        self._bash.stdin.write(f"{{ {command}\n}} < /dev/null; printf '\\n{MARK}%s\\n' $?\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            if line.startswith(MARK):
                return "".join(lines).removesuffix("\n"), int(line.removeprefix(MARK))
            lines.append(line)
        return "".join(lines), self._bash.wait()


class Runner:
    """The state blocks of one page share: a namespace, an event loop, a shell."""

    def __init__(self) -> None:
        # A real module, so that dataclasses and type hints of the page resolve.
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module
        sys.path[0] = str(Path.cwd())  # a page imports what it saved, nothing of the tests
        self._loop = asyncio.Runner()
        self._shell = Shell()

    def close(self) -> None:
        """End what the blocks shared."""
        self._loop.close()
        self._shell.close()

    def run(self, block: Block) -> None:
        """Run, check or save one block; whatever is wrong is raised, its place noted."""
        try:
            if block.title:
                _save(block)
            self._run(block)
        except PageError:
            raise
        except Exception as error:
            error.add_note(f"{block.page}:{block.line}: this {block.language} block fails")
            raise

    def _run(self, block: Block) -> None:
        match block.language:
            case "python" if block.title:
                importlib.import_module(".".join(Path(block.title).with_suffix("").parts))
            case "python":
                self._execute(block)
            case "console":
                for command in read_commands(block):
                    self._command(block, command)
            case "toml":
                tomllib.loads(block.text)
            case "json":
                json.loads(block.text)
            case "yaml":
                yaml.safe_load(block.text)

    def _execute(self, block: Block) -> None:
        # Blank lines first: a traceback then names the line of the page itself.
        name = str(block.page)
        code = compile("\n" * (block.line - 1) + block.text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        linecache.updatecache(name)
        function = types.FunctionType(code, vars(self._module))
        if code.co_flags & inspect.CO_COROUTINE:
            self._loop.run(function())
        else:
            function()

    def _command(self, block: Block, command: Command) -> None:
        output, status = self._shell.run(command.command)
        where = f"{block.page}:{command.line}: $ {command.command}"
        if status != command.status:
            raise PageError(f"{where}\nexited {status}, expected {command.status}, and printed:\n{output}")
        if not agrees(command.expected, output):
            raise PageError(f"{where}\nexpected:\n{command.expected}\n\nprinted:\n{output}")


def _save(block: Block) -> None:
    target = Path(block.title or "")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text)


def main(page: Path) -> int:
    """Run every block of ``page`` that is not marked; 1 when one fails."""
    try:
        blocks = [block for block in read_blocks(page) if block.not_run is None]
        with closing(Runner()) as runner:
            for block in blocks:
                runner.run(block)
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
