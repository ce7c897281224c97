"""``crossfade demo``."""

from __future__ import annotations


def demo() -> None:
    """Show a migration on real data."""
