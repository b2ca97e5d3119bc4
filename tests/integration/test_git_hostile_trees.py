"""Working copies that were made to hurt the controller, and configuration that was left for git to find."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from controller.adapters.clock import SystemClock
from controller.adapters.git import GitForge
from controller.adapters.git_export import export
from controller.adapters.git_import import import_repository
from controller.adapters.git_store import FLYBALL, Store, create_bare, run_git
from controller.adapters.git_trees import entries_of as raw_entries
from controller.adapters.git_workspaces import GitWorkspaces, Limits
from controller.domain.ids import Branch, Commit, Repository
from controller.errors import Permanent
from controller.ports import Candidate

SHOP, MAIN = Repository("shop"), Branch("main")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SESSION = "shop-1/1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "forge")
    create_bare(store.path(SHOP), MAIN)
    return store


def commit(store: Store, entries: Mapping[bytes, tuple[int, bytes]]) -> Commit:
    """A commit whose one tree is written byte by byte, as a malicious or an old client might."""
    repo, who = store.open(SHOP), FLYBALL.signed(AT)
    lines = []
    for name, (mode, content) in sorted(entries.items()):
        oid = pygit2.Oid(hex=content.decode()) if mode == FileMode.COMMIT else repo.create_blob(content)
        lines.append(b"%o %s\0%s" % (mode, name, oid.raw))
    tree = repo.odb.write(pygit2.enums.ObjectType.TREE, b"".join(lines))
    return Commit(str(repo.create_commit(None, who, who, "start", tree, [])))


def plain(store: Store) -> Commit:
    return commit(store, {b"app.py": (FileMode.BLOB, b"one\n")})


def workspaces(tmp_path: Path, store: Store, limits: Limits = Limits()) -> GitWorkspaces:  # noqa: B008 - frozen
    return GitWorkspaces(tmp_path / "work", store, limits)


def entries_of(store: Store, head: Commit) -> dict[str, int]:
    return {entry.name or "": entry.filemode for entry in store.open(SHOP)[head].peel(pygit2.Tree)}


# --- nothing in a tree is run ----------------------------------------------------------------------


def add_with_plain_git(folder: Path) -> None:
    folder.mkdir()
    (folder / "app.py").write_text("one\n")
    for command in ("init --quiet", "add app.py"):
        subprocess.run(["git", "-C", str(folder), *command.split()], check=True)


async def test_hooks_filters_and_monitors_in_a_tree_and_beside_it_are_never_run(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, script = tmp_path / "ran", tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho ran >> '{ran}'\ncat\n")
    script.chmod(0o755)
    config = (
        f"[core]\n\tfsmonitor = {script}\n\thooksPath = {tmp_path}\n\tattributesFile = {tmp_path / 'attributes'}\n"
        f'[filter "evil"]\n\tclean = {script}\n\tsmudge = {script}\n\trequired = true\n'
        f'[merge "evil"]\n\tdriver = {script}\n[diff "evil"]\n\tcommand = {script}\n\ttextconv = {script}\n'
    )
    attributes = "* filter=evil merge=evil diff=evil\n"
    (tmp_path / ".gitconfig").write_text(config)
    (tmp_path / "attributes").write_text(attributes)
    (tmp_path / "reference-transaction").symlink_to(script)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    base = commit(
        store, {b".gitattributes": (FileMode.BLOB, attributes.encode()), b"app.py": (FileMode.BLOB, b"one\n")}
    )
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    (place / "app.py").write_text("two\n")
    (place / ".gitconfig").write_text(config)
    (place / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch ran"\n\tupdate = !sh\n')
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    assert made.files == (".gitconfig", ".gitmodules", "app.py")
    assert not ran.exists()
    add_with_plain_git(tmp_path / "control")
    assert ran.exists(), "plain git in such a place does run them, so this test would have seen it"


# --- nothing outside a tree is read or written -----------------------------------------------------


async def test_symlinks_of_the_base_are_kept_as_they_are_and_never_followed(tmp_path: Path, store: Store) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("token")
    base = commit(store, {b"app.py": (FileMode.BLOB, b"one\n"), b"link": (FileMode.LINK, os.fsencode(outside))})
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    assert (place / "link").readlink() == outside
    assert await work.commit(SESSION, SHOP, base, "m", AT) is None
    (place / "app.py").write_text("two\n")
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    assert made.files == ("app.py",)
    assert entries_of(store, made.head)["link"] == FileMode.LINK
    (place / "link").unlink()
    (place / "link").symlink_to("/etc")
    with pytest.raises(Permanent, match="link is a symlink that was added or changed"):
        await work.commit(SESSION, SHOP, base, "m", AT)


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b".", b"a/../../x"])
async def test_a_tree_whose_names_lead_out_of_the_copy_is_not_laid_out(
    tmp_path: Path, store: Store, name: bytes
) -> None:
    base = commit(store, {name: (FileMode.BLOB, b"[core]\n")})
    with pytest.raises(Permanent, match="Remove it"):
        await workspaces(tmp_path, store).create(SESSION, SHOP, base)


async def test_removing_a_copy_does_not_follow_what_it_links_to(tmp_path: Path, store: Store) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    base, work = plain(store), workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    (place / "way out").symlink_to(outside)
    (place / "shut").mkdir(mode=0o000)
    await work.discard(SESSION)
    assert (outside / "kept").exists()
    assert not place.exists()


async def test_a_submodule_stays_as_it_was_and_may_not_be_filled(tmp_path: Path, store: Store) -> None:
    base = commit(store, {b"app.py": (FileMode.BLOB, b"one\n"), b"sub": (FileMode.COMMIT, b"1" * 40)})
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    (place / "app.py").write_text("two\n")
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    assert made.files == ("app.py",)
    (place / "sub/own.py").write_text("x")
    with pytest.raises(Permanent, match="submodule sub was changed"):
        await work.commit(SESSION, SHOP, base, "m", AT)


# --- everything has a bound ------------------------------------------------------------------------


async def test_a_copy_too_big_in_any_direction_is_refused_with_the_bound(tmp_path: Path, store: Store) -> None:
    base = plain(store)
    work = workspaces(tmp_path, store, Limits(entries=50, file_bytes=1000, total_bytes=3000, depth=5))
    place = await work.create(SESSION, SHOP, base)

    async def refused(why: str) -> None:
        with pytest.raises(Permanent, match=why):
            await work.commit(SESSION, SHOP, base, "m", AT)
        await work.create(SESSION, SHOP, base)

    (place / "big").write_bytes(b"x" * 1001)
    await refused("big has 1001 bytes, more than 1000")
    with (place / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    await refused("sparse has")
    for n in range(4):
        (place / f"{n}").write_bytes(b"x" * 1000)
    await refused("more than 3000 bytes")
    for n in range(60):
        (place / f"{n}").touch()
    await refused("more than 50 files")
    (place / "a/a/a/a/a/a/a").mkdir(parents=True)
    await refused("deeper than 5")


async def test_a_tree_of_folders_too_deep_for_any_stack_is_refused_and_removed(tmp_path: Path, store: Store) -> None:
    base, work = plain(store), workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    script = "import os,sys\nos.chdir(sys.argv[1])\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    await asyncio.to_thread(subprocess.run, ["python3", "-c", script, str(place)], check=True)
    with pytest.raises(Permanent, match="deeper than 64"):
        await work.commit(SESSION, SHOP, base, "m", AT)
    await work.discard(SESSION)
    assert not place.exists()


# --- what is plain is kept as it is ----------------------------------------------------------------


async def test_the_executable_bit_goes_both_ways(tmp_path: Path, store: Store) -> None:
    base = commit(store, {b"run": (FileMode.BLOB_EXECUTABLE, b"#!\n"), b"app.py": (FileMode.BLOB, b"one\n")})
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    assert os.access(place / "run", os.X_OK)
    assert await work.commit(SESSION, SHOP, base, "m", AT) is None
    (place / "app.py").chmod(0o755)
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    assert entries_of(store, made.head) == {"app.py": FileMode.BLOB_EXECUTABLE, "run": FileMode.BLOB_EXECUTABLE}


async def test_names_and_bytes_that_are_no_text_survive_the_round_trip(tmp_path: Path, store: Store) -> None:
    odd = {
        b"lat\xe9n": (FileMode.BLOB, bytes(range(256))),
        b"crlf": (FileMode.BLOB, b"a\r\nb\r\n"),
        b"z": (FileMode.BLOB, b""),
    }
    base, work = commit(store, odd), workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    assert await work.commit(SESSION, SHOP, base, "m", AT) is None
    (place / "crlf").write_bytes(b"a\r\n")
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    assert made.files == ("crlf",)
    (place / "z").rename(os.fsdecode(os.fsencode(place) + b"/n\xe9w"))
    with pytest.raises(Permanent, match="Rename it"):
        await work.commit(SESSION, SHOP, base, "m", AT)


# --- one reader of odd modes ------------------------------------------------------------------------

ODD_MODES = (0o120777, 0o160755, 0o100664, 0o100600, 0o100777, 0o020000, 0o140000)
NOWHERE = b"1234567890" * 4
WHAT_GIT_WRITES = {0o120777: 0o120000, 0o100664: 0o100644, 0o100600: 0o100644, 0o100777: 0o100755}


def odd_commit(store: Store, entries: Mapping[bytes, int], parents: tuple[str, ...] = ()) -> Commit:
    """Past every check, as old clients have written: links and files hold "x", the rest names a commit."""
    repo, who = store.open(SHOP), FLYBALL.signed(AT)
    blob = repo.create_blob(b"x")
    rows = []
    for name, mode in sorted(entries.items()):
        oid = blob.raw if mode & 0o170000 in {0o100000, 0o120000} else bytes.fromhex(NOWHERE.decode())
        rows.append(b"%o %s\0%s" % (mode, name, oid))
    tree = repo.odb.write(pygit2.enums.ObjectType.TREE, b"".join(rows))
    return Commit(str(repo.create_commit(None, who, who, "old", tree, list(parents))))


def modes(store: Store, head: Commit) -> dict[bytes, bytes]:
    repo = store.open(SHOP)
    return {entry.name: entry.mode for entry in raw_entries(repo, repo[head].peel(pygit2.Commit).tree_id)}


def looks(folder: Path) -> dict[str, str]:
    """What stands where: link, folder, program or file."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name == ".git":
            continue
        mode = path.lstat().st_mode
        kind = "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "file"
        found[path.name] = "program" if kind == "file" and mode & stat.S_IXUSR else kind
    return found


async def test_what_a_clone_sees_is_what_a_working_copy_and_an_export_lay_out(tmp_path: Path, store: Store) -> None:
    base = odd_commit(store, {b"odd-%o" % mode: mode for mode in ODD_MODES})
    run_git("--git-dir", str(store.path(SHOP)), "update-ref", "refs/heads/main", base)
    cloned = tmp_path / "clone"
    await asyncio.to_thread(run_git, "clone", "--quiet", str(store.path(SHOP)), str(cloned), timeout_s=30)
    place = await workspaces(tmp_path, store).create(SESSION, SHOP, base)
    (tmp_path / "export").mkdir()
    export(store, SHOP, base, tmp_path / "export")
    assert looks(place) == looks(cloned)
    assert looks(tmp_path / "export") == looks(cloned)
    assert looks(cloned)["odd-120777"] == "link"
    assert looks(cloned)["odd-160755"] == looks(cloned)["odd-20000"] == "folder"


async def test_a_folder_that_changes_is_written_in_the_modes_that_git_writes(tmp_path: Path, store: Store) -> None:
    base = odd_commit(store, {b"odd-%o" % mode: mode for mode in WHAT_GIT_WRITES})
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    assert await work.commit(SESSION, SHOP, base, "m", AT) is None
    (place / "new").write_text("one\n")
    made = await work.commit(SESSION, SHOP, base, "m", AT)
    assert made is not None
    found = modes(store, made.head)
    assert set(found.values()) <= {b"100644", b"100755", b"120000", b"160000"}
    for odd, plain_mode in WHAT_GIT_WRITES.items():
        assert found[b"odd-%o" % odd] == b"%o" % plain_mode
    run_git("--git-dir", str(store.path(SHOP)), "fsck", "--strict", made.head, timeout_s=30)


@pytest.mark.parametrize("mode", [0o020000, 0o140000, 0o160755], ids=lambda mode: f"{mode:o}")
async def test_what_libgit2_cannot_read_is_said_and_is_no_defect(tmp_path: Path, store: Store, mode: int) -> None:
    base = odd_commit(store, {b"odd": mode})
    work = workspaces(tmp_path, store)
    place = await work.create(SESSION, SHOP, base)
    (place / "new").write_text("one\n")
    with pytest.raises(Permanent, match="a mode that git does not write any more"):
        await work.commit(SESSION, SHOP, base, "m", AT)


@pytest.mark.parametrize("mode", ODD_MODES, ids=lambda mode: f"{mode:o}")
async def test_a_merge_brings_no_odd_mode_that_neither_side_has(store: Store, mode: int) -> None:
    """Old ones of both sides stay as they are, or as git would write them."""
    base = odd_commit(store, {b"old": mode, b"a": 0o100644})
    one = odd_commit(store, {b"old": mode, b"a": 0o100644, b"one": 0o100644}, (base,))
    two = odd_commit(store, {b"old": mode, b"a": 0o100644, b"two": 0o100644}, (base,))
    forge = GitForge(store.root, SystemClock())
    if mode not in WHAT_GIT_WRITES and mode != 0o160755:  # libgit2 looks for a file where git sees a submodule
        with pytest.raises(Permanent, match="a mode that git does not write any more"):
            await forge.merge(SHOP, one, two, "m\n", AT)
        return
    made = await forge.merge(SHOP, one, two, "m\n", AT)
    assert isinstance(made, Candidate)
    assert modes(store, made.commit)[b"old"] in {b"%o" % mode, b"%o" % WHAT_GIT_WRITES.get(mode, 0o160000)}


async def test_an_import_of_an_old_history_is_taken_and_says_so(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    base = odd_commit(store, {b"old.py": 0o100664, b"new.py": 0o100644})
    run_git("--git-dir", str(store.path(SHOP)), "update-ref", "refs/heads/main", base)
    other = Store(tmp_path / "other")
    source = tmp_path / "source"
    await asyncio.to_thread(run_git, "clone", "--quiet", str(store.path(SHOP)), str(source), timeout_s=30)
    with caplog.at_level("WARNING"):
        assert import_repository(other, SHOP, source, MAIN) == base
    assert "such as old.py" in caplog.text
    caplog.clear()
    plain_base = plain(store)
    run_git("--git-dir", str(store.path(SHOP)), "update-ref", "refs/heads/main", plain_base)
    again = tmp_path / "again"
    await asyncio.to_thread(run_git, "clone", "--quiet", str(store.path(SHOP)), str(again), timeout_s=30)
    assert import_repository(Store(tmp_path / "third"), SHOP, again, MAIN) == plain_base
    assert caplog.text == ""
