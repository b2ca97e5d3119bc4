"""The door of the plain rung: a stand-alone script that starts the command unshut, and sees to it that nothing is left.

It runs as `python -I -S sandbox_watch.py`, told as `sandbox_enter` is. Whatever ends first (the command, the caller's
lifeline, SIGTERM), every descendant is ended. SIGUSR1 only asks the command to end.
"""

# ruff: noqa: PTH103, PTH120, PLC0415, E402

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))

enter: Any = importlib.import_module("sandbox_enter")  # from the folder, not from the package: see there
sys.path.pop(0)  # no neighbour is taken for a module of the standard library
CALLER_ENDED = 128 + 15
PR_SET_SUBREAPER = 36
SIGTERM, SIGUSR1 = 15, 30 if sys.platform == "darwin" else 10


def watch_over(plan: dict[str, Any], lifeline: int) -> None:
    """The plain way: whatever ends first (the command, the caller's `lifeline`, SIGTERM), nothing is left over."""
    import select
    import signal

    if sys.platform == "linux":
        enter.Kernel().prctl(PR_SET_SUBREAPER, 1)  # descendants that detach themselves become ours
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    command = os.fork()
    if command == 0:
        os.setsid()
        enter.limit(plan["rlimits"])
        enter.become(plan)
    code = await_end(select.poll(), command, lifeline, woken)
    if code == CALLER_ENDED:
        import shutil

        shutil.rmtree(plan["home"], ignore_errors=True)  # the caller would have done it
    os._exit(code)


def await_end(poll: Any, command: int, lifeline: int, woken: int) -> int:
    poll.register(lifeline)
    poll.register(woken)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        ended, status = os.waitpid(command, os.WNOHANG)
        if ended:
            end_all(command)
            return int(enter.exit_code(status))
        signals = os.read(woken, 64) if woken in ready else b""
        if SIGUSR1 in signals:
            ask_to_end(command)
        if lifeline in ready or SIGTERM in signals:
            end_all(command)
            return CALLER_ENDED


def ask_to_end(group: int) -> None:
    try:
        os.killpg(group, SIGTERM)
    except (ProcessLookupError, PermissionError):  # as in `kill`
        return


def end_all(group: int) -> None:
    """Kill the command's group, and on Linux whatever has been handed to us since, until nobody is left."""
    while True:
        kill(-group)
        for child in enter.children_of(os.getpid()):
            kill(child)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill(pid: int) -> None:
    try:
        os.kill(pid, enter.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone already; on macOS a group of zombies says EPERM
        return


if __name__ == "__main__":
    watch_over(*enter.told())
