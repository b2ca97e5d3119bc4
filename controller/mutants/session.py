"""One start of pytest for many runs: it stops where plugins are loaded and nothing of the tests is, and forks there.

`attend` is the process between: it takes one order a line from `serve`, and for each forks a child that goes on with
pytest as if nothing had happened. It holds no pipe but the one to `serve`, and knows nothing of mutants: the file on
disk is what it is when the child imports it. The children run the code under test.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .hits import Hits

PR_SET_DUMPABLE = 4  # linux/prctl.h
NONE_COLLECTED = 5  # pytest.ExitCode


def dumpable(*, yes: bool) -> None:
    """Whether another process of this user may look into this one and its pipes. Only Linux has the word."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(yes), 0, 0, 0)


class Session:
    """The plugin, in the process between and in its children."""

    def __init__(self, orders: int, answers: int) -> None:
        self.orders, self.answers = orders, answers
        self.rest = b""  # of the orders, what was read beyond the last line
        self.order: dict[str, Any] = {}
        self.child = False
        self.hits: Hits | None = None  # None: nothing is traced

    # --- between -----------------------------------------------------------------------------------------------------

    def attend(self) -> None:
        """Returns in every child, never here."""
        self.say(ready=True, early=self._early())
        while True:
            order = self._hear()
            if order is None:
                os._exit(0)
            if "modules" in order:
                self._preload(order["modules"])
                continue
            gc.freeze()  # no child walks, or copies, what all of them share
            child = os.fork()
            if child == 0:
                self._become(order)
                return
            self.say(pid=child)
            self.say(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def say(self, **words: Any) -> None:
        os.write(self.answers, json.dumps(words).encode() + b"\n")

    def _hear(self) -> dict[str, Any] | None:
        while b"\n" not in self.rest:
            read = os.read(self.orders, 65_536)
            if not read:
                return None
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order

    def _early(self) -> bool:
        """Something of the tree is imported already: a mutant of it would not be seen."""
        tree = os.path.realpath(os.getcwd()) + os.sep
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        return any(file and os.path.realpath(file).startswith(tree) for file in files)

    def _preload(self, names: list[str]) -> None:
        """What the tests import from elsewhere, imported once. One that will not be is left to the tests."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                if name not in sys.modules:
                    with suppress(Exception):
                        importlib.import_module(name)

    def _become(self, order: dict[str, Any]) -> None:
        os.close(self.orders)
        os.close(self.answers)
        os.setsid()
        dumpable(yes=True)
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        self.child, self.order = True, order
        if "trace" in order:
            self.hits = Hits(order["trace"])
            self.hits.begin()

    # --- pytest ------------------------------------------------------------------------------------------------------

    def pytest_load_initial_conftests(self, early_config: Any, args: list[str]) -> Iterator[None]:
        manager = early_config.pluginmanager
        if manager.hasplugin("xdist"):
            args.append("-n0")  # tests in this process, where they can be traced and forked
        if manager.hasplugin("pytest_cov"):
            args.append("--no-cov")  # its trace would take the place of ours
            early_config.known_args_namespace.no_cov = True
        self.attend()
        yield

    def pytest_configure(self, config: Any) -> None:
        if self.hits is None:
            config.option.maxfail = 1
        config.option.tbstyle = "no"

    def pytest_ignore_collect(self, collection_path: Any) -> bool | None:
        files = self.order.get("files")
        if files is None or collection_path.is_dir():
            return None
        return True if os.path.realpath(str(collection_path)) not in files else None

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        wanted = self.order.get("tests")
        if wanted is not None:
            place = {test: number for number, test in enumerate(wanted)}
            items[:] = sorted((one for one in items if one.nodeid in place), key=lambda one: place[one.nodeid])
        first = self.order.get("first", ())
        if self.hits is not None:
            paths = {one.nodeid: os.path.realpath(str(one.path)) for one in items}
            items.sort(key=lambda one: paths[one.nodeid] not in first)  # a stable sort
            self.hits.paths = paths

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.hits is not None:
            self.hits.tests.append(nodeid)
            self.hits.took_ms.append(0)

    def pytest_runtest_call(self) -> Iterator[None]:
        if self.hits is not None:
            self.hits.calling = True
        yield
        if self.hits is not None:
            self.hits.calling = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        if self.hits is not None:
            self.hits.failed += report.failed
            self.hits.ran += report.when == "call" and not report.skipped
            self.hits.took_ms[-1] += int(report.duration * 1000)

    def pytest_collectreport(self, report: Any) -> None:
        if self.hits is not None:
            self.hits.failed += report.failed

    def pytest_runtest_logfinish(self) -> None:
        if self.hits is not None and time.time() > self.order["until"]:
            raise KeyboardInterrupt  # enough is known; what has run is what mutants are run against

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """The verdict is known: what follows in pytest is for people who read it."""
        if self.hits is not None:
            self.hits.write(self.order["report"])
        os._exit(int(exitstatus))


def run(arguments: list[str], orders: int, answers: int) -> None:
    """Becomes pytest. Never returns."""
    import pytest  # noqa: PLC0415 - the tested repository's own, which nobody else here may need

    dumpable(yes=False)
    for name in ("pytest_load_initial_conftests", "pytest_runtest_call"):
        hook = getattr(Session, name)
        setattr(Session, name, pytest.hookimpl(hookwrapper=True, tryfirst=True)(hook))
    for name in ("pytest_collection_modifyitems", "pytest_sessionfinish"):
        setattr(Session, name, pytest.hookimpl(trylast=True)(getattr(Session, name)))
    session = Session(orders, answers)
    code = int(pytest.main([*arguments, "--assert=plain"], plugins=[session]))
    if not session.child:
        session.say(failed=code)  # it ended before its plugins were loaded
    sys.stdout.flush()
    os._exit(code)
