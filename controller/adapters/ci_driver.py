"""The parent of the tests: it orders them, hears each answer, and alone writes to CI's pipe.

    python drive.py PLAN.json        inside the sandbox, under the tested repository's own interpreter

It starts before anything of the tree can be imported: without PYTHONPATH, from a folder of ours, with pytest taken
from the interpreter's environment. Then it puts itself out of reach of processes of its own uid (not dumpable: no
ptrace, no /proc/PID/mem, no /proc/PID/fd) and forks one process for each session of tests. It keeps the pipe to CI;
the child has a socket to it and a secret of its own. What an honest session would not say at this place (a test that
was not ordered, two answers for one, a line without the secret) is forged, and ends the session (`ci_answers`). At
random places it orders a tripwire, a test that must fail (`ci_pytest_plugin`). When a session ends, all that it left
running is killed, and before the next the tree is laid out anew from a copy that no test can write (`ci_grounds`).

A session whose tests have all passed may be followed by one in the same process, which finds the code imported: the
head's own test modules behind the base's tests. By then the first one's answers are here, and nothing of the second
lies in the tree before. If the second does not pass there, it is not heard of, and has a process of its own as ever.

It believes itself, the exit status that the kernel tells it, and nothing else.
"""

# ruff: noqa: PTH100, PTH101, PTH103, PTH106, PTH107, PTH108, PTH109, PTH110, PTH112, PTH114, PTH116, PTH118, PTH119, PTH120, PTH122, PTH123, PTH206, PTH208, PLC0415, T201
# It starts before every run of tests, under any interpreter: it does without pathlib, and imports late what must be.

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import linecache
import os
import signal
import socket
import sys
import time
import types
from typing import Any

from controller.adapters.ci_answers import Results, Session, attend
from controller.adapters.ci_grounds import (
    clear_home,
    end_all,
    exit_code,
    lay_out,
    protect,
    replace,
    without_bytecode,
)
from controller.adapters.ci_pytest_plugin import Reporter, Wanted
from controller.adapters.ci_watch import Watch

RESULTS_FD = "FLYBALL_RESULTS_FD"
LISTING_S = 60.0  # for tests that are only listed


def run_session(results: Results, plan: dict[str, Any], wanted: dict[str, Any], until: float) -> bool:
    """One session of tests, to its certain end. Returns in the parent only; the child leaves by SystemExit.

    True: the one that follows it has run in the same process, and passed or is not to be repeated.
    """
    ours, theirs = socket.socketpair()
    secret = os.urandom(16).hex()
    results.say("session", name=wanted["name"])
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(results.pipe)
        ours.close()
        become_tests(plan, wanted, theirs, secret, results.skipped)
    theirs.close()
    session = Session(results, ours, secret, wanted["then"]["name"] if wanted["then"] else "")
    try:
        why = attend(session, child, until)
    except BrokenPipeError:
        why = ""  # the child is gone; its exit status says how
    if why:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    ours.close()
    left = not end_all()
    if session.followed:
        kept = bool(why) or left or (session.passed and status == 0)
        results.settle(keep=kept)
        if not kept:
            return False  # perhaps for what the first session has left: it has a process and a tree of its own then
    if why and why != "time":
        results.say("forged", why=why[:500], wires=session.wires)
    results.say("ended", code=exit_code(status), timed_out=why == "time", left=left)
    return session.followed


def become_tests(
    plan: dict[str, Any], wanted: dict[str, Any], channel: socket.socket, secret: str, skipped: list[str]
) -> None:
    """In the child: as near to `python -m pytest` as a fork comes. Never returns.

    Where the base's tests are only listed, those that the head has `skipped` run too: were they skipped there?
    """
    protect(dumpable=True)  # tests may look at themselves
    os.setpgid(0, 0)  # and end their own group
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.getcwd()
    sys.path[:] = [*first_on_path(plan, root), *(path for path in sys.path if os.path.abspath(path or ".") != here)]
    os.environ.update(plan["environment"])
    if plan["python_path"] or has_src(root):
        found = [*plan["python_path"], *([os.path.join(root, "src")] if has_src(root) else [])]
        os.environ["PYTHONPATH"] = os.pathsep.join(found)
    import pytest

    pretend_to_be(pytest)
    for name in [name for name in sys.modules if name.partition(".")[0] == "controller"]:
        del sys.modules[name]  # the tree may have one of its own
    watch = Watch(root, plan["watched"]) if wanted["watch"] else None
    if watch is not None:
        watch.install()
    orders = Wanted(wanted["only"], skipped if wanted["listing"] else None, past_errors=wanted["past_errors"])
    sys.argv[1:] = plan["args"]
    reporter = Reporter(channel, secret, root, orders, watch)
    code = int(pytest.main(plan["args"], plugins=[reporter]))
    then = wanted["then"]
    if then is not None and code == 0:
        try:
            take_over(then["tree"], root, then["tests"])
        except OSError:
            sys.exit(code)  # something else stands in their place: it is for a session with a tree of its own
        print(f"\n--- {then['title']} ---\n")
        reporter.say("next")
        following = Reporter(channel, secret, root, Wanted(then["only"], None), watch)
        code = int(pytest.main(plan["args"], plugins=[following]))
    sys.exit(code)


def take_over(source: str, root: str, tests: list[str]) -> None:
    """The next session's tests take the place of those that have run; what they tested stays imported."""
    replace(source, root, tests)
    files = {os.path.realpath(os.path.join(root, one)) for one in tests}
    for name, module in list(sys.modules.items()):
        if os.path.realpath(getattr(module, "__file__", None) or os.devnull) in files:
            del sys.modules[name]
    linecache.clearcache()
    importlib.invalidate_caches()
    gc.freeze()  # pytest looks for unraisable errors by collecting five times: among what is new, and no more


def first_on_path(plan: dict[str, Any], root: str) -> list[str]:
    """The tree's own code comes before any installed copy of it."""
    src = [os.path.join(root, "src")] if has_src(root) else []
    return [*src, root, *(os.path.abspath(path) for path in plan["python_path"])]


def has_src(root: str) -> bool:
    """A `src` layout: packages or modules in `src`, which is no package itself."""
    src = os.path.join(root, "src")
    if not os.path.isdir(src) or os.path.exists(os.path.join(src, "__init__.py")):
        return False
    with os.scandir(src) as entries:
        return any(
            entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py")) for entry in entries
        )


def pretend_to_be(pytest: Any) -> None:
    """`__main__` is pytest's, for whoever starts processes from it."""
    main = types.ModuleType("__main__")
    main.__spec__ = importlib.util.find_spec("pytest.__main__")
    main.__file__ = main.__spec__.origin if main.__spec__ else None
    sys.modules["__main__"] = main
    sys.argv[0] = str(main.__file__ or pytest.__file__)


def warm_up() -> None:
    """What every session of pytest imports is imported once, before the first of them is forked."""
    from _pytest.config import default_plugins

    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")


def main() -> None:
    results = Results(int(os.environ.pop(RESULTS_FD)))
    os.set_inheritable(results.pipe, False)
    with open(sys.argv.pop(1), encoding="utf-8") as file:
        plan = json.load(file)
    try:
        import pytest
    except ImportError as wrong:
        print(f"No module named pytest ({wrong})")
        return
    del pytest
    warm_up()
    protect(dumpable=False)
    gc.freeze()
    until = time.monotonic() + plan["wall_s"]
    followed = False
    for number, wanted in enumerate(plan["sessions"]):
        if followed:
            followed = False
            continue  # it has run behind the one before it
        if number or wanted["tree"]:
            for said in clear_home():
                results.say("note", text=said)
        if wanted["tree"]:
            lay_out(wanted["tree"], os.getcwd())
        without_bytecode(os.getcwd())
        if wanted["title"]:
            print(f"\n--- {wanted['title']} ---\n")
        limit = min(until, time.monotonic() + LISTING_S) if wanted["listing"] else until
        followed = run_session(results, plan, wanted, limit)
        sys.stdout.flush()
    results.say("driver", ok=True)


if __name__ == "__main__":
    main()
