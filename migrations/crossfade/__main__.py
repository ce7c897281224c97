"""``python -m crossfade``: the command line where no script folder is on PATH."""

from __future__ import annotations

import sys

from crossfade.migrations.cli import main

if __name__ == "__main__":
    sys.exit(main())
