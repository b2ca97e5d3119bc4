"""What two trees have in common, and what the sessions of one run come to: read by hand, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.adapters.ci_compare import Compared, changed_statements, compare, differing, put_tests_of
from controller.adapters.ci_results import Results, RunState, TestLine
from controller.adapters.ci_verdict import BASES_TESTS, HEAD, LISTED, Asked, Collected, judge
from controller.domain.change import BaseVerdict, Executed

HAS, NEW = "test_a.py::test_one", "test_b.py::test_two"


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    base, head = tmp_path / "base", tmp_path / "head"
    for tree in (base, head):
        tree.mkdir()
        (tree / "shop.py").write_text("PRICE = 1\n")
    return base, head


def test_a_file_that_becomes_a_program_or_a_link_that_turns_elsewhere_differs(trees: tuple[Path, Path]) -> None:
    base, head = trees
    (head / "shop.py").chmod(0o755)
    for tree, leads_to in ((base, "one"), (head, "two")):
        (tree / "folder").mkdir()
        (tree / "link").symlink_to(leads_to)
        (tree / "data").symlink_to("folder" if tree is head else "link")
    assert differing(base, head) == ["data", "link", "shop.py"]


def test_a_link_to_a_folder_of_tests_is_a_file_of_the_tree(trees: tuple[Path, Path]) -> None:
    base, head = trees
    (head / "tests").mkdir()
    (head / "more").symlink_to("tests")
    assert differing(base, head) == ["more"]


def test_the_bases_tests_are_never_put_through_a_link_of_the_head(trees: tuple[Path, Path]) -> None:
    base, head = trees
    (base / "tests").mkdir()
    (base / "tests/test_a.py").write_text("base")
    (head / "src").mkdir()
    (head / "tests").symlink_to("src")
    put_tests_of(base, head, ("tests/test_a.py",))
    assert (head / "tests/test_a.py").read_text() == "base"
    assert not (head / "tests").is_symlink()
    assert list((head / "src").iterdir()) == []


def test_a_test_that_the_base_does_not_have_is_gone(trees: tuple[Path, Path]) -> None:
    base, head = trees
    (head / "test_new.py").write_text("def test_new():\n    pass\n")
    put_tests_of(base, head, compare(base, head).tests)
    assert not (head / "test_new.py").exists()


def test_a_changed_line_inside_a_function_is_a_statement_of_its_own(tmp_path: Path) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text("def price(n):\n    if n:\n        return 1\n    return 2\n")
    after.write_text("def price(n):\n    if n:\n        return 3\n    return 2\n# end\n")
    assert changed_statements(before, after) == [3]


def results(*sessions: str, ok: bool = True, left: bool = False) -> Results:
    """Each session has run one test that passed, the head's its own, and its tripwire failed as it must."""
    found = Results()
    for name in sessions:
        found.begin(name)
        test = NEW if name == HEAD and len(sessions) > 1 else HAS
        now = found.now
        now.listed, now.tests, now.ordered = [test], [TestLine(test, True, 1)], 1
        now.finished = now.exit_code = 0
        now.wires_failed, now.left = 1, left and name == BASES_TESTS
    found.whole = ok
    return found


BOTH = Asked("3.11", Compared(tests=("test_b.py",)), known=Collected((HAS,)))


def test_a_run_of_both_that_came_to_its_end_passes_with_all_of_its_facts() -> None:
    found = judge(BOTH, results(BASES_TESTS, HEAD))
    assert found.verdict.state is RunState.PASSED
    facts = found.facts
    assert (facts.base_verdict, facts.tripwire, facts.ran, len(facts.added)) == (BaseVerdict.PASSED, True, 2, 1)


def test_a_run_whose_orderer_did_not_come_to_its_end_passes_nothing() -> None:
    assert judge(BOTH, results(BASES_TESTS, HEAD, ok=False)).verdict.state is RunState.BROKEN


def test_processes_that_the_bases_tests_left_break_the_verdict() -> None:
    assert judge(BOTH, results(BASES_TESTS, HEAD, left=True)).verdict.state is RunState.BROKEN


def test_a_session_without_a_tripwire_leaves_the_whole_run_without_proof() -> None:
    run = results(BASES_TESTS, HEAD)
    run.sessions[0].wires_failed = 0
    assert judge(BOTH, run).facts.tripwire is None


def test_tests_that_were_all_skipped_pass_nothing() -> None:
    run = results(BASES_TESTS, HEAD)
    for one in run.sessions:
        one.tests = [TestLine(line.test, True, 1, skipped=True) for line in one.tests]
    assert judge(BOTH, run).verdict.state is RunState.BROKEN


def test_a_forged_list_of_the_bases_tests_is_no_list() -> None:
    run = results(LISTED, BASES_TESTS, HEAD)
    asked = Asked("3.11", Compared(tests=("test_b.py",)))
    assert judge(asked, run).facts.collected_base == 1
    run.sessions[0].forged = "a result that nobody asked for"
    assert judge(asked, run).facts.collected_base is None


@pytest.mark.parametrize(
    ("compared", "covered", "found"),
    [
        (Compared(watched={"a.py": [1]}), {1}, Executed.PROVEN),
        (Compared(watched={"a.py": [2]}), {1}, Executed.PROVEN),
        (Compared(watched={"a.py": [1]}), set(), Executed.NOT_EXECUTED),
        (Compared(watched={"a.py": []}), set(), Executed.PROVEN),
        (Compared(watched={"a.py": [1]}, unwatched=True), {1}, Executed.NOT_MEASURED),
        (Compared(watched={"a.py": [1]}, unwatched=True), set(), Executed.NOT_EXECUTED),
    ],
)
def test_a_file_that_is_only_imported_is_run_by_no_test(compared: Compared, covered: set[int], found: Executed) -> None:
    run = results(HEAD)
    run.now.imported, run.now.covered = {"a.py"}, {"a.py": covered} if covered else {}
    assert judge(Asked("3.11", compared), run).facts.executed is found


def test_another_copy_of_what_changed_gives_no_verdict() -> None:
    run = results(HEAD)
    run.now.others = {"a.py"}
    assert judge(Asked("3.11", Compared(watched={"a.py": [1]})), run).verdict.state is RunState.BROKEN
