"""What a comparison found, as a value that travels in ``seam.compared``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args

from crossfade.shim.errors import MalformedEventError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

VerdictKind = Literal["match", "mismatch", "ignored", "skipped", "inconclusive"]
"""Never only two: what is ignored, not compared or not decidable is counted apart."""

DifferenceKind = Literal["changed", "missing", "extra", "type", "outcome"]
"""``missing`` and ``extra``: absent in the new, in the old. ``outcome``: one side raised and the other did not."""

_KINDS: Final = get_args(VerdictKind)
_DIFFERENCES: Final = get_args(DifferenceKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One place where the sides differ. ``old`` and ``new`` are shortened JSON, empty where nothing is there.

    In the payload they are ``legacy`` and ``bus``.
    """

    path: str
    kind: DifferenceKind
    old: str = ""
    new: str = ""

    def to_json(self) -> dict[str, Any]:
        """A member of the payload's ``differences``."""
        return {"path": self.path, "kind": self.kind, "legacy": self.old, "bus": self.new}

    @classmethod
    def from_json(cls, data: object) -> Difference:
        """Read one. Raises ``MalformedEventError`` (reason ``payload``); unknown members are passed over."""
        fields = _object(data)
        return cls(
            path=_read(fields, "path", str, ""),
            kind=cast("DifferenceKind", _one_of(fields, "kind", _DIFFERENCES)),
            old=_read(fields, "legacy", str, ""),
            new=_read(fields, "bus", str, ""),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a comparison found. Raises ``ValueError`` for a kind there is not.

    Attributes:
        kind: The finding. ``mismatch`` wins over ``inconclusive``, that over ``ignored``, that over ``match``.
        rule: For ``ignored`` the paths of the rules that did it; ``comparator`` where the user's one decided.
        judged: Of a match or ``ignored`` the paths of semantic rules without which it would be a ``mismatch``.
        reason: Why ``skipped`` or ``inconclusive``. ``both-errors`` where two errors were found equal.
            ``budget`` on a ``mismatch``: it stopped there, more may differ.
        detail: One line for people, never for counting.
        differences: Of a ``mismatch``, 50 at most, 10 at most of one kind.
        more: How many further differences were found.
        signature: Of a ``mismatch``: equal where the same places (list positions aside) differ in the same
            way. 16 hex digits, the same in every process and version.
    """

    kind: VerdictKind
    rule: str = ""
    judged: str = ""
    reason: str = ""
    detail: str = ""
    differences: tuple[Difference, ...] = ()
    more: int = 0
    signature: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"{self.kind!r} is no verdict: use {', '.join(_KINDS)}")

    def to_json(self) -> dict[str, Any]:
        """The payload's members: ``verdict`` and what is not empty of the rest."""
        names = ("rule", "judged", "reason", "detail", "signature")
        texts: dict[str, str] = {name: getattr(self, name) for name in names}
        fields: dict[str, Any] = {"verdict": self.kind, **{name: text for name, text in texts.items() if text}}
        if self.differences:
            fields["differences"] = [difference.to_json() for difference in self.differences]
        if self.more:
            fields["more"] = self.more
        return fields

    @classmethod
    def from_json(cls, data: object) -> Verdict:
        """Read one. Raises ``MalformedEventError`` (reason ``payload``); unknown members are passed over."""
        fields = _object(data)
        differences: list[object] = _read(fields, "differences", cast("type[list[object]]", list), [])
        return cls(
            kind=cast("VerdictKind", _one_of(fields, "verdict", _KINDS)),
            rule=_read(fields, "rule", str, ""),
            judged=_read(fields, "judged", str, ""),
            reason=_read(fields, "reason", str, ""),
            detail=_read(fields, "detail", str, ""),
            differences=tuple(map(Difference.from_json, differences)),
            more=_read(fields, "more", int, 0),
            signature=_read(fields, "signature", str, ""),
        )


def _object(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise MalformedEventError(f"a verdict is an object, not {type(data).__name__}", reason="payload")
    return cast("dict[str, object]", data)


def _read(fields: dict[str, object], name: str, wanted: Callable[..., T], default: T) -> T:
    value = fields.get(name, default)
    if type(value) is not wanted:
        raise MalformedEventError(f"a verdict's {name} is {type(value).__name__}", reason="payload")
    return cast("T", value)


def _one_of(fields: dict[str, object], name: str, known: tuple[str, ...]) -> str:
    value = _read(fields, name, str, "")
    if value not in known:
        raise MalformedEventError(f"a verdict's {name} is {value!r}; known are {', '.join(known)}", reason="payload")
    return value
