"""One HTML file that shows runs as waterfalls, and two sides beside each other. It needs nothing but itself.

Everything that comes from outside is escaped, no element has a handler of its own, and the policy in its head lets only
the one script below run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from math import inf
from typing import TYPE_CHECKING, Final

from . import geometry
from .aligning import changes
from .populations import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crossfade.migrations.statistics import Bounds

    from .aligning import Pair
    from .geometry import Bar, Row
    from .populations import Difference, Part, Population, Side
    from .run import Call, Run

MAX_ROWS: Final = 5000
"""Calls of one run that are drawn; the rest is counted."""

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#59636e;--page:#fff;--line:#d8dee4;--stripe:#f6f8fa;--queue:#bf8700;
--handler:#0969da;--transport:#8250df;--shadow:#6e7781;--bad:#cf222e;--critical:#1b1f24;--focus:#0969da}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--page:#0d1117;--line:#30363d;--stripe:#161b22;
--queue:#d29922;--handler:#4493f8;--transport:#ab7df8;--shadow:#9198a1;--bad:#ff7b72;--critical:#e6edf3;--focus:#4493f8}}
*{box-sizing:border-box}
body{font:14px/1.5 system-ui,sans-serif;margin:0 auto;padding:24px;max-width:1400px;color:var(--ink);
background:var(--page)}
h1{font-size:22px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 4px;overflow-wrap:anywhere}p{margin:4px 0}
.dim{color:var(--dim)}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:3px 10px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
thead th{color:var(--dim);font-size:12px}tbody tr:nth-child(even){background:var(--stripe)}
.n{text-align:right}.bars{width:45%;min-width:320px}.name{max-width:420px;overflow:hidden;text-overflow:ellipsis}
.track{position:relative;height:14px}.track+.track{margin-top:2px}
.track i{position:absolute;top:2px;bottom:2px;min-width:2px;border-radius:2px}
.queue{background:var(--queue)}.handler{background:var(--handler)}.transport{background:var(--transport)}
.shadow .handler{background:repeating-linear-gradient(45deg,var(--shadow) 0 4px,transparent 4px 7px)}
.track i.critical{top:auto;bottom:-1px;height:2px;background:var(--critical);border-radius:0}
.bad{color:var(--bad);font-weight:600}.sure{font-weight:600}
.key i{display:inline-block;width:14px;height:10px;border-radius:2px;margin:0 4px 0 14px}
.key i.critical{height:2px;background:var(--critical);vertical-align:middle}
button{font:inherit;color:inherit;background:none;border:0;padding:0;width:1.4em;text-align:center;cursor:pointer}
.leaf{display:inline-block;width:1.4em}
:focus-visible{outline:2px solid var(--focus);outline-offset:1px}
.small{font-size:12px}[hidden]{display:none}@media print{button{display:none}}
"""

# Rows of a tree follow their parent, deeper ones below it: folding one hides what follows until its own depth is back.
_SCRIPT: Final = """
for (const table of document.querySelectorAll('table.tree')) {
  const rows = [...table.tBodies[0].rows];
  const show = () => {
    let folded = Infinity;
    for (const row of rows) {
      const depth = Number(row.dataset.depth);
      if (depth <= folded) folded = Infinity;
      row.hidden = depth > folded;
      const button = row.querySelector('button');
      if (!row.hidden && button && button.getAttribute('aria-expanded') === 'false') folded = depth;
    }
  };
  table.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    button.setAttribute('aria-expanded', String(button.getAttribute('aria-expanded') === 'false'));
    button.textContent = button.getAttribute('aria-expanded') === 'true' ? '\\u25be' : '\\u25b8';
    show();
  });
}
"""


def page(title: str, parts: Iterable[str]) -> Iterator[str]:
    """The whole file, piece by piece; ``parts`` are sections made here."""
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><main><h1>{_text(title)}</h1>{_KEY}"
    )
    yield from parts
    yield f"</main><script>{_SCRIPT}</script></body></html>\n"


_KEY: Final = (
    '<p class="key dim">Time of a call: <i class="queue"></i>queue <i class="handler"></i>handler '
    '<i class="transport"></i>transport <i class="critical"></i>what the run waited for</p>'
)


def run_section(run: Run) -> Iterator[str]:
    """One run: every call, when, how long, and what it waited for."""
    calls = list(run.walk())
    errors = sum(node.call.outcome == "error" for node, _ in calls)
    yield (
        f"<section><h2>Run {_text(run.id)}</h2><p class=dim>{_when(run.began)}, {ms(run.seconds)}, {len(calls)} calls"
        f"{f', {errors} failed' if errors else ''}{f', idle {ms(run.idle)}' if run.idle > 0 else ''}</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="tree"><thead><tr>'
        '<th scope="col">call</th><th scope="col">path</th>'
        '<th scope="col">outcome</th><th scope="col" class="n">total</th><th scope="col" class="n">queue</th>'
        '<th scope="col" class="n">own</th><th scope="col" class="n">transport</th>'
        f'<th scope="col" class="bars">0 to {ms(run.seconds)}</th></tr></thead><tbody>'
    )
    yield from map(_row, geometry.rows(run, most=MAX_ROWS))
    yield f"</tbody></table></div>{_left_out(len(calls))}</section>"


def pair_section(old: Run, new: Run, pairs: Sequence[Pair], *, names: tuple[str, str]) -> Iterator[str]:
    """Two runs, or two paths of one, call by call; each side's bars begin where it began."""
    counted = changes(pairs)
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(counted.items()) if kind != "same") or "none"
    longest = max(old.seconds, new.seconds) or 1.0
    yield (
        f"<section><h2>{_text(names[0])} beside {_text(names[1])}</h2><p class=dim>{ms(old.seconds)} and "
        f"{ms(new.seconds)}; calls that differ: {said}. The upper bar is the first side's.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="tree"><thead><tr>'
        '<th scope="col">call</th><th scope="col">change</th>'
        '<th scope="col">outcomes</th><th scope="col" class="n">first</th><th scope="col" class="n">second</th>'
        f'<th scope="col" class="bars">0 to {ms(longest)}</th></tr></thead><tbody>'
    )
    for pair in pairs[:MAX_ROWS]:
        sides = ((pair.old, old), (pair.new, new))
        tracks = "".join(
            _track(node.call, geometry.bars(node.call, run.began, longest)) if node else '<div class="track"></div>'
            for node, run in sides
        )
        outcomes = " / ".join(_outcome(node.call) if node else "-" for node, _ in sides)
        times = "".join(f'<td class="n">{ms(node.call.seconds) if node else ""}</td>' for node, _ in sides)
        change = "" if pair.change == "same" else f'<span class="bad">{pair.change}</span>'
        nested = any(node is not None and node.children for node, _ in sides)
        yield (
            f'<tr data-depth="{pair.depth}">{_name(pair.seam, pair.depth, nested=nested)}<td>{change}</td>'
            f'<td>{outcomes}</td>{times}<td class="bars">{tracks}</td></tr>'
        )
    yield f"</tbody></table></div>{_left_out(len(pairs))}</section>"


def population_section(
    old: Population, new: Population, differences: Sequence[Difference], *, names: tuple[str, str], confidence: float
) -> Iterator[str]:
    """Two populations, edge by edge."""
    yield (
        f"<section><h2>{_text(names[0])} ({old.runs} runs) beside {_text(names[1])} ({new.runs} runs)</h2>"
        f"<p class=dim>Bounds at {confidence:.0%} on each side; <b>bold</b>: they do not touch, so it is no chance.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="small"><thead><tr>'
        '<th scope="col">calls</th><th scope="col">in runs</th>'
        '<th scope="col">a run</th><th scope="col">errors</th><th scope="col">total p50</th>'
        '<th scope="col">queue p50</th><th scope="col">handler p50</th><th scope="col">transport p50</th>'
        '<th scope="col">total p99</th></tr></thead><tbody>'
    )
    quantiles: tuple[tuple[Part, float], ...] = (*((part, 0.5) for part in PARTS), ("total", 0.99))
    for each in differences[:MAX_ROWS]:
        cells = [("runs", _share), ("calls", _rate), ("errors", _errors)]
        told = "".join(_beside(each, name, show(each.old), show(each.new)) for name, show in cells)
        for part, share in quantiles:
            name = f"{part} p{share * 100:g}"
            told += _beside(each, name, *(bounded(side.quantiles[part, share]) for side in (each.old, each.new)))
        yield f'<tr><th scope="row">{_text(each.edge)}</th>{told}</tr>'
    yield f"</tbody></table></div>{_left_out(len(differences))}</section>"


def ms(seconds: float) -> str:
    """A length of time with three digits: ``1.23 ms``, ``45.6 s``."""
    for limit, unit in ((0.0009995, "us"), (0.9995, "ms"), (inf, "s")):  # 1 ms, not 1000 us
        if abs(seconds) < limit:
            value = seconds * {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
            return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"
    raise AssertionError


def bounded(found: tuple[float | None, Bounds]) -> str:
    """A quantile with its bounds."""
    value, bounds = found
    if value is None:
        return "-"
    return f"{ms(value)} ({ms(bounds.low)} to {'?' if bounds.high == inf else ms(bounds.high)})"


def _share(side: Side) -> str:
    return f"{side.runs.low:.0%} to {side.runs.high:.0%}"


def _rate(side: Side) -> str:
    return f"{side.calls_a_run:.2f}"


def _errors(side: Side) -> str:
    return f"{side.errors.low:.1%} to {side.errors.high:.1%}"


def _beside(each: Difference, name: str, old: str, new: str) -> str:
    sure = ' class="sure"' if name in each.certain else ""
    return f"<td{sure}>{_text(old)}<br>{_text(new)}</td>"


def _row(row: Row) -> str:
    node, call = row.node, row.node.call
    start, _ = call.handled
    numbers = (call.seconds, start - call.began, node.own, call.transport)
    cells = "".join(f'<td class="n">{ms(value) if value > 0 else ""}</td>' for value in numbers)
    return (
        f'<tr data-depth="{row.depth}">{_name(call.seam, row.depth, nested=bool(node.children))}'
        f"<td>{_text(call.path)}</td><td>{_outcome(call)}</td>{cells}"
        f'<td class="bars">{_track(call, row.bars)}</td></tr>'
    )


def _name(seam: str, depth: int, *, nested: bool) -> str:
    fold = (
        '<button type="button" aria-expanded="true" aria-label="fold">\u25be</button>'
        if nested
        else '<span class="leaf"></span>'
    )
    return f'<th scope="row" class="name" style="padding-left:{10 + 16 * min(depth, 40)}px">{fold}{_text(seam)}</th>'


def _outcome(call: Call) -> str:
    text = _text(f"{call.outcome}: {call.reason}" if call.reason else call.outcome)
    return f'<span class="bad">{text}</span>' if call.outcome in ("error", "unknown", "mismatch") else text


def _track(call: Call, bars: Iterable[Bar]) -> str:
    drawn = tuple(bars)
    marks = "".join(
        f'<i class="{bar.part}" style="left:{bar.low:.4%};width:{bar.high - bar.low:.4%}"></i>' for bar in drawn
    )
    told = ", ".join(f"{bar.part} {ms(bar.seconds)}" for bar in drawn if bar.seconds > 0 and bar.part != "critical")
    kind = "track shadow" if call.path == "shadow" else "track"
    return f'<div class="{kind}" title="{_text(told)}">{marks}</div>'


def _left_out(n: int) -> str:
    return f"<p class=dim>{n - MAX_ROWS} more are not drawn.</p>" if n > MAX_ROWS else ""


def _when(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _text(value: object) -> str:
    """Escaped, and without characters that turn or hide what stands around them."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)))
