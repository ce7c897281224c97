"""The pytest plugin for users' own tests: what it shows, what it keeps apart, and what it says when it cannot."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time

import pytest

from crossfade import shim
from crossfade.adapters import testing
from crossfade.shim import connection
from crossfade.shim.errors import BusUnavailableError, UnknownSeamError
from crossfade.shim.hooks import Counters, report, use_hooks
from crossfade.shim.seam import registry
from crossfade.shim.services import services

PLUGIN = 'pytest_plugins = ["crossfade.adapters.testing"]\n'
SETTINGS = """
    [pytest]
    filterwarnings = error
    asyncio_default_fixture_loop_scope = function
"""

# The fixtures alone; the plugin's hooks are tried in runs of their own, below.
bus, stage, crossfade_test = testing.bus, testing.stage, testing.crossfade_test


@shim.tool("plugin.double", effects="none")
def double(n: int) -> int:
    return 2 * n


@shim.tool("plugin.size", effects="none")
def size(text: str) -> int:
    return len(text)


@pytest.fixture
def project(pytester, monkeypatch):
    """A user's project with the plugin on and every warning an error."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a quarter of the time: of all that we install, only
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_asyncio.plugin")  # what the settings above are for
    pytester.makeini(SETTINGS)
    pytester.makeconftest(PLUGIN)
    return pytester


# -- what it shows ---------------------------------------------------------------------------------------------


def test_large_arguments_are_shown(bus, stage):
    """A call that travelled as a claim check shows its arguments and its value like any other."""
    stage("plugin.size", "bus")
    text = "x" * 300_000

    assert size(text) == 300_000

    (call,) = bus.calls("plugin.size")
    assert (call.arguments, call.value) == ({"text": text}, 300_000)
    assert call.command.event.get("dataref")


def test_a_call_under_way_has_no_outcome(bus, stage):
    """A call whose handler still runs is listed, with the outcome ``None``."""
    begun, go_on = threading.Event(), threading.Event()

    @shim.tool("plugin.slow", effects="idempotent")
    def slow() -> None:
        begun.set()
        go_on.wait(5)

    stage("plugin.slow", "bus")
    task = slow.submit()
    assert begun.wait(5)

    assert [call.outcome for call in bus.calls("plugin.slow")] == [None]

    go_on.set()
    task.result(5)
    assert [call.outcome for call in bus.calls("plugin.slow")] == ["value"]


def test_a_command_that_cannot_be_read_is_shown_as_it_came(bus, stage):
    """A caller of another version sends what the handler cannot take: not executed, and visible."""
    signature_of_yesterday = shim.Seam("plugin.double", lambda n: n, domain="tool", policy=_policy("plugin.double"))
    stage("plugin.double", "bus", fallback="raise")
    signature_of_yesterday.route = registry.get("plugin.double").route

    with pytest.raises(shim.NotExecutedError):
        signature_of_yesterday.route.call(signature_of_yesterday, lambda n: n, ("two",), {})

    (call,) = bus.calls("plugin.double")
    assert (call.outcome, call.reason) == ("not-executed", "arguments")
    assert call.arguments == {"arguments": {"n": "two"}}


def _policy(seam: str):
    return registry.get(seam).policy


def test_what_is_no_event_is_counted(bus):
    """Bytes that a test stores itself do not break looking; they are counted."""
    bus.broker.store_raw("cfe.-.-.webhook-received", {"ce-specversion": "7"}, b"?")

    assert bus.events() == []
    assert bus.counts.get("skipped") == 1


def test_looking_works_while_the_broker_is_stopped(bus, stage):
    """What lies on a stopped broker can still be asserted on."""
    stage("plugin.double", "bus")
    double(2)
    bus.broker.stop()

    assert len(bus.calls("plugin.double")) == 1
    assert len(bus.events("tool.result")) == 1


def test_a_verdict_that_does_not_come_names_its_call(bus, stage):
    """A shadow run that hangs ends in a TimeoutError with the calls that are not judged."""
    go_on = threading.Event()

    @shim.handler("plugin.double")
    def hangs(n: int) -> int:
        go_on.wait(5)
        return 2 * n

    stage("plugin.double", "shadow")
    double(2)

    with pytest.raises(TimeoutError, match=r"1 calls of plugin\.double are not compared yet: [0-9a-f]{32}"):
        bus.verdicts("plugin.double", timeout=0.1)

    go_on.set()
    assert [verdict.kind for verdict in bus.verdicts("plugin.double")] == ["match"]


def test_verdicts_are_in_order_of_the_calls(bus, stage):
    """Two shadow runs at once may end in any order; the test sees them in the order of its calls."""

    @shim.handler("plugin.double")
    def first_is_slow_and_wrong(n: int) -> int:
        if n == 1:
            time.sleep(0.05)  # what a slow handler does
            return 0
        return 2 * n

    stage("plugin.double", "shadow")
    for n in (1, 2, 3):
        double(n)

    assert [verdict.kind for verdict in bus.verdicts("plugin.double")] == ["mismatch", "match", "match"]


def test_waiting_sees_what_comes_meanwhile(bus, stage):
    """``wait_for`` is woken by an event of another thread."""
    stage("plugin.double", "bus")
    caller = threading.Timer(0.05, double, (2,))
    caller.start()

    assert len(bus.wait_for("tool.result", seam="plugin.double")) == 1
    caller.join()


async def test_waiting_in_a_coroutine_times_out(bus):
    """``await_for`` says what it waited for and what there is."""
    with pytest.raises(TimeoutError, match=r"0 of 2 tool.invoke of any seam; on the bus are: nothing, after 0.05 s"):
        await bus.await_for("tool.invoke", n=2, timeout=0.05)


# -- what is served --------------------------------------------------------------------------------------------


def test_a_seam_that_its_code_stages_is_served(request):
    """``stage="bus"`` in code needs no ``stage(...)`` in the test."""

    @shim.tool("plugin.ahead", effects="none", stage="bus")
    def ahead(n: int) -> int:
        return n if shim.current_call() else -1

    try:
        bus = request.getfixturevalue("bus")
        assert ahead(3) == 3
        assert len(bus.calls("plugin.ahead")) == 1
    finally:
        registry.remove("plugin.ahead")


def test_a_handler_with_another_signature_is_refused(stage):
    """The error of a worker's start reaches the test that stages the seam."""

    @shim.handler("plugin.double")
    def another(n: str) -> int:
        return len(n)

    with pytest.raises(shim.SeamDefinitionError, match=r"differs from the body .* in n:"):
        stage("plugin.double", "bus")


def test_a_handler_that_comes_too_late_is_refused(stage):
    """A test that declares its handler after staging would be answered by the body, and not notice."""
    stage("plugin.double", "shadow")

    @shim.handler("plugin.double")
    def late(n: int) -> int:
        return n

    with pytest.raises(shim.ConfigurationError, match="declare its handler before the first stage"):
        stage("plugin.double", "bus")


def test_a_remote_seam_without_a_handler_is_refused(stage):
    """Staging what nobody serves would only time out; it says what to do instead."""
    shim.remote("plugin.elsewhere", signature=lambda n: n)  # a lambda declared here ends with the test

    with pytest.raises(shim.ConfigurationError, match="nothing serves it here: declare a handler"):
        stage("plugin.elsewhere", "bus")


def test_a_seam_that_cannot_be_served_is_in_nobodys_way(bus, stage):
    """One method without ``bind`` in the code under test does not keep other seams from the bus."""

    class Service:
        @shim.tool("plugin.unbound")
        def method(self) -> int:
            return 1

    stage("plugin.double", "bus")

    assert double(2) == 4
    assert len(bus.calls("plugin.double")) == 1
    with pytest.raises(shim.SeamDefinitionError, match="bind="):
        stage("plugin.unbound", "bus")


def test_a_stopped_broker_cannot_be_staged_on(bus, stage):
    """A test that stops the broker first learns why its stage does not apply."""
    bus.broker.stop()

    with pytest.raises(BusUnavailableError):
        stage("plugin.double", "observe")


def test_a_wrong_setting_is_named(stage):
    """Settings are validated as everywhere else."""
    with pytest.raises(shim.ConfigurationError, match=r"timeout: -1 is not between"):
        stage("plugin.double", "bus", timeout=-1)
    with pytest.raises(shim.ConfigurationError, match="unknown setting"):
        stage("plugin.double", "bus", timeuot=1)


def test_a_worker_serves_what_it_is_told():
    """``only`` leaves the rest of the process's seams to others."""
    assert [service.name for service in services(registry, only=["plugin.size"])] == ["plugin.size"]


def test_a_worker_that_ends_early_fails_the_test(project, monkeypatch):
    """A worker that dies is an error of the test it served, not a line on stderr."""
    project.makepyfile(
        """
        import pytest
        from crossfade import shim
        from crossfade.shim.execution import Execution

        @shim.tool("inner.dies", effects="none")
        def dies() -> int:
            return 1

        def test_it(bus, stage, monkeypatch):
            monkeypatch.setattr(Execution, "__init__", lambda *_, **__: 1 / 0)
            stage("inner.dies", "bus")
        """
    )

    result = project.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])
    registry.remove("inner.dies")


# -- what it keeps apart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [1, 2])
def test_what_a_test_declares_ends_with_it(bus, stage, answer):
    """Each of these declares a seam and a handler of the same name, and neither meets the other's."""

    @shim.tool("plugin.local", effects="none")
    def local() -> int:
        return answer

    @shim.handler("plugin.double")
    def answers(n: int) -> int:
        return answer

    stage("plugin.local", "bus")
    stage("plugin.double", "bus")

    assert (local(), double(21)) == (answer, answer)


def test_nothing_of_another_test_is_there(bus):
    """The registry, the bus and the stages are as the modules left them."""
    with pytest.raises(UnknownSeamError):
        registry.get("plugin.local")
    assert registry.handler("plugin.double") is None
    assert bus.events() == []
    assert double(21) == 42


def test_a_module_imported_in_a_test_keeps_its_seams(project):
    """A decorator runs once per process: forgetting its seam with the test would lose it for all later ones."""
    project.makepyfile(
        later="""
        from crossfade import shim

        @shim.tool("inner.later", effects="none")
        def later() -> int:
            return 7
        """,
        test_it="""
        import pytest

        @pytest.mark.parametrize("time", [1, 2])
        def test_it(bus, stage, time):
            from later import later
            stage("inner.later", "bus")
            assert later() == 7
            assert len(bus.calls("inner.later")) == 1
        """,
    )

    project.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
    registry.remove("inner.later")


def test_counts_are_the_tests_own_and_everybodys(request):
    """``bus.counts`` begins at nothing; the hooks in use before hear everything as well, and are back afterwards."""
    theirs, before = Counters(), report.hooks
    use_hooks(theirs)
    in_use = report.hooks
    try:
        bus = request.getfixturevalue("bus")
        request.getfixturevalue("stage")("plugin.double", "bus")
        double(2)
        assert bus.counts.get("served", seam="plugin.double") == theirs.get("served", seam="plugin.double") == 1
        assert report.hooks is not in_use
    finally:
        report.hooks = before


def test_settings_of_the_shell_are_out_of_sight(project, monkeypatch):
    """The kill switch, a file, a key that is none: no test with ``bus`` sees them, and they are back afterwards."""
    project.makepyfile(
        """
        import os
        from crossfade import shim

        @shim.tool("inner.shell", effects="none")
        def shell() -> int:
            return 1

        def test_it(bus, stage):
            stage("inner.shell", "bus")
            shell()
            assert len(bus.calls("inner.shell")) == 1

        def test_after():
            assert os.environ["CROSSFADE_OFF"] == "1"
        """
    )
    for name, value in {"OFF": "1", "CONFIG": "/nowhere", "SEAL_KEY": "?", "REDACT_KEY": "short"}.items():
        monkeypatch.setenv(f"CROSSFADE_{name}", value)

    project.runpytest_inprocess().assert_outcomes(passed=2)
    registry.remove("inner.shell")


# -- connecting ------------------------------------------------------------------------------------------------


def test_without_bus_connecting_reaches_nobody(project):
    """No thread, no wait, no broker: a connection that is not connected; a required one says what to ask for."""
    project.makepyfile(
        """
        import threading
        import pytest
        from crossfade import shim

        def test_it():
            with shim.connect("nats://127.0.0.1:9", wait=60) as connection:
                assert not connection.connected
                with pytest.raises(shim.ConfigurationError, match="ask for the fixture `bus`"):
                    connection.runtime
            assert [thread.name for thread in threading.enumerate() if "crossfade" in thread.name] == []

        def test_required():
            with pytest.raises(shim.BusError, match="ask for the fixture `bus`"):
                shim.connect(required=True)
        """
    )

    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_code_under_test_connects_to_the_tests_bus(bus, stage):
    """Whatever bus it names, as often as it likes; closing its connection does not end the test's."""
    stage("plugin.double", "bus")
    for url in (None, "nats://production:4222", "kafka://production"):
        with shim.connect(url, required=True) as ours:
            assert ours.connected
            double(2)

    assert len(bus.calls("plugin.double")) == 3


def test_connecting_is_as_before_after_a_test(project):
    """When the run is over ``connect`` connects again."""
    project.makepyfile("def test_it(bus): pass")
    before = connection.stand_in

    project.runpytest_inprocess().assert_outcomes(passed=1)

    assert connection.stand_in is before
    assert connection.current() is None


def test_a_connection_made_before_the_plugin_is_closed(project):
    """A conftest's imports run before the plugin: what they connected is closed, and the header says so."""
    project.makeconftest(f'from crossfade import shim\nshim.connect("memory://before")\n{PLUGIN}')
    project.makepyfile(
        """
        from crossfade.shim import connection

        def test_it():
            assert connection.current() is None
        """
    )

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["crossfade: closed the connection to memory://before, tests connect by*"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_not_connected(bus, stage):
    """A child has neither the broker nor the threads: connecting there connects to nothing instead of hanging."""
    stage("plugin.double", "bus")
    child = os.fork()
    if child == 0:
        os._exit(0 if not shim.connect().connected and double(2) == 4 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert double(2) == 4
    assert len(bus.calls("plugin.double")) == 1


# -- how it ends -----------------------------------------------------------------------------------------------


def test_a_thread_left_behind_is_named(project):
    """A handler that does not end fails its own test, by thread, function and line; the next test is not blamed."""
    project.makepyfile(
        """
        import threading
        from crossfade import shim

        go_on = threading.Event()

        @shim.tool("inner.hangs", effects="idempotent")
        def hangs() -> None:
            go_on.wait(20)

        def test_it(bus, stage):
            stage("inner.hangs", "bus")
            hangs.submit()
            bus.wait_for("tool.invoke")

        def test_next(bus):
            go_on.set()
        """
    )

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["the test left threads behind, a call was still running: crossfade body_0, in hangs at *test_*.py:8"]
    )
    registry.remove("inner.hangs")


def test_a_broken_broker_does_not_outlive_its_test(project):
    """Stopped, slow and about to fail: the test ends within its grace all the same, and leaves nothing."""
    project.makepyfile(
        """
        import time
        import pytest
        from crossfade import shim
        from crossfade.shim.errors import BusUnavailableError

        @shim.tool("inner.broken", effects="none")
        def broken() -> int:
            return 1

        @pytest.fixture(autouse=True)
        def quickly():
            yield
            assert time.monotonic() - began < 4

        def test_it(bus, stage):
            global began
            stage("inner.broken", "bus", timeout=0.5)
            for operation in ("ack", "put", "delete"):
                bus.broker.delay(operation, 30)
                bus.broker.fail_next(operation, BusUnavailableError("?"))
            broken()
            bus.broker.stop()
            began = time.monotonic()
        """
    )

    project.runpytest_inprocess().assert_outcomes(passed=1)
    registry.remove("inner.broken")


def test_types_may_be_imported_before_the_plugin_is_named(project):
    """A conftest that annotates its fixtures imports the package first; pytest's own complaint would be an error."""
    project.makeconftest(f"from crossfade.adapters.testing import BusFixture, StageFixture\n{PLUGIN}")
    project.makepyfile("def test_it(bus): pass")

    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_run_may_do_without(project):
    """``-p no:`` takes the plugin out, for tests with a real broker."""
    project.makepyfile(
        """
        from crossfade.shim import connection

        def test_it():
            assert connection.stand_in is None
        """
    )

    project.runpytest_subprocess("-p", "no:crossfade.adapters.testing").assert_outcomes(passed=1)


def test_pytest_is_loaded_by_the_plugin_alone():
    """Nothing else of ours imports pytest, and without it the plugin says what is missing."""
    program = """
import sys
import crossfade.shim.worker, crossfade.adapters.memory, crossfade.adapters.nats, crossfade.adapters.embedded
assert not {"pytest", "_pytest"} & sys.modules.keys()
sys.modules["pytest"] = None
try:
    import crossfade.adapters.testing
except crossfade.shim.ConfigurationError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout == "crossfade.adapters.testing is a pytest plugin: pip install pytest\n"


# -- what it costs ---------------------------------------------------------------------------------------------


def test_a_bus_per_test_is_affordable(project, note):
    """Starting, staging one seam and stopping take tens of milliseconds; the summary has the number."""
    project.makepyfile(
        """
        import pytest
        from crossfade import shim

        @shim.tool("inner.cost", effects="none")
        def cost() -> int:
            return 1

        @pytest.mark.parametrize("n", range(20))
        def test_it(bus, stage, n):
            stage("inner.cost", "bus")
            cost()
        """
    )

    result = project.inline_run()
    items: dict[str, float] = {}
    for found in result.getreports("pytest_runtest_logreport"):
        items[found.nodeid] = items.get(found.nodeid, 0) + found.duration

    seconds = statistics.median(items.values())
    note(f"a test with a bus, one staged seam and one call: {seconds * 1000:.0f} ms (median of {len(items)})")
    assert len(items) == 20
    assert seconds < 1
    registry.remove("inner.cost")
