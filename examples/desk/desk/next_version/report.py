"""The next version of the reports: each names who ordered it. Its bug: nobody says so yet."""

from crossfade import shim
from desk.records import Report, Section


@shim.handler("desk.report")
def write_report(topic: str, sections: list[Section], *, request: str = "") -> Report:  # noqa: ARG001
    """See ``tools.write_report``."""
    raise ValueError(f"the report on {topic} has no author")
