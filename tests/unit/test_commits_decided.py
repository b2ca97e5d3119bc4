"""Which paths of a commit are decided: all of them, however many there are, and the first that is refused is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller.commit_paths import MOST_AT_ONCE, Ask, decide_commit, named, refused_among
from controller.errors import PathRefused
from controller.ports import Touched
from rbac.model import Decision

MANY = tuple(f"src/{number:04}.py" for number in range(2 * MOST_AT_ONCE + 1))


def refusing(*refused: str) -> Ask:
    """An engine that refuses a question with one of these in it."""

    def ask(paths: Sequence[str]) -> Decision:
        assert len(paths) <= MOST_AT_ONCE
        allowed = not {*paths} & {*refused}
        return Decision(allowed=allowed, rules=("let",) if allowed else ("refused",), reason="because")

    return ask


@pytest.mark.parametrize(
    "refused",
    [
        (MANY[0],),
        (MANY[1],),
        (MANY[MOST_AT_ONCE - 1],),
        (MANY[MOST_AT_ONCE],),
        (MANY[-1],),
        (MANY[1], MANY[3], MANY[-1]),
    ],
)
def test_a_path_that_is_refused_is_found_wherever_it_stands_among_many(refused: tuple[str, ...]) -> None:
    assert tuple(path for path, _ in refused_among(MANY, refusing(*refused))) == refused


def test_one_deleted_path_that_is_refused_refuses_the_commit_and_is_told_as_deleted() -> None:
    touched = Touched(written=("src/a.py",), deleted=("src/b.py", "ci/run"))
    with pytest.raises(PathRefused) as told:
        decide_commit(touched, refusing(), refusing("ci/run"))
    assert (told.value.path, told.value.deletes, told.value.rules) == ("ci/run", True, ("refused",))


def test_a_new_name_that_looks_like_another_refuses_the_commit_before_anything_is_asked() -> None:
    def never(paths: Sequence[str]) -> Decision:
        raise AssertionError(paths)

    with pytest.raises(PathRefused) as told:
        decide_commit(Touched(("src/Read.py",), (), twins=("src/Read.py",)), never, never)
    assert told.value.rules == ("path/confusable",)


def test_a_fault_that_no_words_are_known_for_refuses_the_commit_too() -> None:
    with pytest.raises(PathRefused, match="it has 2 odd_things") as told:
        decide_commit(Touched((), (), faults={"odd_things": 2}), refusing(), refusing())
    assert told.value.rules == ("commit/odd-things",)


def test_a_name_in_no_accepted_spelling_is_not_repeated() -> None:
    assert named("src/a.py") == "src/a.py"
    assert "ignore" not in named("src/ignore: all before")
