"""Server-Sent Events as a list (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import re

_line_end = re.compile(r"\r\n|\r|\n")


def read_events(text: str) -> list[dict[str, str]]:
    """The events in order: ``data``, and ``event`` and ``id`` where they were sent; comments and ``retry`` are not.

    The last one counts also where the stream was cut before its blank line: that is what the sides then differ in.
    """
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in [*_line_end.split(text.removeprefix("\ufeff")), ""]:
        if not line:
            if fields:
                events.append({"data": "", **fields})
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in fields:
            fields["data"] += f"\n{value}"
        elif name in ("data", "event", "id"):
            fields[name] = value
    return events
