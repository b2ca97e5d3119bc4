"""Two merge engines agree, no configuration changes a commit, and 2,000 files are handled in good time."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from controller.adapters.git import GitForge
from controller.adapters.git_store import FLYBALL, create_bare
from controller.adapters.git_workspaces import GitWorkspaces
from controller.domain.ids import Branch, Commit, Repository
from controller.ports import Candidate, Conflict

SHOP, MAIN = Repository("shop"), Branch("main")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FILES = 2000


class StoppedClock:
    def now(self) -> datetime:
        return AT

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def commit(forge: GitForge, files: dict[str, str], parent: Commit | None) -> Commit:
    repo, who, index = forge.store.open(SHOP), FLYBALL.signed(AT), pygit2.Index()
    if parent is not None:
        index.read_tree(repo[parent].peel(pygit2.Tree))
    for path, text in files.items():
        index.add(pygit2.IndexEntry(path, repo.create_blob(text.encode()), FileMode.BLOB))
    made = repo.create_commit(None, who, who, "files", index.write_tree(repo), [parent] if parent else [])
    return Commit(str(made))


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> GitForge:
    forge = GitForge(tmp_path_factory.mktemp("forge"), StoppedClock())
    create_bare(forge.store.path(SHOP), MAIN)
    return forge


@pytest.fixture(scope="module")
def large(forge: GitForge) -> Commit:
    """2,000 files in 100 folders, packed as an import would leave them."""
    pygit2.settings.enable_fsync_gitdir(False)
    made = commit(forge, {f"pkg{n % 100}/m{n}.py": lines_of(n) for n in range(FILES)}, None)
    pygit2.settings.enable_fsync_gitdir(True)
    forge.store.open(SHOP).references.create("refs/heads/main", made)
    subprocess.run(["git", "--git-dir", str(forge.store.path(SHOP)), "gc", "--quiet"], check=True)
    return made


def lines_of(n: int, changed: int | None = None, by: int = 1) -> str:
    """Forty lines; `changed=None`: all as they were at first."""
    return "".join(f"value_{line} = {n * line + by * (line == changed)}\n" for line in range(40))


def merged_by_command(forge: GitForge, ours: Commit, theirs: Commit) -> str | Conflict:
    """The tree as git itself merges it, or the conflict that git finds."""
    command = [
        "git",
        "--git-dir",
        str(forge.store.path(SHOP)),
        "merge-tree",
        "--write-tree",
        "--name-only",
        "--no-messages",
    ]
    said = subprocess.run([*command, ours, theirs], capture_output=True, text=True)
    tree, *names = said.stdout.split()
    return tree if said.returncode == 0 else Conflict(tuple(names))


async def test_both_engines_make_the_same_tree_and_find_the_same_conflicts(forge: GitForge, large: Commit) -> None:
    chance = random.Random(7)
    conflicts = 0
    for _ in range(30):
        one, two = chance.randrange(3), chance.randrange(3)
        ours = commit(forge, {f"pkg{one}/m{one}.py": lines_of(one, chance.randrange(1, 12))}, large)
        theirs = commit(forge, {f"pkg{two}/m{two}.py": lines_of(two, chance.randrange(1, 12), by=2)}, large)
        made = await forge.merge(SHOP, ours, theirs, "m", AT)
        assert merged_by_command(forge, ours, theirs) == (made.tree if isinstance(made, Candidate) else made)
        conflicts += isinstance(made, Conflict)
    assert 0 < conflicts < 30


def merged_elsewhere(forge: GitForge, ours: Commit, theirs: Commit, environment: dict[str, str]) -> str:
    script = (
        "import asyncio,sys;from datetime import datetime,UTC;from pathlib import Path;"
        "from controller.adapters.git import GitForge;"
        "f=GitForge(Path(sys.argv[1]),None);"
        "print(asyncio.run(f.merge('shop',sys.argv[2],sys.argv[3],'m',datetime(2026,3,1,12,0,tzinfo=UTC))))"
    )
    command = [sys.executable, "-c", script, str(forge.store.root), ours, theirs]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


async def test_the_users_and_the_machines_configuration_do_not_change_a_commit(
    forge: GitForge, large: Commit, tmp_path: Path
) -> None:
    ours = commit(forge, {"pkg1/m1.py": lines_of(1, 3)}, large)
    repo, index = forge.store.open(SHOP), pygit2.Index()
    index.read_tree(repo[large].peel(pygit2.Tree))
    index.add(pygit2.IndexEntry("moved.py", index["pkg1/m1.py"].id, FileMode.BLOB))
    index.remove("pkg1/m1.py")
    who = FLYBALL.signed(AT)
    theirs = Commit(str(repo.create_commit(None, who, who, "move", index.write_tree(repo), [large])))
    here = await forge.merge(SHOP, ours, theirs, "m", AT)
    assert isinstance(here, Candidate), "a change follows the file that it was made to"
    (tmp_path / ".gitconfig").write_text(
        "[merge]\n\trenames = false\n[core]\n\tautocrlf = true\n[user]\n\tname = Eve\n"
    )
    environment = {
        "HOME": str(tmp_path),
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": os.environ["PATH"],
    }
    assert await asyncio.to_thread(merged_elsewhere, forge, ours, theirs, environment) == str(here)


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: creating 2,000 files on a busy disk measures the disk (with tar, too)."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder of our own in it
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder)


async def test_a_copy_of_2000_files_is_made_and_read_back_within_a_second_each(
    forge: GitForge, large: Commit, quick_folder: Path
) -> None:
    """The best of three, because others may be busy on the same machine."""
    work = GitWorkspaces(quick_folder, forge.store)
    made_s, read_s = [], []
    for n in range(3):
        began = time.perf_counter()
        place = await work.create(f"shop-1/{n}", SHOP, large)
        made_s.append(time.perf_counter() - began)
        (place / "pkg1/m1.py").write_text("changed\n")
        began = time.perf_counter()
        made = await work.commit(f"shop-1/{n}", SHOP, large, "m", AT)
        read_s.append(time.perf_counter() - began)
        assert made is not None
        assert made.files == ("pkg1/m1.py",)
    assert min(made_s) < 1
    assert min(read_s) < 1
