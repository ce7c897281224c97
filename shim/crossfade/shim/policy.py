"""A seam's policy: what the next call does. Code is the start, the file overrides it, live state wins."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from .errors import ConfigurationError
from .stages import Stage, parse_stage

if TYPE_CHECKING:
    from collections.abc import Mapping

Effects = Literal["none", "idempotent", "unsafe"]
Fallback = Literal["legacy", "raise"]
LedgerDown = Literal["refuse", "run"]

LIVE_ONLY: Final = frozenset({"revision", "minrev", "draining", "claiming"})

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
        percent: Share of keys that take the bus at ``canary``, 0 to 100 in steps of 0.01. Default 0.
        sample: Share of calls whose observation is full (arguments and value), 0 to 1; at ``shadow`` these are
            compared. Default 1. Danger: each full one costs the caller two serialisations.
        ledger_down: What a keyed unsafe call does when the ledger cannot be asked whether it ran already:
            ``refuse`` (the default) or ``run``. Danger: ``run`` may run it twice.
        unsafe_storage: Accept a broker that may lose a claim in a power cut. Default false. Danger: an unsafe call
            may then start twice.
        compare: Rules by path for comparing outcomes, like ``{"$.took_ms": "ignore"}``. Default none: exact.
            Danger: what is ignored can break unseen.

        noise: Share of shadow runs after which the legacy body runs once more (else, where a worker has none, the
            handler) and is compared with itself, 0 to 1. Default 0. Only where ``effects`` are ``none``.
        repeat: How often a shadow runs the handler, 1 to 9; most of the runs decide. Default 1. Only where ``effects``
            are ``none``. Danger: a model is asked, and paid, as often.

    Live state alone sets the rest: ``revision`` grows with every change (0: there is none), commands older than
    ``minrev`` are refused by workers, ``draining``: runs that began on the bus may end there, ``claiming``: a
    command may still be under way, so keyed unsafe calls ask the ledger on the legacy path, too.
    """

    stage: Stage = Stage.LEGACY
    effects: Effects = "unsafe"
    timeout: float = 30.0
    fallback: Fallback = "legacy"
    percent: float = 0.0
    sample: float = 1.0
    ledger_down: LedgerDown = "refuse"
    unsafe_storage: bool = False
    compare: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    noise: float = 0.0
    repeat: int = 1
    revision: int = 0
    minrev: int = 0
    draining: bool = False
    claiming: bool = False

    def __post_init__(self) -> None:
        _check_choice("effects", self.effects, Effects)
        _check_choice("fallback", self.fallback, Fallback)
        _check_choice("ledger_down", self.ledger_down, LedgerDown)
        _check_number("timeout", self.timeout, 0.01, _MAX_TIMEOUT, "seconds")
        _check_number("percent", self.percent, 0, 100, "percent")
        _check_number("sample", self.sample, 0, 1, "of all calls")
        _check_number("noise", self.noise, 0, 1, "of all shadow runs")
        _check_number("repeat", self.repeat, 1, 9, "runs")
        if self.repeat % 1:
            raise ConfigurationError(f"{self.repeat!r} is no whole number", where="repeat")
        if cast("object", self.unsafe_storage) not in (True, False):
            raise ConfigurationError(f"{self.unsafe_storage!r} is neither true nor false", where="unsafe_storage")
        if self.compare:
            from .comparison import WELL_FORMED, Rules  # noqa: PLC0415 - only a policy that has rules pays for reading them

            Rules.parse(self.compare, where="compare", matchers=WELL_FORMED)

    @property
    def runs_legacy(self) -> bool:
        """Whether a call that the bus did not run may run its legacy body."""
        return self.fallback == "legacy" and self.stage is not Stage.RETIRED

    def override(self, changes: Mapping[str, Any], *, where: str) -> Policy:
        """This policy with some settings replaced, as a file or live state gives them.

        ``where`` names their place in the error; unknown settings raise ``ConfigurationError``.
        """
        known = {item.name for item in fields(self)} - LIVE_ONLY
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


def _check_choice(name: str, value: object, literal: object) -> None:
    if value not in get_args(literal):
        choices = " or ".join(repr(choice) for choice in get_args(literal))
        raise ConfigurationError(f"{value!r} is not one of {choices}", where=name)


def _check_number(name: str, value: object, least: float, most: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{value!r} is no number ({unit})", where=name)
    if not least <= value <= most:  # no NaN is
        raise ConfigurationError(f"{value!r} is not between {least:g} and {most:g} {unit}", where=name)
