"""What tests rest on outside their own tests, each beside an honest change that looks like it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found, weakened

from controller.domain.change import Role
from controller.facts.analyse import analysis_of
from controller.facts.owners import Owners
from controller.facts.tree import Analysis, ChangedFile, ChangedTree

HELPER = "def same(a, b):\n    if a != b:\n        raise AssertionError(a)\n\n\ndef half(n):\n    return n / 2\n"
TOOL = "import pytest\n\n\ndef cart():\n    return [1]\n"
WORDS = 'def half(n):\n    """Half.\n\n    >>> half(2)\n    1.0\n    """\n    return n / 2\n'


def of(*files: ChangedFile, task: str = "Make it better", **more: object) -> Analysis:
    return analysis_of(ChangedTree.model_validate({"task": task, "files": files, **more}))


@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        (HELPER, HELPER.replace("raise AssertionError(a)", "return False"), ["helper-changed"]),
        (HELPER, None, ["helper-changed"]),
        (HELPER, HELPER.replace("n / 2", "n // 2"), []),
        (HELPER, "# words\n" + HELPER, []),
        (HELPER, HELPER.replace("def same", "def equal"), ["helper-changed"]),
        (TOOL, TOOL.replace("[1]", "[]"), ["helper-changed"]),
        ("def f(a):\n    assert a == 1\n", "def f(a):\n    return a\n", ["assertion-removed"]),
        ("def f(a):\n    assert a is not None\n", "def f(a):\n    return a\n", []),
        ("def f(a):\n    assert_never(a)\n", "def f(a):\n    return a\n", []),
    ],
)
def test_a_helper_in_the_program_that_asserts_may_not_cease_to(
    before: str, after: str | None, rules: list[str]
) -> None:
    assert weakened(found(changed("shop/checks.py", before, after))) == rules


def test_a_helper_that_the_task_names_is_let_be() -> None:
    file = changed("shop/checks.py", HELPER, HELPER.replace("raise AssertionError(a)", "raise AssertionError((a, b))"))
    assert weakened(found(file, task="Let same() say both values")) == []
    assert weakened(found(file)) == ["helper-changed"]


def test_examples_count_where_they_are_run_and_no_task_states_what_comes_out() -> None:
    file = changed("shop/half.py", WORDS, WORDS.replace("1.0", "1"))
    readme = changed("README.md", "Half:\n\n    >>> half(2)\n    1.0\n", "Half.\n")
    assert weakened(of(file, readme)) == []
    assert weakened(of(file, readme, doctests=True)) == ["example-changed", "example-changed"]
    assert weakened(of(file, doctests=True, task="half(2) returns 1")) == []
    added = changed("shop/half.py", WORDS, WORDS + "\n\ndef third(n):\n    return n / 3\n")
    assert weakened(of(added, doctests=True)) == []


def test_data_that_a_test_names_is_the_tests_wherever_it_lies() -> None:
    file = changed("cases/prices.json", "[1]\n", "[2]\n")
    assert weakened(of(file)) == []
    assert weakened(of(file, compared=("cases/prices.json",))) == ["test-data-changed"]
    assert weakened(of(file, compared=("cases/prices.json",), task="Bring the prices up to date")) == []


def test_a_script_of_the_test_command_says_what_is_tested() -> None:
    analysis = of(changed("check.sh", "make\n", "true\n"), commanded=("check.sh",))
    assert analysis.roles["check.sh"] == (Role.TEST_CONFIG,)


CASE = """
    import unittest

    def load(path):
        return open(path).read()

    class TestA(unittest.TestCase):
        def test_a(self):
            self.assertEqual(load("a"), "a")
    """
JS = "function same(a, b) {\n  expect(a).toBe(b);\n}\n\ntest('a', () => {\n  same(f(), 1);\n});\n"
GO = 'package a\n\nimport "testing"\n\nfunc TestA(t *testing.T) {\n\tif A() != 1 {\n\t\tt.Fatal(1)\n\t}\n}\n'
ENDS = "decides-the-run"


@pytest.mark.parametrize(
    ("path", "before", "after", "rules"),
    [
        ("tests/test_b.py", None, "import os\nos._exit(0)\n", [ENDS]),
        ("tests/test_b.py", None, "import sys\n\ndef test_b():\n    sys.exit(0)\n", [ENDS]),
        ("tests/test_b.py", None, "raise SystemExit\n", [ENDS]),
        ("tests/test_b.py", None, "import sys\nif __name__ == '__main__':\n    sys.exit(1)\n", []),
        (
            "tests/test_b.py",
            None,
            "import sys, pytest\ndef test_b():\n    with pytest.raises(SystemExit):\n        sys.exit(1)\n",
            [],
        ),
        ("tests/__init__.py", "", "def load_tests(loader, tests, pattern):\n    return tests\n", [ENDS]),
        ("tests/base.py", "", "class Base:\n    def run(self, result=None):\n        return result\n", [ENDS]),
        ("test/a.test.js", JS, JS + "process.exit(0);\n", [ENDS]),
        ("test/a.test.js", JS, JS + "process.exitCode = 0;\n", [ENDS]),
        ("a_test.go", GO, GO + "\nfunc TestMain(m *testing.M) {\n\tos.Exit(0)\n}\n", [ENDS]),
        ("b_test.go", None, "package a\n\nfunc init() {\n\tos.Exit(0)\n}\n", [ENDS]),
        ("tests/a.rs", None, "fn init() {\n    std::process::exit(0);\n}\n", [ENDS]),
    ],
)
def test_what_ends_the_run_or_chooses_its_tests_is_seen(
    path: str, before: str | None, after: str, rules: list[str]
) -> None:
    assert weakened(found(changed(path, before, after))) == rules


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("tests/test_a.py", CASE, CASE.replace("return open(path).read()", "return path")),
        ("test/helper.js", "exports.same = (a, b) => check(a, b);\n", "exports.same = (a, b) => a;\n"),
        ("test/a.test.js", JS, JS.replace("expect(a).toBe(b);", "f(a, b);")),
    ],
)
def test_without_a_second_verdict_helpers_of_the_tests_count(path: str, before: str, after: str) -> None:
    assert weakened(of(changed(path, before, after), second_verdict=False)) == ["helper-changed"]
    assert weakened(of(changed(path, before, after))) == []


def test_new_helpers_and_imports_take_nothing_away() -> None:
    more = "import os\nfrom a import b\n" + JS + "\nfunction other() {\n  return 1;\n}\n"
    assert weakened(of(changed("test/a.test.js", JS, more), second_verdict=False)) == []


def test_a_mark_before_the_first_owner_takes_it_from_nobody() -> None:
    assert Owners("\ufeff/pay.py @money\n").of("pay.py") == ("@money",)
