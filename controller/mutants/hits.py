"""Which tests ran which lines of the changed files, seen from inside the session of tests."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

OPTIMIZED = 0x1  # CO_OPTIMIZED: a function; without it the code of a module or of a class, which runs once


class Hits:
    """Traces `files` (real paths to names) by `sys.settrace`; whoever sets another trace ends the measuring."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.known: dict[CodeType, str | None] = {}
        self.tests: list[str] = []
        self.took_ms: list[int] = []
        self.lines: dict[tuple[str, int], set[int]] = {}
        self.shared: set[tuple[str, int]] = set()  # run while importing or in a fixture: any test may rest on it
        self.calling = False  # a test's own body runs
        self.paths: dict[str, str] = {}  # of every collected test, its file
        self.failed = 0
        self.ran = 0

    def begin(self) -> None:
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        del event, arg
        name = self._name(frame.f_code)
        if name is None:
            return None
        imported = not frame.f_code.co_flags & OPTIMIZED

        def line(frame: FrameType, event: str, arg: Any) -> Any:
            del arg
            if event == "line":
                self._hit((name, frame.f_lineno), imported)
            return line

        return line

    def _name(self, code: CodeType) -> str | None:
        if code not in self.known:
            self.known[code] = self.files.get(os.path.realpath(code.co_filename))
        return self.known[code]

    def _hit(self, place: tuple[str, int], imported: bool) -> None:
        if imported or not self.calling:
            self.shared.add(place)
        if self.tests:
            self.lines.setdefault(place, set()).add(len(self.tests) - 1)

    def write(self, path: str) -> None:
        sys.settrace(None)
        threading.settrace(None)
        found: dict[str, Any] = {"tests": self.tests, "took_ms": self.took_ms, "failed": self.failed, "ran": self.ran}
        found["lines"] = [[path_, line, sorted(tests)] for (path_, line), tests in self.lines.items()]
        found["files"] = [self.paths.get(test, "") for test in self.tests]
        found["shared"] = sorted(self.shared)
        found["modules"] = self._foreign()
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found, file)

    def _foreign(self) -> list[str]:
        """What was imported and does not lie in the tree: it may be imported before the tests are.

        In the order of the imports: `asyncio` before `_asyncio`, or a package is left with half of its functions.
        """
        tree = os.path.realpath(os.getcwd()) + os.sep
        modules = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
        return [name for name, file in modules if file and not os.path.realpath(file).startswith(tree)]
