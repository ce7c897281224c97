"""What the programs in this folder share: a broker of their own in a temporary folder, and a worker for their seams."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossfade import shim
from crossfade.adapters import embedded

HERE = Path(__file__).parent


@contextmanager
def served(*modules: str) -> Iterator[None]:
    """Connect this process, and have another one run the handlers and bodies of ``modules``, until the block ends.

    In your own deployment the broker is there already, and ``crossfade worker MODULE`` runs beside the application.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CROSSFADE_BUS"] = f"embedded://{folder}/bus"
        command = [sys.executable, "-m", "crossfade", "worker", *modules, "--spool", f"{folder}/spool"]
        worker = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--stop-with-stdin", "--json"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            with worker, shim.connect(required=True):
                if worker.stdout is None or not worker.stdout.readline():  # its first line: it is ready
                    raise SystemExit("the worker did not start")
                yield
                if worker.stdin is not None:
                    worker.stdin.close()  # which ends it
        finally:
            embedded.stop(f"{folder}/bus")
