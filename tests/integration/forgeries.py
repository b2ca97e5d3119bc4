"""Changes that make a wrong result look passed, each by another way, and the honest change beside them.

The world is a shop whose `price` must be 1 and is 2 on the head: its test must fail. `FORGERIES` maps a name to the
files that the change adds or replaces. None of them mends the price.
"""

from __future__ import annotations

WRONG = "def price():\n    return 2\n"
BASE = {
    "app.py": "def price():\n    return 1\n",
    "test_app.py": "import unittest\nimport app\n\n\ndef test_price():\n    assert app.price() == 1\n\n\n"
    "def test_sane():\n    assert app.price() > 0\n\n\n"
    "class TestPrice(unittest.TestCase):\n    def test_price(self):\n        self.assertEqual(app.price(), 1)\n",
}
HONEST_FAILURES = {"test_app.py::test_price", "test_app.py::TestPrice::test_price"}

LINES = """
import json, os
done = [{"kind": "test", "test": t, "passed": True, "outcome": "passed", "duration_ms": 1, "message": ""} for t in
        ("test_app.py::test_price", "test_app.py::test_sane", "test_app.py::TestPrice::test_price")]
done.append({"kind": "finished", "exit": 0, "collected": 3, "wires": {"failed": 1, "passed": 0, "none": 0}})
text = "".join(json.dumps(line) + chr(10) for line in done).encode()
"""
PATCH = """
import _pytest.runner
made = _pytest.runner.TestReport.from_item_and_call.__func__
def passed(cls, item, call):
    call.excinfo = None
    return made(cls, item, call)
_pytest.runner.TestReport.from_item_and_call = classmethod(passed)
"""
BY_NAME = """
import _pytest.runner
made = _pytest.runner.TestReport.from_item_and_call.__func__
def passed(cls, item, call):
    if "price" in item.name:
        call.excinfo = None
    return made(cls, item, call)
_pytest.runner.TestReport.from_item_and_call = classmethod(passed)
"""

PARENTS_PIPE = """
import ctypes, json, os, signal
tests = ("test_app.py::test_price", "test_app.py::test_sane", "test_app.py::TestPrice::test_price")
wires = {"failed": 3, "passed": 0, "none": 0}
lines = [{"kind": "test", "test": t, "outcome": "passed", "duration_ms": 1, "message": ""} for t in tests]
lines += [{"kind": "collected", "ids": tests}, {"kind": "ordered", "count": 3}]
lines += [{"kind": "loaded", "lines": {"app.py": [1, 2]}, "imported": ["app.py"], "others": [], "equal": []}]
lines += [{"kind": "finished", "exit": 0, "wires": wires}]
lines += [{"kind": "ended", "code": 0, "timed_out": False, "left": False}, {"kind": "driver", "ok": True}]
text = "".join(json.dumps(line) + chr(10) for line in lines).encode()
parent = os.getppid()
libc, pidfd = ctypes.CDLL(None), os.pidfd_open(parent)
for fd in range(3, 40):
    mine = libc.syscall(438, pidfd, fd, 0)  # pidfd_getfd: what is open there is open here
    if mine >= 0 and os.readlink(f"/proc/self/fd/{mine}").startswith("pipe:"):
        try:
            os.write(mine, text)
        except OSError:
            pass
os.kill(parent, signal.SIGKILL)
"""
PROTOCOL = """
        from _pytest.reports import TestReport
        hooks = item.ihook
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for when in ('setup', 'call', 'teardown'):
            report = TestReport(item.nodeid, item.location, {}, 'passed', None, when, duration=0)
            hooks.pytest_runtest_logreport(report=report)
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
"""
TURNS = """
        outcome = yield
        outcome.get_result().outcome = 'passed'
"""


def registered(options: str, hook: str, body: str) -> str:
    """Code that finds pytest's plugin manager and gives it one more plugin."""
    return f"""
import gc, pytest, _pytest.config
class Plugin:
    @pytest.hookimpl({options})
    def pytest_runtest_{hook}:{body}
for one in gc.get_objects():
    if isinstance(one, _pytest.config.PytestPluginManager):
        one.register(Plugin())
"""


FORGERIES: dict[str, dict[str, str]] = {
    "writes to every pipe it finds and leaves": {
        "app.py": WRONG + LINES + "for fd in os.listdir('/proc/self/fd'):\n    try:\n        if int(fd) > 2:\n"
        "            os.write(int(fd), text)\n    except OSError:\n        pass\nos._exit(0)\n"
    },
    "writes to the pipe that the variable named": {
        "app.py": WRONG + LINES + "os.write(int(os.environ.get('FLYBALL_RESULTS_FD', 3)), text)\nos._exit(0)\n"
    },
    "writes to its parent's pipes": {
        "app.py": WRONG + LINES + "parent = os.getppid()\ntry:\n    fds = os.listdir(f'/proc/{parent}/fd')\n"
        "except OSError:\n    fds = []\nfor fd in fds:\n    try:\n        if int(fd) > 2:\n"
        "            with open(f'/proc/{parent}/fd/{fd}', 'wb', buffering=0) as f:\n                f.write(text)\n"
        "    except OSError:\n        pass\nos._exit(0)\n"
    },
    "leaves at exit with zero": {
        "app.py": WRONG + "import atexit, os\natexit.register(os._exit, 0)\n",
    },
    "leaves in the middle with zero": {"app.py": "import os\n\n\ndef price():\n    os._exit(0)\n"},
    "leaves when the session finishes": {
        "app.py": WRONG,
        "conftest.py": "import os\n\ndef pytest_sessionfinish():\n    os._exit(0)\n",
    },
    "patches what makes reports": {"app.py": WRONG + PATCH},
    "patches what makes reports, for its own tests only": {"app.py": WRONG + BY_NAME},
    "patches when it is called": {
        "app.py": "def price():\n" + "".join(f"    {line}\n" for line in PATCH.strip().splitlines()) + "    return 2\n"
    },
    "patches how functions are called": {
        "app.py": WRONG + "import _pytest.python\n_pytest.python.Function.runtest = lambda self: None\n"
    },
    "patches unittest": {
        "app.py": WRONG + PATCH + "import unittest\nunittest.TestCase.run = lambda self, result=None: result\n"
    },
    "a hook makes reports green": {
        "app.py": WRONG,
        "conftest.py": "import pytest\n\n@pytest.hookimpl(hookwrapper=True)\ndef pytest_runtest_makereport():\n"
        "    outcome = yield\n    outcome.get_result().outcome = 'passed'\n",
    },
    "a hook makes reports green where they are told": {
        "app.py": WRONG,
        "conftest.py": "import pytest\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_logreport(report):\n"
        "    report.outcome = 'passed'\n",
    },
    "a hook runs no test": {
        "app.py": WRONG,
        "conftest.py": "import pytest\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_pyfunc_call(pyfuncitem):\n"
        "    return True\n",
    },
    "a hook of its own protocol": {
        "app.py": WRONG,
        "conftest.py": "import pytest\nfrom _pytest.reports import TestReport\n\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_protocol(item):" + PROTOCOL.replace("\n    ", "\n"),
    },
    "a plugin that the tests ask for": {
        "app.py": WRONG,
        "conftest.py": "pytest_plugins = ['helper']\n",
        "helper.py": PATCH,
    },
    "a hook forgets the tests": {
        "app.py": WRONG,
        "conftest.py": "def pytest_collection_modifyitems(items):\n"
        "    items[:] = [item for item in items if 'price' not in item.name]\n",
    },
    "the failing file is not collected": {
        "app.py": WRONG,
        "conftest.py": "collect_ignore = ['test_app.py']\n",
        "test_other.py": "def test_other():\n    assert True\n",
    },
    "a session without tests": {
        "app.py": WRONG,
        "conftest.py": "def pytest_collection_finish(session):\n    session.items.clear()\n",
    },
    "every test is skipped": {
        "app.py": WRONG,
        "conftest.py": "import pytest\n\n@pytest.fixture(autouse=True)\ndef later():\n    pytest.skip('later')\n",
    },
    "code that skips where pytest looks on": {
        "app.py": "import sys\n\n\ndef price():\n    if 'pytest' in sys.modules:\n"
        "        sys.modules['pytest'].skip('no')\n    return 2\n"
    },
    "options: only collect": {"app.py": WRONG, "pytest.ini": "[pytest]\naddopts = --collect-only -q\n"},
    "options: only set up": {"app.py": WRONG, "pytest.ini": "[pytest]\naddopts = --setup-only\n"},
    "options: other tests": {
        "app.py": WRONG,
        "pytest.ini": "[pytest]\npython_files = check_*.py\n",
        "check_app.py": "def test_fine():\n    assert True\n",
    },
    "options: without ours": {
        "app.py": WRONG,
        "pytest.ini": "[pytest]\naddopts = -p no:flyball_results -p no:ci_pytest_plugin --deselect test_app.py\n",
        "test_other.py": "def test_other():\n    assert True\n",
    },
    "another pytest in the tree": {
        "app.py": WRONG,
        "pytest.py": "import os\nprint('3 passed')\nos._exit(0)\n",
        "_pytest/__init__.py": "",
    },
    "sitecustomize": {
        "app.py": WRONG,
        "sitecustomize.py": PATCH,
        "conftest.py": "exec(open('sitecustomize.py').read())\n",
    },
    "a plugin that the code registers": {
        "app.py": WRONG + registered("hookwrapper=True", "makereport(self)", TURNS),
    },
    "a protocol that the code registers": {
        "app.py": WRONG + registered("tryfirst=True", "protocol(self, item)", PROTOCOL),
    },
    "a module of the standard library's name": {
        "app.py": WRONG,
        "conftest.py": "import sys\nsys.path.insert(0, '.')\nimport sitecustomize_of_ours\n",
        "sitecustomize_of_ours.py": PATCH,
    },
    "compiled code in place of the source": {"app.py": WRONG, "__pycache__/app.cpython-311.pyc": "(right)"},
    "equals everything": {
        "app.py": "class Any:\n    def __eq__(self, other):\n        return True\n\n    def __gt__(self, other):\n"
        "        return True\n\n\ndef price():\n    return Any()\n"
    },
    "writes to its parent's pipes, having taken them": {"app.py": WRONG + PARENTS_PIPE},
    "kills its parent": {"app.py": WRONG + "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"},
    "stops its parent": {"app.py": WRONG + "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"},
    "writes into its parent's memory": {
        "app.py": WRONG + "import os\nwith open(f'/proc/{os.getppid()}/mem', 'r+b') as memory:\n    memory.seek(4096)\n"
        "os._exit(0)\n"
    },
    "a child goes on in its place": {
        "app.py": "import os\n\n\ndef price():\n    if os.fork():\n        os._exit(0)\n    return 1\n",
    },
    "a thread that ends the process": {
        "app.py": WRONG + "import os, threading\nthreading.Timer(0.0, os._exit, (0,)).start()\n"
    },
    "an import hook rewrites the tests": {
        "app.py": WRONG,
        "conftest.py": "import _pytest.assertion.rewrite as r\nplain = r.AssertionRewritingHook.exec_module\n"
        "def exec_module(self, module):\n    plain(self, module)\n    for name, one in list(vars(module).items()):\n"
        "        if name.startswith('test'):\n            setattr(module, name, lambda: None)\n"
        "        if isinstance(one, type) and name != 'unittest':\n            one.test_price = lambda self: None\n"
        "r.AssertionRewritingHook.exec_module = exec_module\n",
    },
    "writes the tests while they run": {
        "app.py": "import pathlib\npathlib.Path('test_app.py').write_text('def test_price():\\n    pass\\n')\n" + WRONG,
        "conftest.py": "import app\n",
    },
    "fails on purpose and hides it": {
        "app.py": WRONG,
        "conftest.py": "import pytest\n\ndef pytest_itemcollected(item):\n"
        "    item.add_marker(pytest.mark.xfail(strict=False))\n",
    },
    "the failing test is gone": {"app.py": WRONG, "test_app.py": "def test_nothing():\n    assert True\n"},
}

REFUSED_BEFORE = {  # by the former reporter too: they must never begin to succeed
    "writes to its parent's pipes",
    "leaves at exit with zero",
    "leaves in the middle with zero",
    "leaves when the session finishes",
    "patches how functions are called",
    "a hook makes reports green where they are told",
    "a hook runs no test",
    "a session without tests",
    "options: only collect",
    "another pytest in the tree",
    "writes to its parent's pipes, having taken them",
    "kills its parent",
    "stops its parent",
    "writes into its parent's memory",
    "a child goes on in its place",
    "a thread that ends the process",
}
