"""What a worker serves: for each seam its handler if there is one, else its body."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .errors import SeamDefinitionError
from .hooks import report
from .policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .payloads import SignatureCodec
    from .seam import Call, Handler, Registry, Seam, SeamDomain

_log = logging.getLogger("crossfade")


Harm = Literal["harmless", "unsafe", "unsaid"]
"""What one side says that running a call twice does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One seam as a worker runs it. ``by`` says who answers: ``self``, the body, or which handler.

    ``declared``: its policy was said in this process; else only the callers' code, a file or live state know it.
    """

    name: str
    domain: SeamDomain
    function: Callable[..., Any]
    codec: SignatureCodec
    kind: Call
    by: str
    policy: Policy
    place: str
    declared: bool = True

    def harm(self, in_force: Callable[[str, Policy], Policy]) -> Harm:
        """What this side says that running it twice does: a handler alone says nothing, where no setting does.

        ``in_force`` is ``Runtime.policy``, and raises as that does.
        """
        if in_force(self.name, self.policy).effects != "unsafe":
            return "harmless"
        if self.declared or in_force(self.name, replace(self.policy, effects="none")).effects == "unsafe":
            return "unsafe"
        return "unsaid"

    @property
    def group(self) -> str:
        """The durable group of its workers: every one of every machine is a member."""
        return f"{self.domain}-{self.name.replace('.', '-')}"


def services(registry: Registry, only: Collection[str] | None = None) -> list[Service]:
    """Everything this process can serve, or what ``only`` names of it.

    A method that nothing can be bound to is left out, counted and logged, unless ``only`` names it.
    Raises ``SeamDefinitionError`` for what cannot be run or decoded.
    """
    seams = [seam for seam in registry.all() if _served_here(seam, registry, only)]
    found = [_of_seam(seam, registry.handler(seam.name)) for seam in seams]
    names = {service.name for service in found}
    handlers = [handler for handler in registry.handlers() if only is None or handler.name in only]
    return found + [_of_handler(handler) for handler in handlers if handler.name not in names]


def legacy_of(service: Service, registry: Registry) -> Service | None:
    """The body of a seam that ``service`` runs, or the handler of; ``None`` where it cannot be run here."""
    if service.by == "self":
        return service
    found = next((seam for seam in registry.all() if seam.name == service.name and seam.has_body), None)
    try:
        return _of_seam(found, None) if found else None
    except SeamDefinitionError:  # a method that nothing can be bound to
        return None


def _served_here(seam: Seam, registry: Registry, only: Collection[str] | None) -> bool:
    if only is not None:
        return seam.name in only and (seam.has_body or registry.handler(seam.name) is not None)
    if registry.handler(seam.name) is not None:
        return True
    if seam.domain == "http":  # its legacy is a service, and who asks that is the caller
        return False
    if seam.has_body and seam.binding == "instance" and seam.bind is None:
        # Its callers stay at observe for the same reason: nobody will ask, and the others must be served.
        report.count("skipped", seam=seam.name, reason="method")
        _log.info("seam %s is not served: it is a method without bind= and without a handler", seam.name)
        return False
    return seam.has_body


def _of_seam(seam: Seam, handler: Handler | None) -> Service:
    if handler is None:
        function, by, where = seam.body(), "self", seam.place
    else:
        handler.check(seam)
        function, by, where = handler.function, handler.identity, handler.place
    return Service(
        name=seam.name,
        domain=seam.domain,
        function=function,
        codec=seam.codec,
        kind=handler.call_kind if handler else seam.call_kind,
        by=by,
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
        by=handler.identity,
        policy=handler.policy or Policy(),
        place=handler.place,
        declared=handler.policy is not None,
    )
