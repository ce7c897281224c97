"""What a seam may be told when a framework's tool becomes one: the options of ``crossfade.shim.tool`` that fit all."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from crossfade.shim.policy import Effects, Fallback, LedgerDown


class SeamOptions(TypedDict, total=False):
    """As ``crossfade.shim.tool`` takes them, which says what each means; left out, its defaults hold."""

    effects: Effects
    stage: str
    timeout: float
    fallback: Fallback
    percent: float
    sample: float
    ledger_down: LedgerDown
    secret: tuple[str, ...]
