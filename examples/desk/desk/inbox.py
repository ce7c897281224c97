"""What reaches the desk by itself: a mail or a file names a topic, and a report about it is written.

``triggers.yaml`` says how they come in; nothing here knows of mail or files.
"""

from crossfade import shim
from desk import agent
from desk.records import Report
from desk.wiring import wire


@shim.agent("desk.report_about", effects="idempotent", timeout=120)  # the same request writes the same file
def report_about(topic: str, *, request: str) -> Report:
    """A report about ``topic``, a mail's subject or a file's name; raises ``agent.NothingFoundError``."""
    words = topic.removesuffix(".txt").replace("_", " ").strip()
    return agent.report(words, request, wire())
