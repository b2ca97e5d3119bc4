"""What runs beside the tests: it says which tests there are, runs tripwires between them, and answers its parent.

`ci_driver` forks a process for each session and hands this plugin to pytest as an object: it has no name that a tree
could refuse, and its pipe stands in no variable. Before each test it says that it is about to begin, and reads one
letter: "g", or "w": then a test of the same name and the same place, which must fail, runs first and takes the same way
through the tree's hooks. Whoever turns failures into passes turns this
one too. It imports nothing but the standard library and pytest, because it runs under the tested repository's own
interpreter. What it says is the word of the process that runs the code under test: the parent believes none of it that
it cannot check.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

MOST_MESSAGE_CHARS = 2_000
MOST_NAME_CHARS = 500
IDS_A_LINE = 40
BENCHMARK = "flyball.benchmark."  # how the name of a recorded property begins
MOST_TOUCHING = 30  # tripwires at the end, beside tests that executed a changed line
MOST_SAMPLES = 1_000  # read out of one test: a line stays short, and whoever reads it says what is too much
EXCUSES = ("skip", "skipif", "xfail")  # marks under which a test that must fail need not


def hook(**options: Any) -> Callable[[Any], Any]:
    """`pytest.hookimpl`, without importing pytest: this file is read by a controller that may not have it."""
    known = dict.fromkeys(("wrapper", "hookwrapper", "optionalhook", "tryfirst", "trylast"), False)

    def mark(function: Any) -> Any:
        function.pytest_impl = {**known, "specname": None, **options}
        return function

    return mark


class Wanted:
    """Which tests run.

    `only`: those of these files, relative to the tree; None: all. `listed`: everything is listed, and these run; None:
    what is listed runs. `past_errors`: a file that cannot be collected does not keep the others from running.
    """

    def __init__(self, only: list[str] | None, listed: list[str] | None, *, past_errors: bool = False) -> None:
        self.only, self.listed, self.past_errors = only, listed, past_errors


class Reporter:
    """`watch` tells which changed lines were executed. None: nobody asks."""

    def __init__(self, channel: socket.socket, secret: str, root: str, wanted: Wanted, watch: Any) -> None:
        self.channel, self.secret, self.root, self.watch = channel, secret, root, watch
        self.only = None if wanted.only is None else {f"{root}/{name}" for name in wanted.only}
        self.wanted = None if wanted.listed is None else set(wanted.listed)
        self.past_errors = wanted.past_errors
        self.pid = os.getpid()  # a test that forks does not speak for its parent
        self.numbers: dict[Any, int] = {}
        self.phases: list[Any] = []  # reports of the test that is running
        self.made: dict[int, str] = {}  # id of a report: its outcome when pytest had made it
        self.calls: set[str] = set()  # how the running test's calls ended
        self.held: dict[str, Any] | None = None  # the last test's result, until what it leaves has been torn down
        self.touching: list[Any] = []  # tests that executed a changed line
        self.last: Any = None
        self.end_wires: dict[Any, int] = {}  # what stands behind the last test, and whose place each has
        self.turned = ""
        self.unsaid = b""

    def say(self, kind: str, *, later: bool = False, **line: Any) -> None:
        """`later`: together with what is said next."""
        if os.getpid() == self.pid:
            self.unsaid += json.dumps({"secret": self.secret, "kind": kind, **line}).encode() + b"\n"
            if not later:
                unsaid, self.unsaid = self.unsaid, b""
                self.channel.sendall(unsaid)

    # --- which tests there are ------------------------------------------------------------------------------------

    @hook(hookwrapper=True)
    def pytest_cmdline_main(self, config: Any) -> Iterator[None]:
        """Every test runs in this process: what workers of xdist report would be the word of a process further on."""
        if hasattr(config.option, "numprocesses"):
            config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []
        if self.past_errors:
            config.option.continue_on_collection_errors = True
        yield

    @hook(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Any) -> bool | None:
        if self.only is None or collection_path.is_dir() or str(collection_path) in self.only:
            return None
        return True

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.say("uncollected", test=(report.nodeid or "collection")[:MOST_NAME_CHARS], message=tail_of(report))

    @hook(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> Iterator[None]:
        yield
        for first in range(0, len(items), IDS_A_LINE):
            ids = [item.nodeid[:MOST_NAME_CHARS] for item in items[first : first + IDS_A_LINE]]
            self.say("collected", ids=ids)
        if self.wanted is not None:
            items[:] = [item for item in items if item.nodeid[:MOST_NAME_CHARS] in self.wanted]

    # --- running them ---------------------------------------------------------------------------------------------

    @hook(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> None:
        self.numbers = {item: number for number, item in enumerate(session.items)}
        for first in range(0, len(session.items), IDS_A_LINE):
            names = [item.nodeid[:MOST_NAME_CHARS] for item in session.items[first : first + IDS_A_LINE]]
            self.say("ordered", tests=names)
        self.last = session.items[-1] if session.items else None
        self.say("ready")
        self.put_at_the_end(session, [self.last])

    def put_at_the_end(self, session: Any, items: list[Any]) -> None:
        """What was changed while tests ran is still so at the end; who passes by name meets its own name here."""
        wires = {wire: self.numbers[item] for item in items if (wire := wire_of(item)) is not None}
        self.end_wires |= wires
        session.items.extend(wires)

    @hook(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        if item in self.end_wires:
            yield
            return
        number = self.numbers.get(item, -1)
        self.begin(number, item)
        yield
        ended = self.result(number, item.nodeid)
        if ended["seen"]:
            self.touching.append(item)
        if item is not self.last or not self.end_wires:
            self.say("end", later=True, **ended)
            return
        self.held = ended
        self.say("ran", number=number)
        others = [one for one in self.touching if one is not item]
        chosen = set(random.SystemRandom().sample(range(len(others)), min(MOST_TOUCHING, len(others))))
        self.put_at_the_end(item.session, [one for place, one in enumerate(others) if place in chosen])

    def begin(self, number: int, item: Any) -> None:
        self.say("start", number=number)
        if self.channel.recv(1) == b"w":
            self.run_wire(number, wire_of(item), item)
            self.say("go", number=number)
        self.phases, self.made, self.calls = [], {}, set()
        if self.watch is not None:
            self.watch.test_begins()

    @hook(tryfirst=True, specname="pytest_runtest_protocol")  # pytest asks for the prefix
    def pytest_flyball_end(self, item: Any, nextitem: Any) -> bool | None:
        if item not in self.end_wires or self.held is None:
            return None
        for report in self.run_wire(self.end_wires[item], item, nextitem):
            if report.when == "teardown" and report.failed:  # of a module or the session: the last test's, as always
                item.ihook.pytest_runtest_logreport(report=report)
                self.held.update(outcome="failed", message=tail_of(report))
        return True

    def run_wire(self, number: int, wire: Any, nextitem: Any) -> list[Any]:
        """A test that must fail, by the way of every test, except that nobody but the tree's own hooks hears of it."""
        from _pytest.runner import runtestprotocol  # noqa: PLC0415  see `hook`

        if wire is None:
            self.say("wire", number=number, outcome="none")
            return []
        plugins = wire.config.pluginmanager
        others = [one for one in plugins.get_plugins() if one is not self and installed(one)]
        hear = plugins.subset_hook_caller("pytest_runtest_logreport", remove_plugins=[*others, self])
        reports = runtestprotocol(wire, log=False, nextitem=nextitem)
        for report in reports:
            hear(report=report)
        self.say("wire", number=number, outcome=outcome_of_wire(wire, reports))
        return list(reports)

    @hook(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        self.made[id(report)] = report.outcome
        if report.when == "call":
            self.calls.add(report.outcome)
        if (
            call.excinfo is not None
            and report.outcome == "passed"
            and not isinstance(call.excinfo.value, KeyboardInterrupt)
        ):
            self.turned = f"{item.nodeid} raised {call.excinfo.typename} and was made a pass"

    @hook(trylast=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        self.phases.append(report)
        if self.made.get(id(report)) == "failed" and report.outcome == "passed":
            self.turned = f"{report.nodeid} failed and was made a pass"

    def result(self, number: int, test: str) -> dict[str, Any]:
        """Of a test that was run again, only the last try counts."""
        reports = [one for one in self.phases if one.nodeid == test]
        final = {(one.when, str(getattr(one, "context", ""))): one for one in reports}.values()
        failed = [one for one in final if one.failed]
        skipped = [one for one in final if one.skipped]
        called = [one for one in final if one.when == "call" and one.passed]
        outcome = "failed" if failed else "skipped" if skipped else "passed" if called else "not called"
        message = tail_of(failed[0]) if failed else reason_of(skipped[0]) if skipped else ""
        if outcome == "passed" and "passed" not in self.calls:
            self.turned = f"{test} was reported as passed and never called"
        measured = benchmarks_of(reports[-1].user_properties) if outcome == "passed" else []
        turned, self.turned = self.turned[:MOST_NAME_CHARS], ""
        return {
            "number": number,
            "outcome": outcome,
            "message": message,
            "turned": turned,
            "benchmarks": measured,
            "seen": self.watch.test_ends() if self.watch is not None else [],
        }

    @hook(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Iterator[None]:
        yield
        if self.held is not None:
            self.say("end", **self.held)
        if self.watch is not None:
            self.say("loaded", **self.watch.found())
        self.say("finished", exit=int(exitstatus))


def wire_of(item: Any) -> Any:
    """A test like this one that must fail. None: it is of a kind that we know no such test for."""
    from _pytest.python import Function  # noqa: PLC0415  see `hook`

    if not isinstance(item, Function):
        return None
    name = getattr(item, "originalname", None) or item.name
    return type(item).from_parent(item.parent, name=item.name, callobj=must_fail(name), originalname=name)


def must_fail(name: str) -> Any:
    """Fails by an `assert` or by an exception: an interpreter that was told to drop asserts is found out by the first.

    It is compiled from a text that belongs to no file: pytest would parse the whole file for each traceback.
    """
    token = os.urandom(8).hex()
    line = "assert not token, token" if os.urandom(1) < b"\x80" else "raise AssertionError(token)"
    scope: dict[str, Any] = {"token": token}
    exec(compile(f"def test(*_):\n    {line}\n", "<string>", "exec"), scope)  # noqa: S102  two lines of our own
    scope["test"].__name__ = scope["test"].__qualname__ = name
    return scope["test"]


def outcome_of_wire(wire: Any, reports: list[Any]) -> str:
    """`failed`, as it must; `passed`: somebody made it so; `none`: it was excused by a mark or a fixture."""
    if any(report.failed for report in reports):
        return "failed"
    excused = any(wire.get_closest_marker(mark) for mark in EXCUSES)
    before = any(report.when == "setup" and report.skipped for report in reports)
    return "none" if excused or before else "passed"


def installed(plugin: Any) -> bool:
    """It came with the interpreter's environment and not with the tree."""
    name = getattr(plugin, "__name__", None) or type(plugin).__module__
    file = getattr(sys.modules.get(str(name)), "__file__", None) or ""
    return str(name).partition(".")[0] == "_pytest" or file.startswith((sys.prefix, sys.base_prefix))


def benchmarks_of(properties: list[tuple[str, object]]) -> list[dict[str, Any]]:
    """What the test recorded; a name recorded several times, or as a list, has several samples."""
    found: dict[str, list[Any]] = {}
    for name, value in properties:
        if str(name).startswith(BENCHMARK):
            many = value if isinstance(value, list | tuple) else [value]
            found.setdefault(str(name)[len(BENCHMARK) :], []).extend(many)
    return [
        {"name": name[:MOST_NAME_CHARS], "samples": [number_of(one) for one in samples[:MOST_SAMPLES]]}
        for name, samples in found.items()
    ]


def number_of(value: Any) -> float | str:
    """As a plain number, whichever library's it is. What is none goes as its type's name, for the reader to refuse."""
    try:
        return float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return type(value).__name__


def tail_of(report: Any) -> str:
    return str(report.longreprtext)[-MOST_MESSAGE_CHARS:]


def reason_of(report: Any) -> str:
    why = report.longrepr
    told = why[2] if isinstance(why, tuple) else getattr(report, "wasxfail", "")
    return f"skipped: {told}"[:MOST_MESSAGE_CHARS]
