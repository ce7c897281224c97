"""Seams: named places where a call can be diverted, and the registry of all that this process declares."""

from __future__ import annotations

import inspect
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .errors import ConfigurationError, SeamDefinitionError, UnknownSeamError
from .subjects import check_seam
from .watched import Watched, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .comparison import Comparator
    from .payloads import SignatureCodec
    from .policy import Policy

SeamDomain = Literal["tool", "agent", "http"]

Call = Literal["plain", "coroutine", "generator", "async generator"]
"""How a body is called, and so how its call site waits."""

Binding = Literal["none", "instance", "class"]
"""What a body gets as its first argument that never crosses the bus."""


class Route(Protocol):
    """Takes a diverted call; ``None`` in its place means that the body is simply called.

    ``body`` is the body bound to what it is called on, so that the arguments are those of the call site.
    """

    def call(self, seam: Seam, /, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of a plain function."""
        ...

    async def acall(
        self, seam: Seam, /, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """A call of a coroutine function."""
        ...

    def stream(self, seam: Seam, /, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of a generator function."""
        ...

    def astream(self, seam: Seam, /, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of an async generator function."""
        ...


class Seam:
    """A declared seam. ``route`` is what the next call takes: ``None`` at legacy, when off, when never connected.

    While somebody watches it is a ``Watched`` one. ``stage`` is where the seam stands in this process.

    ``body`` is ``None`` at a call site that has none (``remote``). ``bind`` makes the instance that a method's
    body runs on at a worker.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        domain: SeamDomain,
        policy: Policy,
        secret: frozenset[str] = frozenset(),
        bind: Callable[[], Any] | None = None,
        has_body: bool = True,
    ) -> None:
        self.name = check_seam(name)
        self.function: Callable[..., Any] = getattr(function, "__func__", function)
        self.domain: SeamDomain = domain
        self.policy = policy
        self.secret = secret
        self.bind = bind
        self.has_body = has_body
        self.call_kind: Call = call_kind(self.function)
        self.static = isinstance(function, staticmethod)
        self.in_class = _is_in_class(self.function)
        self.stage = "legacy"
        self.route = watched(None)
        self._codec: SignatureCodec | SeamDefinitionError | None = None

    def take(self, route: Route | None) -> None:
        """Let the next call take ``route``, told about where somebody watches."""
        self.route = watched(route)

    @property
    def unwatched(self) -> Route | None:
        """The route itself, whoever watches."""
        return self.route.inner if isinstance(self.route, Watched) else self.route

    @property
    def place(self) -> str:
        """``file:line`` of the body."""
        return place(self.function)

    @property
    def is_async(self) -> bool:
        """Whether call sites await."""
        return self.call_kind in ("coroutine", "async generator")

    @property
    def streams(self) -> bool:
        """Whether a call yields items."""
        return self.call_kind in ("generator", "async generator")

    @property
    def binding(self) -> Binding:
        """What the body is bound to, found by looking at the class that holds it."""
        if self.static or not self.in_class:
            return "none"
        owner, name = self.owner()
        if owner is None:
            first = next(iter(inspect.signature(self.function).parameters), "")
            return "instance" if first == "self" else "class" if first == "cls" else "none"
        held: object = inspect.getattr_static(owner, name, None)
        if not isinstance(held, classmethod | staticmethod):
            held = getattr(held, "__wrapped__", held)  # our decorator stands outside theirs
        if isinstance(held, staticmethod):
            return "none"
        return "class" if isinstance(held, classmethod) else "instance"

    def owner(self) -> tuple[type | None, str]:
        """The class that holds the body, when it can be reached by name, and the name in it."""
        path, _, name = self.function.__qualname__.rpartition(".")
        found: Any = sys.modules.get(self.function.__module__)
        for part in path.split(".") if path else ():
            found = getattr(found, part, None)
        return (found, name) if path and isinstance(found, type) else (None, name)

    @property
    def codec(self) -> SignatureCodec:
        """The codec of the signature that call sites see, built on first use because it imports pydantic.

        Raises ``SeamDefinitionError`` when the signature has no JSON form.
        """
        if self._codec is None:
            from .payloads import SignatureCodec  # noqa: PLC0415 - `import crossfade.shim` must not load pydantic

            try:
                self._codec = SignatureCodec(self.function, secret=self.secret, skip_first=self.binding != "none")
            except SeamDefinitionError as error:
                self._codec = error  # trying again would cost every call milliseconds
        if isinstance(self._codec, SeamDefinitionError):
            raise self._codec.with_traceback(None)
        return self._codec

    def body(self) -> Callable[..., Any]:
        """The undecorated body as a worker runs it, with whatever it is bound to.

        Raises ``SeamDefinitionError`` when there is none here, or nothing to bind it to.
        """
        if not self.has_body:
            raise SeamDefinitionError(f"seam {self.name!r} has no body here: serve it where its handler is")
        if self.binding == "none":
            return self.function
        owner, name = self.owner()
        if self.binding == "class":
            if owner is None:
                raise SeamDefinitionError(f"seam {self.name!r}: the class of {name} cannot be found by name")
            return partial(self.function, owner)
        if self.bind is None:
            raise SeamDefinitionError(
                f"seam {self.name!r} is a method ({self.place}), and self never crosses the bus: "
                "say bind=, a function that makes the instance at a worker, or register a handler"
            )
        return _on_instance(self.function, self.bind)

    def __repr__(self) -> str:
        return f"<Seam {self.name} ({self.domain}) at {self.place}>"


class Handler:
    """The new side of a seam: a function with the same signature that workers run instead of the body.

    ``policy`` is what is known here of the seam's; ``None``: its callers know it.
    """

    policy: Policy | None = None

    def __init__(self, name: str, function: Callable[..., Any], *, domain: SeamDomain, secret: frozenset[str]) -> None:
        self.name = check_seam(name)
        self.function = function
        self.domain: SeamDomain = domain
        self.secret = secret
        self.call_kind: Call = call_kind(function)

    @property
    def place(self) -> str:
        """``file:line`` of the function."""
        return place(self.function)

    @property
    def wrote(self) -> Any:
        """What the user wrote: a function, or a class whose instances answer."""
        return self.function

    @property
    def identity(self) -> str:
        """``module:qualname``, and ``@version`` of the distribution of that name: evidence of two is not one."""
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow, and for workers only

        module = self.wrote.__module__
        try:
            release = f"@{version(module.partition('.')[0])}"
        except PackageNotFoundError:
            release = ""
        return f"{module}:{self.wrote.__qualname__}{release}"

    def check(self, seam: Seam) -> None:
        """Raise ``SeamDefinitionError`` when the handler takes or returns something else than the seam's body."""
        theirs, ours = seam.codec.shape, self.codec().shape
        if theirs != ours:
            different = sorted(name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name))
            raise SeamDefinitionError(
                f"the handler of {self.name!r} ({self.place}) differs from the body ({seam.place}) in "
                f"{', '.join(different)}: the same call must fit both"
            )

    def codec(self) -> SignatureCodec:
        """The codec of the handler's signature."""
        from .payloads import SignatureCodec  # noqa: PLC0415 - `import crossfade.shim` must not load pydantic

        return SignatureCodec(self.function, secret=self.secret)


class Registry:
    """The seams and handlers of this process by name. ``on_declare`` is told of each new seam."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seams: dict[str, Seam] = {}
        self._handlers: dict[str, Handler] = {}
        self._comparators: dict[str, Comparator] = {}
        self.on_declare: Callable[[Seam], None] | None = None

    def add(self, seam: Seam) -> None:
        """Add ``seam``; a second one under the same name raises ``SeamDefinitionError`` naming both places.

        The same function declared again (a reloaded module) replaces itself.
        """
        with self._lock:
            known = self._seams.get(seam.name)
            self._refuse_second(known, seam, "seam")
            if known is not None:
                known.take(None)  # no policy change reaches it any more, so it must not stay on the bus
            self._seams[seam.name] = seam
        if self.on_declare is not None:
            self.on_declare(seam)

    def add_handler(self, handler: Handler) -> None:
        """Add ``handler``; a second one for the same seam raises ``SeamDefinitionError`` naming both places."""
        with self._lock:
            self._refuse_second(self._handlers.get(handler.name), handler, "handler of seam")
            self._handlers[handler.name] = handler

    def get(self, name: str) -> Seam:
        """The seam called ``name``; ``UnknownSeamError`` listing what there is otherwise."""
        try:
            return self._seams[name]
        except KeyError:
            raise UnknownSeamError(f"no seam {name!r} here; declared are: {self._names()}") from None

    def handler(self, name: str) -> Handler | None:
        """The handler of the seam called ``name``, when this process has one."""
        return self._handlers.get(name)

    def handlers(self) -> list[Handler]:
        """Every handler, in order of declaration."""
        with self._lock:
            return list(self._handlers.values())

    def add_comparator(self, name: str, comparator: Comparator) -> None:
        """Let ``comparator`` judge the seam called ``name``; a second one raises ``SeamDefinitionError``."""
        with self._lock:
            known = self._comparators.get(check_seam(name), comparator)
            if (known.__module__, known.__qualname__) != (comparator.__module__, comparator.__qualname__):
                raise SeamDefinitionError(
                    f"the comparator of {name!r} is declared twice: at {place(known)} and at {place(comparator)}"
                )
            self._comparators[name] = comparator

    def comparator(self, name: str) -> Comparator | None:
        """Who judges outcomes of the seam called ``name`` beside the rules, when this process has somebody."""
        return self._comparators.get(name)

    def all(self) -> list[Seam]:
        """Every seam, in order of declaration."""
        with self._lock:
            return list(self._seams.values())

    def names(self) -> set[str]:
        """Every seam that is called or served here, those of which there is only a handler among them."""
        with self._lock:
            return self._seams.keys() | self._handlers.keys()

    def remove(self, name: str) -> None:
        """Forget a seam, its handler and its comparator: for tests that declare their own."""
        with self._lock:
            self._seams.pop(name, None)
            self._handlers.pop(name, None)
            self._comparators.pop(name, None)

    def drop(self, declared: Seam | Handler) -> None:
        """Forget this very declaration; one that has replaced it stays."""
        with self._lock:
            for known in (self._seams, self._handlers):
                if known.get(declared.name) is declared:
                    del known[declared.name]

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent process may have held; call it in the child, first thing."""
        self._lock = threading.Lock()

    def _names(self) -> str:
        return ", ".join(sorted(self._seams)) or "none (import the module that declares it)"

    @staticmethod
    def _refuse_second(known: Seam | Handler | None, new: Seam | Handler, what: str) -> None:
        if known is not None and _identity(known) != _identity(new):
            raise SeamDefinitionError(
                f"{what} {new.name!r} is declared twice: at {known.place} and at {new.place}; rename one"
            )


registry = Registry()


def call_kind(function: Callable[..., Any]) -> Call:
    """How ``function`` is called."""
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(function) else "plain"


def _is_in_class(function: Callable[..., Any]) -> bool:
    """Whether ``function`` was written in a class body, told from its qualified name: the class is not made yet."""
    holder = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    return holder not in ("", "<locals>")


def is_an_heirs(seam: Seam, body: Callable[..., Any]) -> bool:
    """Whether a classmethod was called on another class than the one it was written in, which cannot cross."""
    if not seam.in_class:
        return False
    bound_to: object = body.args[0] if isinstance(body, partial) else getattr(body, "__self__", None)
    return isinstance(bound_to, type) and bound_to.__qualname__ != seam.function.__qualname__.rpartition(".")[0]


def place(function: Callable[..., Any]) -> str:
    """``file:line`` of a function."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "<no source>"


def check_domain(domain: str) -> SeamDomain:
    """``domain`` when it is one a decorator may name."""
    if domain == "tool":
        return "tool"
    if domain == "agent":
        return "agent"
    raise ConfigurationError(f"{domain!r} is neither 'tool' nor 'agent'", where="domain")


def _identity(seam: Seam | Handler) -> tuple[str, str]:
    return seam.function.__module__, seam.function.__qualname__


def _on_instance(function: Callable[..., Any], bind: Callable[[], Any]) -> Callable[..., Any]:
    """``function`` called on a new instance each time; a coroutine function stays one."""
    if inspect.iscoroutinefunction(function):

        async def on_instance(*args: Any, **kwargs: Any) -> Any:
            return await function(bind(), *args, **kwargs)

        return on_instance
    return lambda *args, **kwargs: function(bind(), *args, **kwargs)
