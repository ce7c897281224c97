"""A seam's policy: what the next call does. Code is the start, the file overrides it, live state wins."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from .errors import ConfigurationError
from .stages import Stage, parse_stage

if TYPE_CHECKING:
    from collections.abc import Mapping

Effects = Literal["none", "idempotent", "unsafe"]
Fallback = Literal["legacy", "raise"]

_MAX_TIMEOUT: Final = 86_400.0  # commands are kept for 24 h, so no call can usefully wait longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How one seam's calls are treated. Validated when built: ``ConfigurationError`` names the field.

    Attributes:
        stage: Where the seam stands. Default ``legacy``.
        effects: What running a call twice does: ``none`` (a read), ``idempotent`` (safe under the same key),
            ``unsafe``. Default ``unsafe``. Danger: ``none`` on a body that writes lets it run twice.
        timeout: Seconds a call may take on the bus, queueing included, 0.01 to 86,400. Default 30. Danger:
            shorter than the body takes, every call ends late.
        fallback: What happens when the bus cannot answer and running the legacy body is legal: run it
            (``legacy``, the default) or ``raise``.
        revision: Grows with every live change; 0 means that no live state exists.
    """

    stage: Stage = Stage.LEGACY
    effects: Effects = "unsafe"
    timeout: float = 30.0
    fallback: Fallback = "legacy"
    revision: int = 0

    def __post_init__(self) -> None:
        if self.effects not in get_args(Effects):
            raise ConfigurationError(f"{self.effects!r} is not one of {_or(Effects)}", where="effects")
        if self.fallback not in get_args(Fallback):
            raise ConfigurationError(f"{self.fallback!r} is not one of {_or(Fallback)}", where="fallback")
        timeout = cast("object", self.timeout)  # a file may hold anything
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise ConfigurationError(f"{timeout!r} is no number of seconds", where="timeout")
        if not 0.01 <= self.timeout <= _MAX_TIMEOUT:  # no NaN is
            raise ConfigurationError(f"{self.timeout!r} is not between 0.01 and 86400 seconds", where="timeout")

    def override(self, changes: Mapping[str, Any], *, where: str) -> Policy:
        """This policy with some settings replaced, as a file or live state gives them.

        ``where`` names their place in the error; unknown settings raise ``ConfigurationError``.
        """
        known = {field.name for field in fields(self)} - {"revision"}
        values = dict(changes)
        for name in values.keys() - known:
            raise ConfigurationError(f"unknown setting; known are {', '.join(sorted(known))}", where=f"{where}.{name}")
        try:
            if "stage" in values:
                values["stage"] = _stage(values["stage"])
            return replace(self, **values)
        except ConfigurationError as error:
            if error.where.startswith(where):
                raise
            named = f"{where}.{error.where or 'stage'}"
            text = str(error).removeprefix(f"{error.where}: ")
            raise ConfigurationError(text, where=named) from None


def _stage(value: object) -> Stage:
    if not isinstance(value, str):
        raise ConfigurationError(f"{value!r} is no stage name", where="stage")
    return parse_stage(value)


def _or(literal: object) -> str:
    return " or ".join(repr(value) for value in get_args(literal))
