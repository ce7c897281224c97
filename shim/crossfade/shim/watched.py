"""The route of a seam while somebody watches its calls: the one that it has, told about.

Only then is it there, so that a call nobody watches pays nothing. A stream's step is current while its items are made,
and not in the code of its consumer.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

from .correlate import current_correlation
from .watching import Step, begin, watchers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

    from .seam import Route, Seam
    from .watching import Watch


class Watched:
    """Tells the watchers of each call and has ``inner`` take it, or the body where there is no ``inner``."""

    def __init__(self, inner: Route | None) -> None:
        self.inner = inner

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        with _step(seam):
            return body(*args, **kwargs) if self.inner is None else self.inner.call(seam, body, args, kwargs)

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        with _step(seam):
            return await (body(*args, **kwargs) if self.inner is None else self.inner.acall(seam, body, args, kwargs))

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        items = body(*args, **kwargs) if self.inner is None else self.inner.stream(seam, body, args, kwargs)
        return _watch(seam, items)

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        items = body(*args, **kwargs) if self.inner is None else self.inner.astream(seam, body, args, kwargs)
        return _awatch(seam, items)


def watched(route: Route | None) -> Route | None:
    """``route``, told about where somebody watches."""
    return Watched(route) if watchers.all else route


def watch_call(seam: Seam) -> Watch | None:
    """A call of ``seam`` that begins now; ``None`` where nobody watches."""
    if not watchers.all:
        return None
    correlation = current_correlation()
    return begin(Step(kind="call", seam=seam.name, domain=seam.domain, stage=seam.stage, correlation=correlation))


@contextlib.contextmanager
def _step(seam: Seam) -> Generator[None]:
    """A call from its begin to its end, current all the while."""
    watch = watch_call(seam)
    if watch is None:
        yield
        return
    tokens = watch.enter()
    try:
        yield
    except BaseException as error:
        watch.leave(tokens)
        watch.end(error)
        raise
    watch.leave(tokens)
    watch.end()


@contextlib.contextmanager
def current(watch: Watch | None) -> Generator[None]:
    """Make ``watch`` current for one step of its call, if there is one."""
    tokens = [] if watch is None else watch.enter()
    try:
        yield
    finally:
        if watch is not None:
            watch.leave(tokens)


def _watch(seam: Seam, items: Any) -> Generator[Any, Any, Any]:
    watch = watch_call(seam)  # at the first item: a stream that never begins is no call
    try:
        returned = yield from cast("Generator[Any, Any, Any]", _Items(items, watch))
    except GeneratorExit:
        _end(watch)
        raise
    except BaseException as error:
        _end(watch, error)
        raise
    _end(watch)
    return returned


async def _awatch(seam: Seam, items: Any) -> AsyncGenerator[Any, Any]:
    watch = watch_call(seam)
    try:
        async with contextlib.aclosing(items):
            resume = items.asend(None)
            with contextlib.suppress(StopAsyncIteration):
                while True:  # what `yield from` does, which async generators have not
                    with current(watch):
                        item = await resume
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        resume = items.athrow(thrown)
                    else:
                        resume = items.asend(sent)
    except GeneratorExit:
        _end(watch)
        raise
    except BaseException as error:
        _end(watch, error)
        raise
    _end(watch)


def _end(watch: Watch | None, error: BaseException | None = None) -> None:
    """A consumer that has had enough of a stream is no error."""
    if watch is not None:
        watch.end(error)


class _Items:
    """A generator whose every step is made with the call current, and none of its consumer's code is."""

    def __init__(self, items: Generator[Any, Any, Any], watch: Watch | None) -> None:
        self._items = items
        self._watch = watch

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        with current(self._watch):
            return self._items.send(value)

    def throw(self, error: BaseException) -> Any:
        with current(self._watch):
            return self._items.throw(error)

    def close(self) -> None:
        with current(self._watch):
            self._items.close()
