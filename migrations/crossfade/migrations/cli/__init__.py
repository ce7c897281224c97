"""The command line. ``main`` is stdlib only, so that it can say what is missing."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; without the extra ``cli``, say how to install it."""
    try:
        from ._app import run  # noqa: PLC0415 - typer and rich come with the extra
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print('crossfade: the command line needs an extra: pip install "crossfade[cli]"', file=sys.stderr)  # noqa: T201
        return 2
    return run()
