"""The process between, as `serve` sees it: orders go in, exit codes come out, and what hangs is killed."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

from .session import run

MOST_DESCRIPTORS = 4_096
KILL_AFTER_S = 5.0  # for the answer that follows a kill


class EndedError(Exception):
    """The process between has ended or says nothing any more; its words say which."""


class Child:
    """Starts it at once. `early`: pytest had imported something of the tree before any test was looked for.

    `src`: the tree has its packages in there. It and the working directory come first on the path, before any
    installed copy, as in CI's runs: a mutant of a file that is not imported would live whatever the tests say.
    """

    def __init__(self, arguments: list[str], within_s: float, *, src: bool) -> None:
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.rest = b""
        self.pid = os.fork()
        if self.pid == 0:
            self._begin(arguments, orders, answers, src=src)
        os.close(orders)
        os.close(answers)
        said = self._answer(within_s)
        if said is None or "ready" not in said:
            self.close()
            raise EndedError("pytest did not start")
        self.early = bool(said["early"])

    def _begin(self, arguments: list[str], orders: int, answers: int, *, src: bool) -> None:
        try:
            keep_only(orders, answers)
            first_on_path(os.getcwd(), src=src)
            run(arguments, orders, answers)
        except BaseException:  # noqa: BLE001 - the process ends here whatever it was; its words are the run's log
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)

    def preload(self, modules: list[str]) -> None:
        self._order({"modules": modules})

    def tests(self, order: dict[str, Any], within_s: float) -> int | None:
        """The exit code of one run, negative for a signal. None: it was still running, and was killed.

        Raises EndedError.
        """
        self._order(order)
        started = self._answer(within_s + KILL_AFTER_S)
        if started is None or "pid" not in started:
            raise EndedError("no run was started")
        answer = self._answer(within_s)
        if answer is not None:
            _kill(started["pid"])  # what it has left running
            return int(answer["code"])
        _kill(started["pid"])
        if self._answer(KILL_AFTER_S) is None:
            raise EndedError("a run could not be ended")
        return None

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.orders)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _order(self, order: dict[str, Any]) -> None:
        rest = json.dumps(order).encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(self.orders, rest) :]
        except OSError:
            raise EndedError("it takes no more orders") from None

    def _answer(self, within_s: float) -> dict[str, Any] | None:
        """None: nothing came in time. Raises EndedError: nothing will."""
        until = time.monotonic() + within_s
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            read = os.read(self.answers, 65_536)
            if not read:
                raise EndedError("it has ended")
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


def first_on_path(root: str, *, src: bool) -> None:
    """In place of this script's own folder. PYTHONPATH: for the processes that tests start."""
    packages = [os.path.join(root, "src")] if src else []
    sys.path[0:1] = [*packages, root]
    if packages:
        os.environ["PYTHONPATH"] = os.pathsep.join([*packages, *filter(None, [os.environ.get("PYTHONPATH")])])


def keep_only(first: int, second: int) -> None:
    """Besides input and output: no pipe of `serve` is open in a process that runs other people's code."""
    low, high = sorted((first, second))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, MOST_DESCRIPTORS)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
