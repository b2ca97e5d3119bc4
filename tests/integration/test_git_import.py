"""A person's own repository, in and out: refused where it would surprise them, untouched always."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest

from controller.adapters.git_import import import_repository, sync_back
from controller.adapters.git_refs import RefMove, writing
from controller.adapters.git_store import FLYBALL, Store, ref_value
from controller.domain.ids import Branch, Commit, Repository
from controller.errors import ConfigError

SHOP, MAIN = Repository("shop"), Branch("main")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> Commit:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", f"write {name}")
    return Commit(git(folder, "rev-parse", "HEAD"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "their work"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "app.py", "one\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "forge")


def land(store: Store, message: str) -> Commit:
    """Something lands in the forge, as a commit on its main branch."""
    repo, who = store.open(SHOP), FLYBALL.signed(AT)
    tip = ref_value(repo, "refs/heads/main")
    assert tip is not None
    made = Commit(str(repo.create_commit(None, who, who, message, repo[tip].peel(pygit2.Tree).id, [tip])))
    with writing(store.path(SHOP)) as writer:
        writer.move([RefMove("refs/heads/main", tip, made)])
    return made


def everything_of(folder: Path) -> tuple[str, str, str, str]:
    branches = git(folder, "for-each-ref", "refs/heads")
    return (
        branches,
        git(folder, "status", "--porcelain"),
        git(folder, "symbolic-ref", "HEAD"),
        git(folder, "stash", "list"),
    )


# --- in --------------------------------------------------------------------------------------------


def test_an_import_brings_one_branch_and_leaves_the_source_as_it_was(theirs: Path, store: Store) -> None:
    git(theirs, "branch", "private")
    git(theirs, "tag", "v1")
    before = everything_of(theirs)
    tip = import_repository(store, SHOP, theirs, MAIN)
    assert tip == git(theirs, "rev-parse", "HEAD")
    assert list(store.open(SHOP).references) == ["refs/heads/main"]
    assert everything_of(theirs) == before
    assert sorted(path.name for path in store.root.iterdir()) == ["shop.git"]


def test_an_import_again_takes_in_what_the_person_has_committed_since(theirs: Path, store: Store) -> None:
    import_repository(store, SHOP, theirs, MAIN)
    later = commit(theirs, "later.py", "1\n")
    assert import_repository(store, SHOP, theirs, MAIN) == later
    assert ref_value(store.open(SHOP), "refs/heads/main") == later


def test_an_import_again_leaves_what_has_landed_where_the_person_is_behind(theirs: Path, store: Store) -> None:
    import_repository(store, SHOP, theirs, MAIN)
    landed = land(store, "landed")
    assert import_repository(store, SHOP, theirs, MAIN) == landed


def test_an_import_that_has_diverged_names_both_sides_and_changes_nothing(theirs: Path, store: Store) -> None:
    import_repository(store, SHOP, theirs, MAIN)
    landed = land(store, "landed")
    later = commit(theirs, "later.py", "1\n")
    with pytest.raises(ConfigError, match=f"{later}.*{landed}.*rebase"):
        import_repository(store, SHOP, theirs, MAIN)
    assert ref_value(store.open(SHOP), "refs/heads/main") == landed


def test_a_dirty_work_tree_is_refused_by_name_unless_allowed(theirs: Path, store: Store) -> None:
    (theirs / "app.py").write_text("not committed\n")
    with pytest.raises(ConfigError, match=r"app\.py.*[Cc]ommit or stash"):
        import_repository(store, SHOP, theirs, MAIN)
    assert not store.exists(SHOP)
    assert import_repository(store, SHOP, theirs, MAIN, allow_dirty=True) == git(theirs, "rev-parse", "HEAD")


def test_files_that_git_does_not_track_are_no_obstacle(theirs: Path, store: Store) -> None:
    (theirs / "notes.txt").write_text("mine")
    assert import_repository(store, SHOP, theirs, MAIN) == git(theirs, "rev-parse", "HEAD")


def test_a_detached_head_is_refused(theirs: Path, store: Store) -> None:
    git(theirs, "checkout", "--quiet", "--detach")
    with pytest.raises(ConfigError, match=r"detached.*git switch"):
        import_repository(store, SHOP, theirs, MAIN)


def test_a_missing_branch_is_refused_with_the_ones_there_are(theirs: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match=r"'trunk'.*main"):
        import_repository(store, SHOP, theirs, Branch("trunk"))


def test_a_path_that_is_no_repository_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    for path, why in (("nowhere", "does not exist"), ("file", "no folder"), ("plain", "not a git repository")):
        with pytest.raises(ConfigError, match=why):
            import_repository(store, SHOP, tmp_path / path, MAIN)


def test_a_repository_without_commits_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "--quiet")
    with pytest.raises(ConfigError, match="no commits"):
        import_repository(store, SHOP, tmp_path / "new", MAIN)


def test_a_folder_inside_a_repository_is_refused_naming_the_repository(theirs: Path, store: Store) -> None:
    (theirs / "lib").mkdir()
    with pytest.raises(ConfigError, match=f"Give {theirs} instead"):
        import_repository(store, SHOP, theirs / "lib", MAIN)


def test_a_shallow_clone_is_refused(theirs: Path, store: Store, tmp_path: Path) -> None:
    commit(theirs, "later.py", "1\n")
    git(tmp_path, "clone", "--quiet", "--depth=1", theirs.as_uri(), "shallow")
    with pytest.raises(ConfigError, match="unshallow"):
        import_repository(store, SHOP, tmp_path / "shallow", MAIN)


def test_neither_hooks_nor_monitors_of_the_source_are_run(theirs: Path, store: Store, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "monitor"):
        hook = theirs / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >> '{ran}'\n")
        hook.chmod(0o755)
    git(theirs, "config", "core.fsmonitor", str(theirs / ".git/hooks/monitor"))
    ran.unlink(missing_ok=True)
    import_repository(store, SHOP, theirs, MAIN)
    land(store, "landed")
    sync_back(store, SHOP, theirs, MAIN)
    assert not ran.exists()


# --- back out --------------------------------------------------------------------------------------


def test_what_has_landed_is_shown_to_the_person_beside_their_own_branches(theirs: Path, store: Store) -> None:
    import_repository(store, SHOP, theirs, MAIN)
    (theirs / "app.py").write_text("in the middle of something\n")
    landed = land(store, "landed")
    before = everything_of(theirs)
    assert sync_back(store, SHOP, theirs, MAIN) == landed
    assert git(theirs, "rev-parse", "refs/remotes/flyball/main") == landed
    assert everything_of(theirs) == before
    assert not (theirs / ".git/FETCH_HEAD").exists()
    assert sync_back(store, SHOP, theirs, MAIN) == landed
