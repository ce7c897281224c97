"""What a worker serves: for each seam its handler if there is one, else its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .payloads import SignatureCodec
    from .seam import Call, Handler, Registry, Seam, SeamDomain


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One seam as a worker runs it. ``by`` says who answers: the body itself, or a handler."""

    name: str
    domain: SeamDomain
    function: Callable[..., Any]
    codec: SignatureCodec
    kind: Call
    by: Literal["self", "handler"]
    policy: Policy
    place: str

    @property
    def group(self) -> str:
        """The durable group of its workers: every one of every machine is a member."""
        return f"{self.domain}-{self.name.replace('.', '-')}"


def services(registry: Registry, only: Collection[str] | None = None) -> list[Service]:
    """Everything this process can serve, or what ``only`` names of it.

    Raises ``SeamDefinitionError`` for what cannot be run or decoded.
    """
    seams = [seam for seam in registry.all() if only is None or seam.name in only]
    found = [_of_seam(seam, registry.handler(seam.name)) for seam in seams if _served_here(seam, registry)]
    names = {service.name for service in found}
    handlers = [handler for handler in registry.handlers() if only is None or handler.name in only]
    return found + [_of_handler(handler) for handler in handlers if handler.name not in names]


def _served_here(seam: Seam, registry: Registry) -> bool:
    return seam.has_body or registry.handler(seam.name) is not None


def _of_seam(seam: Seam, handler: Handler | None) -> Service:
    if handler is None:
        function, by, where = seam.body(), "self", seam.place
    else:
        handler.check(seam)
        function, by, where = handler.function, "handler", handler.place
    return Service(
        name=seam.name,
        domain=seam.domain,
        function=function,
        codec=seam.codec,
        kind=handler.call_kind if handler else seam.call_kind,
        by="handler" if by == "handler" else "self",
        policy=seam.policy,
        place=where,
    )


def _of_handler(handler: Handler) -> Service:
    return Service(
        name=handler.name,
        domain=handler.domain,
        function=handler.function,
        codec=handler.codec(),
        kind=handler.call_kind,
        by="handler",
        policy=Policy(),
        place=handler.place,
    )
