"""A file that CI servers read, whatever was in the calls."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from crossfade.migrations.replay.junit import JunitFile
from crossfade.migrations.replay.running import Replayed
from crossfade.shim.comparison import Difference, Verdict
from crossfade.shim.errors import ConfigurationError
from unit.migrations.replay.conftest import call


def written(path, *verdicts, callid="c"):
    file = JunitFile(path, build="1.4 & more")
    for verdict in verdicts:
        made = call("web.search", {}, callid=callid)
        file.add(Replayed(call=made, verdict=verdict, handler="self", seconds=0.25))
    file.close()
    return ET.parse(path).getroot().find("testsuite")


def test_each_call_is_a_case(tmp_path):
    """Passed, failed with what differs, undecided, skipped with why; counted at the top."""
    differences = (
        Difference(path="$.a", kind="changed", old="1", new="2"),
        Difference(path="$.b", kind="missing", old="3"),
    )
    suite = written(
        tmp_path / "r.xml",
        Verdict(kind="match"),
        Verdict(kind="ignored", rule="$.x"),
        Verdict(kind="mismatch", differences=differences, more=4, signature="ab"),
        Verdict(kind="inconclusive", reason="timeout"),
        Verdict(kind="skipped", reason="redacted"),
    )

    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "1.250",
    }
    tags = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert tags == [[], [], ["failure"], ["error"], ["skipped"]]
    failure = suite.find("testcase/failure")
    assert failure.get("message") == "mismatch: ab"
    assert failure.text == "$.a: changed, was 1, is 2\n$.b: missing, was 3, is nothing\n4 more"
    assert suite.find("testcase/skipped").get("message") == "skipped: redacted"


def test_hostile_text_is_no_markup(tmp_path):
    """Quotes, tags and what XML cannot say at all, in ids and in values."""
    evil = "\"'><x/>&\x00\x1b\ud800"
    difference = Difference(path=f"$.{evil}", kind="changed", old=evil, new="]]>")
    suite = written(tmp_path / "r.xml", Verdict(kind="mismatch", differences=(difference,)), callid=evil)

    assert suite.find("testcase").get("name").startswith("\"'><x/>&")
    assert suite.find("testcase/failure/x") is None


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    """As a wrong setting, not as a traceback."""
    with pytest.raises(ConfigurationError, match="cannot be written"):
        written(tmp_path / "no" / "r.xml", Verdict(kind="match"))


def test_the_build_that_ran_is_named(tmp_path):
    """A report without it proves something of nobody knows which code."""
    (named,) = written(tmp_path / "r.xml", Verdict(kind="match")).findall("properties/property")
    assert (named.get("name"), named.get("value")) == ("build", "1.4 & more")
