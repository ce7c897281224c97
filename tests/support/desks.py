"""The example desk as its users start it: real processes, real HTTP, an index and a journal of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

TOOLS = ("search", "fetch", "summarise", "write_report")
DESK = Path(__file__).resolve().parents[2] / "examples" / "desk"


def environment(home, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DESK_", "CROSSFADE_"))}
    journal = str(home / "journal.jsonl")
    return clean | {"PYTHONPATH": str(DESK), "DESK_HOME": str(home), "DESK_JOURNAL": journal, **more}


def run(*arguments, home, **more):
    command = [sys.executable, "-m", "desk", *arguments]
    done = subprocess.run(
        command, env=environment(home, **more), cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer_of(question, *, home, **more):
    answer = json.loads(run("ask", "--json", question, home=home, **more))
    del answer["request_id"]
    return answer


@dataclass
class Running:
    process: subprocess.Popen
    url: str

    def post(self, path, body, timeout=30):
        return httpx.post(self.url + path, json=body, timeout=timeout, trust_env=False)

    def get(self, path):
        return httpx.get(self.url + path, timeout=30, trust_env=False)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=10)


def spawn(name, *arguments, home, **more):
    return subprocess.Popen(
        [sys.executable, "-m", f"desk.services.{name}", *arguments],
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def ready(process) -> Iterator[Running]:
    try:
        yield Running(process, json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def service(name, *arguments, home, **more):
    return ready(spawn(name, *arguments, home=home, **more))


@dataclass
class Stack:
    search: Running
    fetch: Running
    summarise: Running
    write_report: Running
    agent: Running
    frontend: Running


@contextmanager
def stack(home, **more) -> Iterator[Stack]:
    with ExitStack() as running:

        def start(*command):
            return running.enter_context(service(*command, home=home, **more))

        spawned = {name: spawn("tool", name, home=home, **more) for name in TOOLS}
        tools = {name: running.enter_context(ready(process)) for name, process in spawned.items()}
        there = [f"--{name.replace('_', '-')}={tools[name].url}" for name in ("fetch", "summarise", "write_report")]
        agent = start("agent", *there)
        frontend = start(
            "frontend", f"--agent={agent.url}", f"--search={tools['search'].url}", f"--fetch={tools['fetch'].url}"
        )
        yield Stack(**tools, agent=agent, frontend=frontend)


def journal_of(home):
    from desk.journal import read_journal

    return read_journal(home / "journal.jsonl")


def wait_for(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)
    return found
