"""The next version of the search: what explains comes before what names. Its bug: the best hit comes last."""

from crossfade import shim
from desk import tools
from desk.records import Hit


@shim.handler("desk.search")
def search(query: str, limit: int = 5, *, request: str = "") -> list[Hit]:  # noqa: ARG001
    """See ``tools.search``."""
    found = tools.hits(query, limit)
    return found[1:] + found[:1]
