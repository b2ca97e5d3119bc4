"""New names that look like others, whole working copies within their bounds, and what one commit's ignore files say."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from controller.adapters import run_copies
from controller.adapters.git_ignored import MAX_IGNORE_BYTES, ignored
from controller.adapters.git_touched import touched
from controller.adapters.run_copies import run_copy
from controller.domain.ids import Commit
from controller.errors import Permanent

WHO = pygit2.Signature("a", "a@example.org", 1_800_000_000, 0)


def commit(bare: Path, parents: list[str], *paths: str) -> Commit:
    repository = pygit2.Repository(str(bare))
    index = pygit2.Index()
    for path in paths:
        index.add(pygit2.IndexEntry(path, repository.create_blob(path.encode()), pygit2.enums.FileMode.BLOB))
    tree = index.write_tree(repository)
    return Commit(str(repository.create_commit(None, WHO, WHO, "a change", tree, parents)))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    pygit2.init_repository(str(tmp_path / "shop.git"), bare=True)
    return tmp_path / "shop.git"


@pytest.mark.parametrize(
    ("new", "twins"),
    [
        ("src/b.py", ()),
        ("src/A.py", ("src/A.py",)),
        ("Src/b.py", ("Src",)),
        ("src/\u0430.py", ("src/\u0430.py",)),
        ("other/a.py", ()),
    ],
)
def test_a_new_file_or_folder_that_looks_like_its_neighbour_is_a_twin(bare: Path, new: str, twins: tuple[str]) -> None:
    base = commit(bare, [], "src/a.py", "README")
    head = commit(bare, [base], "src/a.py", "README", new)
    assert touched(bare, base, head).twins == twins


def test_names_that_stood_together_before_are_no_twins_of_this_change(bare: Path) -> None:
    base = commit(bare, [], "src/a.py", "src/A.py")
    head = commit(bare, [base], "src/a.py", "src/A.py", "src/b.py")
    assert touched(bare, base, head).twins == ()


def test_ignore_files_count_where_they_lie_and_a_huge_one_is_said_to_be_one(bare: Path) -> None:
    files = {".gitignore": b"*.log\n", "src/.gitignore": b"!keep.log\nmade/\n"}
    paths = ("a.log", "src/keep.log", "src/made/x.py", "made/x.py", "\u00e4.log", "a b.log")
    assert ignored(bare, paths, files.get) == {"a.log", "src/made/x.py", "\u00e4.log", "a b.log"}
    with pytest.raises(Permanent, match="bytes"):
        ignored(bare, paths, {".gitignore": b"#" * (MAX_IGNORE_BYTES + 1)}.get)


def there(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def nothing(paths: object) -> frozenset[str]:
    return frozenset()


@pytest.mark.parametrize(
    ("bound", "just", "below"), [("MAX_BYTES", 20, 19), ("MAX_ENTRIES", 3, 2), ("MOST_DEPTH", 2, 1)]
)
async def test_a_working_copy_past_its_bounds_is_copied_for_no_run(
    bound: str, just: int, below: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    for name in ("a", "folder/b"):
        (tree / name).write_bytes(bytes(10))
    monkeypatch.setattr(run_copies, bound, just)
    async with run_copy(tree, nothing) as copy:
        assert (copy.folder / "folder/b").read_bytes() == bytes(10)
    monkeypatch.setattr(run_copies, bound, below)
    with pytest.raises(Permanent):
        async with run_copy(tree, nothing):
            pass
    assert there(tmp_path) == ["tree"]
