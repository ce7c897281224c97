"""Servers that load the application first and fork then: gunicorn --preload and Celery's prefork pool."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from integration.shim import kit

BIN = Path(sys.executable).parent


@pytest.fixture
def start(app, nats_server, prefix, tmp_path):
    """Starts a server beside ``app.py``; ended by SIGTERM, and it must go within ten seconds."""
    running = []

    def start(*command, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        environment = {
            **os.environ,
            "LIFE_BUS": nats_server.url,
            "LIFE_PREFIX": prefix,
            "PYTHONPATH": str(tmp_path),
            "PYTHONWARNINGS": "ignore",  # these servers' own affair
        }
        log = (tmp_path / "server.log").open("wb")
        process = subprocess.Popen([*command], cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
        running.append((process, log))
        return process

    yield start
    for process, log in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError((tmp_path / "server.log").read_text()) from None
        finally:
            log.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def observers(bus):
    """Who observed: instance -> values."""
    found = {}
    for event in kit.read(bus, "{p}o.>"):
        payload = json.loads(event.data)
        found.setdefault(payload["instance"], []).append(payload["value"])
    return found


def test_gunicorn_preload(start, bus, worker, tmp_path):
    """Connected before the fork: each worker is on the bus from its first request, by a connection of its own."""
    port = free_port()
    process = start(
        str(BIN / "gunicorn"),
        "--preload",
        "--workers=2",
        "--bind",
        f"127.0.0.1:{port}",
        "--no-control-socket",
        "site_app:site",
        site_app="""
            import os
            from app import diverted, join, seen

            join(required=True)

            def site(environ, start_response):
                seen(os.getpid())
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [f"{diverted()} {os.getpid()} {os.getppid()}".encode()]
        """,
    )

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read().decode().split()
        except OSError:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            return None

    kit.until(ask)
    answers = []
    kit.until(lambda: answers.append(ask()) or len({pid for _, pid, _ in answers}) == 2 or len(answers) > 500)
    assert {path for path, _, _ in answers} == {"bus"}
    assert {parent for _, _, parent in answers} == {str(process.pid)}
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    seen = kit.until(lambda: sum(map(len, (found := observers(bus)).values())) > len(answers) and found)
    workers = {pid for _, pid, _ in answers}
    assert {str(value) for values in seen.values() for value in values} == workers
    assert len(seen) == len(workers)


def test_celery_prefork(start, bus, worker, tmp_path):
    """The pool forks from a connected process: tasks call over the bus, and the last observation is flushed."""
    for folder in ("queue", "processed", "results"):
        (tmp_path / folder).mkdir()
    process = start(
        str(BIN / "celery"),
        "-A",
        "tasks",
        "worker",
        "--pool=prefork",
        "--concurrency=2",
        "--loglevel=INFO",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        tasks="""
            import os
            from celery import Celery
            from app import diverted, join, seen

            site = Celery("tasks", broker="filesystem://", backend="file://./results")
            site.conf.broker_transport_options = {
                "data_folder_in": "./queue", "data_folder_out": "./queue", "processed_folder": "./processed",
                "control_folder": "./control",
            }
            if "celery" in os.path.basename(__import__("sys").argv[0]):
                join(required=True)

            @site.task(name="ask")
            def ask(n):
                seen(n)
                return [diverted(), os.getpid(), os.getppid()]
        """,
    )
    asking = """
        import json
        from tasks import ask
        print(json.dumps([result.get(timeout=30) for result in [ask.delay(n) for n in range(6)]]))
    """
    program = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(asking)],
        cwd=tmp_path,
        env={**os.environ, "LIFE_BUS": bus.runtime.url, "LIFE_PREFIX": bus.runtime.config.prefix},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    log = (tmp_path / "server.log").read_text()
    assert program.returncode == 0, program.stderr + log
    answers = json.loads(program.stdout)
    assert {path for path, _, _ in answers} == {"bus"}
    assert {parent for _, _, parent in answers} == {process.pid}
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    seen = kit.until(lambda: sum(map(len, (found := observers(bus)).values())) == 6 and found, what=log)
    assert sorted(value for values in seen.values() for value in values) == list(range(6))
    assert len(seen) == len({pid for _, pid, _ in answers})
