"""Prometheus: counters and histograms of calls, their commands and handlers, in a registry that you expose.

    from crossfade.adapters.prometheus import instrument

    instrument()  # the library's own registry, or the one you hand over

No label names a call, a run or a user: they are seams that were declared, and short tokens of our own code. Whatever
goes wrong there, at most ``MOST_SERIES`` series of a metric are told apart.
Source: Prometheus' naming practices (base units, ``_total`` for counters).
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from crossfade.shim.errors import ConfigurationError, MissingExtraError
from crossfade.shim.watching import unwatch, watch

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import choose_encoder
except ImportError as error:
    raise MissingExtraError("prometheus", needed_for="metrics for Prometheus") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.shim.watching import End, Step

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""Upper bounds of every histogram's buckets: from a cache's answer to an agent's work."""

MOST_SERIES: Final = 500
"""So many series of a metric are told apart in a process; the rest is added up with ``other`` for every label."""

Metric = TypeVar("Metric", bound=Counter | Histogram)


class Prometheus:
    """Keeps counts and durations as metrics of ``registry``.

    Raises ``ConfigurationError`` when ``registry`` has them already.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: list[Counter | Histogram] = []
        self._events = self._counter(
            "crossfade_events", "What crossfade counts, by name and reason.", "name", "seam", "reason"
        )
        self._calls = self._counter("crossfade_calls", "Calls at their call sites.", "seam", "stage", "path", "outcome")
        self._call = self._histogram(
            "crossfade_call_duration_seconds", "Calls at their call sites, until their result.", "seam", "path"
        )
        self._send = self._histogram(
            "crossfade_send_duration_seconds", "Commands, until the bus has stored them.", "seam", "outcome"
        )
        self._handler = self._histogram(
            "crossfade_handler_duration_seconds", "Runs of handlers.", "seam", "outcome", "shadow"
        )
        self._queue = self._histogram(
            "crossfade_queue_duration_seconds", "From a command's storing to its handler's start.", "seam"
        )

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        """See ``Hooks``."""
        self._events.at(name, seam, reason).inc(n)

    def begin(self, step: Step) -> _Span:
        """See ``Watcher``."""
        return _Span(self, step)

    def measure(self, step: Step, end: End, seconds: float) -> None:
        """Add a step that is over."""
        if step.kind == "call":
            self._calls.at(step.seam, step.stage, end.path, end.outcome).inc()
            self._call.at(step.seam, end.path).observe(seconds)
        elif step.kind == "send":
            self._send.at(step.seam, end.outcome).observe(seconds)
        else:
            self._handler.at(step.seam, end.outcome, "true" if step.shadow else "false").observe(seconds)
            if step.waited is not None:
                self._queue.at(step.seam).observe(step.waited)

    def close(self) -> None:
        """Take the metrics out of the registry."""
        for metric in self._made:
            self._registry.unregister(metric)

    def _counter(self, name: str, meaning: str, *labels: str) -> _Series[Counter]:
        return _Series(self._keep(lambda: Counter(name, meaning, labels, registry=self._registry)).labels)

    def _histogram(self, name: str, meaning: str, *labels: str) -> _Series[Histogram]:
        made = self._keep(lambda: Histogram(name, meaning, labels, registry=self._registry, buckets=SECONDS))
        return _Series(made.labels)

    def _keep(self, make: Callable[[], Metric]) -> Metric:
        try:
            metric = make()
        except ValueError as error:  # the names are ours: only one that is taken is refused
            self.close()
            raise ConfigurationError(
                "this registry has crossfade's metrics already: call instrument() once, or hand over another registry"
            ) from error
        self._made.append(metric)
        return metric


class _Series(Generic[Metric]):
    """The series of one metric, by the values of its labels."""

    def __init__(self, labels: Callable[..., Metric]) -> None:
        self._labels = labels
        self._known: dict[tuple[str, ...], Metric] = {}
        self._lock = threading.Lock()

    def at(self, *values: str) -> Metric:
        """The one of these values, or the one of all that there is no room for."""
        found = self._known.get(values)
        return found if found is not None else self._new(values)

    def _new(self, values: tuple[str, ...]) -> Metric:
        with self._lock:
            if len(self._known) >= MOST_SERIES:
                return self._labels(*("other" for _ in values))
            return self._known.setdefault(values, self._labels(*values))


class _Span:
    """One step's clock; nothing of it travels."""

    def __init__(self, metrics: Prometheus, step: Step) -> None:
        self._metrics = metrics
        self._step = step
        self._began = perf_counter()

    def enter(self) -> None:
        """See ``Span``: there is nothing to make current."""

    def leave(self, token: Any) -> None:
        """See ``Span``."""

    def context(self) -> Mapping[str, str]:
        """See ``Span``: a clock has no trace."""
        return {}

    def end(self, end: End) -> None:
        """See ``Span``."""
        self._metrics.measure(self._step, end, perf_counter() - self._began)


def instrument(*, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Keep metrics of every call, command and handler of this process; what it returns ends that and removes them.

    ``registry`` is exposed as you expose it: ``start_http_server``, ``make_asgi_app`` ... Call it before ``connect``.
    Raises ``ConfigurationError`` when ``registry`` has the metrics already.
    """
    kept = Prometheus(registry)
    watch(kept)

    def stop() -> None:
        unwatch(kept)
        kept.close()

    return stop


def page(registry: CollectorRegistry = REGISTRY) -> tuple[str, bytes]:
    """The media type and text of all metrics of ``registry``: what a health address answers at ``/metrics``."""
    encode, media_type = choose_encoder("")  # no Accept: the text format that every scraper reads
    return media_type, encode(registry)
