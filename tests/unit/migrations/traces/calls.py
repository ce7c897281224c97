"""Calls in short, for tests of what is made of them."""

from __future__ import annotations

from crossfade.migrations.traces.run import Call, Run


def call(id, seam="", *, parent="", at=0.0, took=1.0, path="legacy", **about):  # noqa: A002 - what it is called
    """A call from ``at`` for ``took`` seconds, of a seam named after it unless told."""
    return Call(id=id, run="r", seam=seam or id, parent=parent, path=path, began=at, ended=at + took, **about)


def run(*calls, id="r"):  # noqa: A002 - as above
    """The run of ``calls``."""
    return Run.of(id, calls)


def shape(found):
    """Who is called at which depth."""
    return [(node.call.id, depth) for node, depth in found.walk()]
