"""Prometheus' text format (0.0.4), written here: a page of it needs no library.

Labels are seams that were declared and short tokens of our own code, never anything a request brought; and whatever
goes wrong there, at most ``MOST`` series of a name are shown, the rest is added up under ``other``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crossfade.shim.instances import Instance
    from crossfade.shim.standing import Standing

    from .hub import Hub

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST: Final = 500

Sample = tuple["Mapping[str, str]", float]
Part = tuple["Mapping[str, str]", float, str]
"""A sample of a histogram: with what its name ends in."""


def page(
    counts: Mapping[tuple[str, str, str], int], standings: Sequence[Standing], hub: Hub, *, connected: bool
) -> str:
    """Everything this process knows, as one page."""
    proxies = _proxies(standings)
    families = (
        _family("crossfade_bus_connected", "gauge", "Whether the bus can be reached.", [({}, float(connected))]),
        _family("crossfade_events_total", "counter", "What this process counted, by reason.", _counted(counts)),
        _family("crossfade_seam_stage", "gauge", "1 for the stage a seam stands at.", _stages(standings)),
        _family("crossfade_seam_percent", "gauge", "Share of keys on the bus at canary.", _percents(standings)),
        _family("crossfade_seam_instances", "gauge", "Live processes that declare a seam.", _instances(standings)),
        _family("crossfade_seam_lagging", "gauge", "Those that have not applied its policy.", _lagging(standings)),
        _family("crossfade_seam_breakers_open", "gauge", "Those that do not ask the bus now.", _broken(standings)),
        _family("crossfade_proxy_requests_total", "counter", "Requests that proxies answered.", _requests(proxies)),
        _family("crossfade_proxy_request_duration_seconds", "histogram", "How long they took.", _seconds(proxies)),
        _family("crossfade_stream_open", "gauge", "Open streams.", [({}, float(hub.total))]),
        _family("crossfade_stream_ring_events", "gauge", "Events kept for streams.", [({}, float(len(hub.ring)))]),
    )
    return "".join(f"{line}\n" for family in families for line in family)


def _counted(counts: Mapping[tuple[str, str, str], int]) -> list[Sample]:
    """The largest series by name, and the sum of the others."""
    largest = Counter(counts).most_common(MOST)
    rest = sum(counts.values()) - sum(n for _, n in largest)
    samples: list[Sample] = [
        ({"name": name, "seam": seam, "reason": reason}, float(n)) for (name, seam, reason), n in largest
    ]
    return [*samples, ({"name": "other", "seam": "-", "reason": "-"}, float(rest))] if rest else samples


def _stages(standings: Iterable[Standing]) -> list[Sample]:
    return [({"seam": each.seam, "stage": each.policy.stage.value}, 1.0) for each in _bounded(standings)]


def _percents(standings: Iterable[Standing]) -> list[Sample]:
    return [({"seam": each.seam}, each.policy.percent) for each in _bounded(standings)]


def _instances(standings: Iterable[Standing]) -> list[Sample]:
    samples: list[Sample] = []
    for each in _bounded(standings):
        for role, n in sorted(Counter(instance.role for instance in each.instances).items()):
            samples.append(({"seam": each.seam, "role": role}, float(n)))
    return samples


def _lagging(standings: Iterable[Standing]) -> list[Sample]:
    return [({"seam": each.seam}, float(len(each.lagging))) for each in _bounded(standings)]


def _broken(standings: Iterable[Standing]) -> list[Sample]:
    return [({"seam": each.seam}, float(len(each.broken))) for each in _bounded(standings)]


def _proxies(standings: Iterable[Standing]) -> list[Instance]:
    """The live processes that have answered requests, each once."""
    found = {each.instance: each for standing in standings for each in standing.instances if each.requests}
    return [found[name] for name in sorted(found)][:MOST]


def _requests(proxies: Iterable[Instance]) -> list[Sample]:
    """Those of the largest series; a configuration has no end of routes."""
    all_of_them = Counter({(each.instance, words): n for each in proxies for words, n in each.requests.items()})
    samples: list[Sample] = []
    for (instance, words), n in all_of_them.most_common(MOST):
        seam, path, status = words.rsplit(" ", 2)
        samples.append(({"instance": instance, "seam": seam, "path": path, "status": status}, float(n)))
    rest = all_of_them.total() - sum(int(n) for _, n in samples)
    other = {"instance": "other", "seam": "-", "path": "-", "status": "-"}
    return [*samples, (other, float(rest))] if rest else samples


def _seconds(proxies: Iterable[Instance]) -> Iterator[Part]:
    for each in proxies:
        for path, counted in sorted(each.seconds.items()):
            labels, total = {"instance": each.instance, "path": path}, 0.0
            for bound in (name for name in counted if name != "sum"):
                total += counted[bound]
                yield {**labels, "le": bound}, total, "_bucket"
            yield labels, counted["sum"], "_sum"
            yield labels, total, "_count"


def _bounded(standings: Iterable[Standing]) -> list[Standing]:
    return list(standings)[:MOST]


def _family(name: str, kind: str, meaning: str, samples: Iterable[Sample | Part]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value, *suffix in samples:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        whole = "".join((name, *suffix))
        yield f"{whole}{{{shown}}} {value!r}" if shown else f"{whole} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
