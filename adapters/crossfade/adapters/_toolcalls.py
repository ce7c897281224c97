"""Calls that a model asked for: one tool call is one call of its seam, however often an agent repeats it.

The key is made of the run, the tool call's id and the arguments. The id alone is not enough: some servers of models
count them from one in every answer.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from crossfade import shim
from crossfade.shim.correlate import correlated
from crossfade.shim.errors import SeamDefinitionError, UnserialisableError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from crossfade.shim.seam import Seam


class ToolCall:
    """Inside, the call of ``seam`` has a key, where ``asked`` names the tool call it is made for, and inside a run.

    Not where its effects are ``none``: a read is better repeated. The body must run ``without`` the key: else the calls
    that it makes would share it, and two of one seam would be one.
    """

    def __init__(self, seam: Seam, asked: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._outer = shim.current_correlation()
        self._key = self._make(seam, asked, args, kwargs)
        self._inside: Any = None

    def _make(self, seam: Seam, asked: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        if not asked or self._outer is None or seam.policy.effects == "none":
            return ""
        try:
            arguments = seam.codec.encode(seam.codec.bind(args, kwargs))
        except (TypeError, UnserialisableError, SeamDefinitionError):
            report.count("skipped", seam=seam.name, reason="tool-call-key")  # it cannot travel: its body answers
            return ""
        scope = f"{self._outer.run}/{self._outer.key or ''}/{asked}/".encode()
        return f"tool-call-{hashlib.sha256(scope + arguments).hexdigest()}"

    def __enter__(self) -> Self:
        if self._key:
            self._inside = shim.correlate(key=self._key)
            self._inside.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        if self._inside is not None:
            self._inside.__exit__(*failed)

    def without(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """``body`` as it would run without the key."""
        outer = self._outer
        if outer is None or not self._key:
            return body

        def run(*args: Any, **kwargs: Any) -> Any:
            with correlated(outer):
                return body(*args, **kwargs)

        return run

    def awithout(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """See ``without``."""
        outer = self._outer
        if outer is None or not self._key:
            return body

        async def run(*args: Any, **kwargs: Any) -> Any:
            with correlated(outer):
                return await body(*args, **kwargs)

        return run
