"""The mutator: what it breaks in a line, what it leaves alone, and how it draws a sample."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

from controller import mutants
from controller.facts.languages import is_test
from controller.mutants.edits import Source
from controller.mutants.find import mutants_of
from controller.mutants.lines import changed_files, changed_lines, is_source
from controller.mutants.sample import CONTROL, compiles, controls_of, mixed, sampled

CONTROLLER = Path(__file__).resolve().parents[2] / "controller"


def broken(text: str, *lines: int) -> list[tuple[str, str]]:
    """(operator, the line as it becomes) of every mutant; without `lines`, of the whole text."""
    source = Source("m.py", text.encode())
    wanted = lines or range(1, text.count("\n") + 2)
    found = mutants_of(source, wanted)
    assert all(compiles(source, one) for one in found)
    after = [one.edit.apply(source.data).decode().splitlines()[one.line - 1].strip() for one in found]
    return [(one.operator, line) for one, line in zip(found, after, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = a < b", {("compare/boundary", "y = a <= b"), ("compare/swap", "y = a >= b")}),
        ("y = (a) == (b)", {("compare/swap", "y = (a) != (b)")}),
        ("y = a not in b", {("compare/swap", "y = a in b")}),
        ("y = a is not b", {("compare/swap", "y = a is b")}),
        ("y = a < b < c", {("compare/boundary", "y = a < b <= c"), ("compare/swap", "y = a >= b < c")}),
        ("y = a + b", {("arithmetic/swap", "y = a - b")}),
        ("y = a // b", {("arithmetic/swap", "y = a * b")}),
        ("y = a and b or c", {("boolean/swap", "y = a or b or c"), ("boolean/swap", "y = a and b and c")}),
        ("y = not a", {("boolean/not", "y =  a")}),
        ("y = -a", {("arithmetic/sign", "y = a")}),
        ("y = 0", {("constant/off-by-one", "y = 1")}),
        ("y = True", {("constant/boolean", "y = False")}),
        ("y = 'grün'", {("constant/emptied", 'y = ""')}),
        ("total += price", {("arithmetic/swap", "total -= price"), ("statement/assignment-deleted", "pass")}),
        ("self.x = a", {("statement/assignment-deleted", "pass")}),
        ("send(a)", {("statement/call-deleted", "pass")}),
        (
            "y = 1 if a else b",
            {("condition/true", "y = 1 if True else b"), ("condition/false", "y = 1 if False else b")},
        ),
        ("y = [x for x in a if x]", {("condition/true", "y = [x for x in a if True]")}),
    ],
)
def test_each_kind_of_line_is_broken_in_its_own_way(text: str, expected: set[tuple[str, str]]) -> None:
    assert expected <= set(broken(text))


def test_returns_raises_loops_and_defaults_are_broken() -> None:
    text = "def f(a, most=3):\n    for x in a:\n        if x > most:\n            break\n        continue\n"
    text += "    if not a:\n        raise ValueError('none')\n    return a\n"
    found = set(broken(text))
    assert {
        ("constant/off-by-one", "def f(a, most=4):"),
        ("loop/continue", "continue"),
        ("loop/break", "break"),
        ("raise/removed", "pass"),
        ("return/none", "return None"),
        ("condition/false", "if False:"),
    } <= found
    assert ("constant/emptied", 'raise ValueError("")') not in found


@pytest.mark.parametrize(
    "text",
    [
        '"""A docstring."""',
        "def f(a: Literal['x'] = None) -> Literal['y']:\n    '''Doc.'''",
        "def f():\n    logger.warning('lost %s', 3)",
        "class A:\n    def __repr__(self):\n        return 'A' + self.x",
        "if TYPE_CHECKING:\n    x = 3",
        "if __name__ == '__main__':\n    main(3)",
        "__all__ = ['a', 'b']",
        "@dataclass(frozen=True)\nclass A:\n    x: int",
        "def f():\n    raise NotImplementedError('later')",
        "import os",
        "assert 3 > 2, 'no'",
        "y = f'{a + 1} of'",
        "y = option(help='words')",
    ],
)
def test_what_no_test_should_notice_is_left_alone(text: str) -> None:
    assert broken(text) == []


def test_only_changed_lines_are_broken_and_the_others_keep_their_place() -> None:
    text = "a = 1\nb = call(\n    2,\n    3,\n)\nc = 4\n"
    assert broken(text, 4) == [("constant/off-by-one", "4,")]
    source = Source("m.py", b"x = 0\ndel_(\n    1,\n)\ny = 5\n")
    deleted = next(one for one in mutants_of(source, [2]) if one.operator == "statement/call-deleted")
    assert deleted.edit.apply(source.data) == b"x = 0\npass\n\n\ny = 5\n"


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfy = a < 3\r\nz = 'ae' == b\r\n", "é = a < 3\nz = 'ä' == b\n".encode()])
def test_marks_line_ends_and_letters_of_any_kind_move_no_edit(data: bytes) -> None:
    source = Source("m.py", data)
    found = mutants_of(source, [1, 2])
    assert {one.operator for one in found} >= {"compare/boundary", "constant/emptied"}
    assert all(compiles(source, one) for one in found)


def test_every_mutant_of_this_project_compiles_and_differs() -> None:
    draw = random.Random(7)
    for path in draw.sample(sorted(CONTROLLER.rglob("*.py")), 12):
        source = Source(path.name, path.read_bytes())
        found = mutants_of(source, range(1, len(source.starts)))
        for one in draw.sample(found, min(10, len(found))):
            assert compiles(source, one), (path, one)
            assert one.edit.apply(source.data) != source.data
        for one in controls_of(source, set(range(1, len(source.starts))), draw)[:5]:
            assert compiles(source, one), (path, one)


def test_control_differs_in_text_and_syntax_and_means_the_same() -> None:
    data = b"def f(a, b):\n    a, b = b, a\n    if a > b:\n        return a + b, a\n    return b, a\n"
    source, draw = Source("m.py", data), random.Random(1)
    found = controls_of(source, {2, 3, 4, 5}, draw)
    assert len(found) >= 12
    for one in found[:-2]:
        after = one.edit.apply(data)
        assert one.operator == CONTROL
        assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(data))
        names: dict[str, object] = {}
        exec(after, names)  # noqa: S102
        assert [names["f"](a, b) for a, b in ((1, 2), (2, 1), (2, 2))] == [(3, 2), (2, 1), (2, 2)]  # type: ignore[operator]


def test_sample_is_the_same_for_the_same_seed_and_every_function_has_its_turn() -> None:
    text = "".join(f"def f{n}(a):\n" + "    a.x = 1\n" * (60 if n == 0 else 2) for n in range(5))
    found = mutants_of(Source("m.py", text.encode()), range(1, 500))
    first, again = (sampled(found, 20, random.Random(3)) for _ in range(2))
    assert first == again
    assert first != sampled(found, 20, random.Random(4))
    shares = [sum(one.function == f"f{n}" for one in first) for n in range(5)]
    assert (sum(shares), max(shares)) == (20, 4)


def test_a_control_stands_among_the_first_runs_and_nothing_is_lost() -> None:
    text = "def f(a):\n" + "    a.x = g(a)\n" * 60
    source = Source("m.py", text.encode())
    found = mutants_of(source, range(1, 500))[:40]
    controls = controls_of(source, set(range(2, 60)), random.Random(2))[:2]
    for seed in range(50):
        runs = mixed(found, controls, random.Random(seed))
        places = [number for number, one in enumerate(runs) if one.operator == CONTROL]
        assert places[0] <= 6
        assert [one for one in runs if one.operator != CONTROL] == found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("shop/cart.py", True),
        ("cart.py", True),
        ("tests/cart.py", False),
        ("shop/test_cart.py", False),
        ("shop/cart_test.py", False),
        ("conftest.py", False),
        ("cart.js", False),
        ("contest/latest.py", True),
        ("test.py", False),
        ("shop/tests.py", False),
        ("e2e/pages.py", False),
        ("Tests/cart.py", False),
    ],
)
def test_tests_are_told_from_what_they_test(path: str, source: bool) -> None:
    """What the colour counts as a test is never broken itself: its own assertions would be the survivors."""
    assert is_source(path) is source
    if path.endswith(".py") and path != "conftest.py":
        assert is_test(path) is not source


def test_changed_lines_are_those_of_the_new_text() -> None:
    assert changed_lines(b"a\nb\nc\n", b"a\nB\nc\nd\n") == {2, 4}
    assert changed_lines(b"a\nb\n", b"b\n") == set()
    assert changed_lines(b"", b"a\nb\n") == {1, 2}


def test_links_and_large_files_are_not_read(tmp_path: Path) -> None:
    head, base = tmp_path / "head", tmp_path / "base"
    for tree in (head, base):
        (tree / "shop").mkdir(parents=True)
    (head / "shop" / "a.py").write_text("x = 1\n")
    (tmp_path / "secret.py").write_text("x = 1\n")
    (head / "shop" / "link.py").symlink_to(tmp_path / "secret.py")
    (head / "shop" / "large.py").write_text("x = 1\n" * 400_000)
    assert changed_files(str(head), str(base)) == {"shop/a.py": {1}}


def test_mutator_runs_where_nothing_of_ours_is_installed() -> None:
    """It is copied beside other people's trees: the standard library and itself are all that it may import."""
    folder = Path(mutants.__file__).parent
    code = f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import mutants.serve; print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "'mutants.session'" in ran.stdout
    assert not any(name in ran.stdout for name in ("'pytest'", "'pydantic'", "'controller"))
