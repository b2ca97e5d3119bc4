"""The stage that asks whether tests notice: what it changes, what it leaves alone, and that it tells the truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mutation_accepted import Key, accepted, stale
from mutation_run import files_of, report, sampled
from mutation_sites import Mutant, mutants_of
from mutation_tests import covering
from mutation_trial import End, Nursery, Trial, tried

ROOT = Path(__file__).resolve().parents[2]
CODE = '''"""A guard."""

MOST = 3


def may(count: int, held: bool) -> bool:
    """Words: 3 < 4."""
    if held and count > 0:
        return False
    return count <= MOST


def say(reason: str) -> str:
    return reason[:600] + "x" if len(reason) > 2 else reason


def never(value: int | None) -> int:
    if value is None:
        raise TypeError(value)
    return -value


class Sum:
    def of(self, one: int, two: int) -> int:
        return one + two
'''
TEST = """from guard import may

def test_it_may_up_to_the_bound():
    assert may(3, False) and not may(4, False)
    assert may(0, True)

def test_slow_and_useless():
    may(1, True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "guard.py").write_text(CODE)
    (tmp_path / "test_guard.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return tmp_path


def changes(project: Path) -> set[tuple[str, str]]:
    return {(one.was, one.becomes) for one in mutants_of(project / "guard.py", project)}


def test_a_bound_a_guard_a_condition_an_answer_and_a_constant_are_changed(project: Path) -> None:
    assert {
        ("MOST = 3", "MOST = 4"),
        ("if held and count > 0:", "if ((held and count > 0) and False):"),
        ("if held and count > 0:", "if (count > 0):"),
        ("if held and count > 0:", "if (held):"),
        ("if held and count > 0:", "if held and (count >= 0):"),
        ("return False", "return True"),
        ("return count <= MOST", "return (count < MOST)"),
        ("return count <= MOST", "return True"),
    } <= changes(project)


def test_words_and_what_cannot_happen_are_left_alone(project: Path) -> None:
    assert not any(
        "reason" in was or "raise" in was or "is None" in was or "Words" in was for was, _ in changes(project)
    )


def test_every_mutant_of_the_project_is_python_and_another_than_it_was() -> None:
    for file in files_of(["controller/queue/*.py", "controller/gate.py", "rbac/decide.py"]):
        source = (ROOT / file).read_bytes()
        for mutant in mutants_of(ROOT / file, ROOT):
            changed = mutant.source(source)
            assert changed != source
            compile(changed, file, "exec")


def test_a_mutant_is_known_by_what_it_says_and_not_by_where_it_stands(project: Path) -> None:
    before = [one.key for one in mutants_of(project / "guard.py", project)]
    (project / "guard.py").write_text("# A line above\n\n" + CODE)
    assert [one.key for one in mutants_of(project / "guard.py", project)] == before


def test_a_sample_is_the_same_for_the_same_seed_and_another_for_another(project: Path) -> None:
    mutants = mutants_of(project / "guard.py", project)
    assert sampled(mutants, 5, 1) == sampled(mutants, 5, 1) != sampled(mutants, 5, 2)
    assert len(sampled(mutants, 0, 1)) == len(mutants)


def test_tests_that_execute_a_line_kill_what_they_notice_and_the_file_is_as_it_was(
    project: Path, tmp_path: Path
) -> None:
    """One run for the map, and one for each of three mutants: one noticed, one not, one that nothing executes."""
    found = covering(project, project, ["test_guard.py"], ["guard.py"], tmp_path / "map")
    nursery = Nursery(project)
    by_text = {(one.was, one.becomes): one for one in mutants_of(project / "guard.py", project)}
    bound = tried(by_text["return count <= MOST", "return (count < MOST)"], nursery, found, 60)
    assert (bound.end, bound.by) == (End.KILLED, "test_guard.py::test_it_may_up_to_the_bound")
    hold = tried(by_text["return False", "return True"], nursery, found, 60)
    assert (hold.end, hold.tried) == (End.SURVIVED, 1), "only the useless test comes there"
    unseen = next(one for one in by_text.values() if one.function == "Sum.of")
    assert tried(unseen, nursery, found, 60).end is End.NO_TEST
    nursery.close()
    assert (project / "guard.py").read_text() == CODE
    kept = list((tmp_path / "map").glob("*.json"))
    again = covering(project, project / "nowhere", ["test_guard.py"], ["guard.py"], tmp_path / "map")
    assert again.seconds == found.seconds, "what is kept is not run again"
    assert len(kept) == 1


def test_below_the_share_it_fails_and_what_is_accepted_does_not_count(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ten = mutants_of(project / "guard.py", project)[:10]
    trials = [Trial(one, End.KILLED, "x", 1, 1) for one in ten[:8]]
    trials += [Trial(ten[8], End.TIMEOUT, "", 1, 1), Trial(ten[9], End.NO_TEST, "", 0, 0)]
    assert report(trials, {}, 10) == 0
    assert f"+ {ten[9].becomes}" in capsys.readouterr().out
    lived = Trial(ten[7], End.SURVIVED, "", 1, 1)
    assert report([*trials[:7], lived, *trials[8:]], {}, 10) == 1
    assert report([*trials[:7], lived, *trials[8:]], {Key(*ten[7].key): "it says the same"}, 10) == 1
    both = {Key(*one.key): "it says the same" for one in (ten[7], ten[9])}
    assert report([*trials[:7], lived, *trials[8:]], both, 12) == 0
    assert "before 2 of the sample" in capsys.readouterr().out


ENTRY = "- {file: guard.py, function: may, was: a, becomes: b, reason: %s}\n"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ENTRY % "equivalent", "gives no reason"),
        ("- {file: guard.py, reason: because it says the same}\n", "must have exactly"),
        (ENTRY % "because it says the same" * 2, "stands twice"),
    ],
)
def test_a_survivor_is_accepted_only_with_a_reason_and_once(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "accepted.yaml").write_text(text)
    with pytest.raises(ValueError, match=wrong):
        accepted(tmp_path / "accepted.yaml")


def test_every_accepted_survivor_is_about_a_line_that_is_there() -> None:
    path = ROOT / ".ci" / "mutants-accepted.yaml"
    reasons = accepted(path)
    mutants: list[Mutant] = [
        one for file in sorted({key.file for key in reasons}) for one in mutants_of(ROOT / file, ROOT)
    ]
    assert stale(reasons, mutants) == []


def test_the_command_lists_its_sample_without_running_a_test() -> None:
    command = [
        sys.executable,
        "tests/mutation/mutation_run.py",
        "--list",
        "--sample",
        "3",
        "--paths",
        "controller/gate.py",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "3 of " in ran.stdout
    assert ran.stdout.count("\n+ ") == 3
