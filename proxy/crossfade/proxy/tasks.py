"""Requests answered with 202 and a monitor: who asked for that, and what they are told. Pure.

Rules (RFC 7240; DESIGN 9)

1. ``Prefer: respond-async`` asks for it on any route over the bus; on a route with ``mode: task`` nobody has to.
2. ``wait=N`` is how many seconds the client waits for the answer itself first; more than ``LONGEST_WAIT`` is not held.
3. A preference is a wish: one that cannot be read is none, and of one that is there twice the first counts.
4. A task answers to its proven owner alone, so a request of nobody is none: it is answered as if it had not asked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .config import Mode
    from .heads import Field, RequestHead

PREFIX: Final = "/_crossfade/tasks"
LONGEST_WAIT: Final = 60
"""Seconds that a client may have its connection held, whatever it prefers."""

_POLL: Final = 2  # seconds after which a client should look again
_PREFERENCE: Final = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s",;]*))?\s*(?:;(?:[^",]|"(?:[^"\\]|\\.)*")*)?(?:,|$)"""
)
_SECONDS: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """That a request become a task. ``asked``: by ``respond-async``; ``wait``: seconds, when there was one."""

    asked: bool
    wait: int | None = None

    def applied(self, *, at_once: bool) -> str:
        """``Preference-Applied`` of an answer; ``at_once``: it is a 202. Empty when nothing was preferred."""
        parts = ["respond-async"] if self.asked and at_once else []
        parts += [f"wait={self.wait}"] if self.wait is not None else []
        return ", ".join(parts)


def wish_of(head: RequestHead, mode: Mode) -> Wish | None:
    """What the client of a route with this ``mode`` wishes, or ``None``: it waits for its answer."""
    preferences = _preferences(head)
    asked = "respond-async" in preferences
    if not asked and mode != "task":
        return None
    wait = preferences.get("wait", "")
    return Wish(asked=asked, wait=min(int(wait), LONGEST_WAIT) if _SECONDS.fullmatch(wait) else None)


def accepted(callid: str, wish: Wish, *, status: str) -> tuple[list[Field], bytes]:
    """The fields and the body of a 202 for the task ``callid``, which stands at ``status``."""
    monitor = f"{PREFIX}/{callid}"
    body = json.dumps({"id": callid, "status": status, "monitor": monitor}).encode()
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Location", monitor.encode()),
        (b"Retry-After", b"%d" % _POLL),
        (b"Cache-Control", b"no-store"),
        *applied_fields(wish, at_once=True),
    ]
    return fields, body


def applied_fields(wish: Wish, *, at_once: bool) -> list[Field]:
    """What an answer says about the preferences it followed."""
    applied = wish.applied(at_once=at_once)
    named = [(b"Preference-Applied", applied.encode())] if applied else []
    return [*named, (b"Vary", b"Prefer")]


def _preferences(head: RequestHead) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in head.headers:
        if name.lower() == b"prefer":
            for match in _PREFERENCE.finditer(value.decode("latin-1")):
                found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    return found
