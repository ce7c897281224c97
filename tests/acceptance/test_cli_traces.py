"""``crossfade traces``: what each command prints, writes and refuses."""

from __future__ import annotations

import json

EVIL = "<script>alert(1)</script>\x1b[31m"


def spans(trace, *names, took=2):
    """A trace of another tool: the first span calls the others."""
    return {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": trace,
                                "spanId": f"{at:016x}",
                                **({"parentSpanId": f"{1:016x}"} if at > 1 else {}),
                                "name": name,
                                "startTimeUnixNano": str(at * 1_000_000_000),
                                "endTimeUnixNano": str((at + took) * 1_000_000_000),
                            }
                            for at, name in enumerate(names, start=1)
                        ]
                    }
                ]
            }
        ]
    }


def test_another_tools_runs_are_listed_shown_compared_drawn_and_handed_on(shell):
    """Import, list, show, diff, report, export: names from outside are shown and never obeyed."""
    (shell.folder / "one.json").write_text(json.dumps(spans("a" * 32, "agent", "search", EVIL)))
    (shell.folder / "two.json").write_text(json.dumps(spans("b" * 32, "agent", "search")))
    assert shell.run("traces", "import", "one.json").out == "Took in 3 calls of 1 run from one.json.\n"
    assert shell.run("traces", "import", "two.json", "--path", "bus", "--json").json == {"calls": 2, "runs": 1}

    listed = shell.run("traces", "list", "--json").json
    shown = shell.run("traces", "show", "a" * 32)
    differ = shell.run("traces", "diff", "a" * 32, "b" * 32, code=1)
    same = shell.run("traces", "diff", "a" * 32, "a" * 32, "--json")
    shell.run("traces", "report", "--diff", "a" * 32, "b" * 32, "-o", "page.html")
    sent = shell.run("traces", "export", "a" * 32).json

    assert {each["run"]: (each["calls"], each["paths"]) for each in listed} == {
        "a" * 32: (3, ["legacy"]),
        "b" * 32: (2, ["bus"]),
    }
    assert "\x1b" not in shown.out + differ.out
    assert "It waited for:" in shown.out
    assert [line.split()[-3:-1] for line in differ.out.splitlines() if "missing" in line]
    assert same.json[0]["changes"] == {"same": 3}
    page = (shell.folder / "page.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1
    assert len(sent["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3


def test_what_selects_nothing_or_too_much_says_what_to_do(shell):
    """No run, a part of many, an unknown term, a path that is none, no twin, no trace."""
    (shell.folder / "one.json").write_text(json.dumps(spans("a" * 32, "agent")))
    (shell.folder / "two.json").write_text(json.dumps(spans("a" * 31 + "b", "agent")))
    (shell.folder / "no.json").write_text("{}")
    for name in ("one", "two"):
        shell.run("traces", "import", f"{name}.json")

    def said(*words):
        return shell.run("traces", *words, code=2).err

    assert "crossfade traces list" in said("show", "nothing-like-it")
    assert "may be 2 runs" in said("show", "aaaaaaa")
    assert "too short" in said("show", "aaa")
    assert "use seam, path, since, until" in said("diff", "seem=agent", "path=bus")
    assert "use legacy or bus" in said("list", "--path", "buss")
    assert "name a second run" in said("diff", "a" * 32)
    assert "selects no run" in said("diff", "path=bus", "path=legacy")
    assert "no span in it" in said("import", "no.json")
    assert "cannot be read" in said("import", "gone.json")
