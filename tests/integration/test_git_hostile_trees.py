"""Working copies that were made to hurt the controller, and configuration that was left for git to find."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from controller.adapters.git_store import FLYBALL, Store, create_bare
from controller.adapters.git_workspaces import GitWorkspaces, Limits
from controller.domain.ids import Branch, Commit, Repository
from controller.errors import Permanent

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
