"""Trees made byte by byte: three modes are let in, and whatever the base has had for long stays as it is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ObjectType

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from git_door_kit import (
    BLOB,
    COMMIT_OBJECT,
    HARMLESS,
    OWN_REF,
    SOMEBODY,
    TREE,
    Site,
    commands,
    commit_of,
    object_id,
    pack_of,
    refused_push,
    serving,
    tree_of,
    unchanged,
)

from controller.adapters.git_trees import entries_of, parsed
from controller.domain.ids import Commit

Row = tuple[bytes, bytes, str]
BODY = b"print(1)\n"
BODY_ID = object_id(BLOB, BODY)
SOME_COMMIT = "1234567890" * 4


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


def rows(site: Site, tree: pygit2.Oid | bytes) -> dict[bytes, Row]:
    return {one.name: (one.mode, one.name, one.id.hex()) for one in entries_of(site.repository, tree)}


def sorted_rows(found: dict[bytes, Row]) -> list[Row]:
    """As git orders them: a folder as if its name ended in a slash."""
    return sorted(found.values(), key=lambda row: row[1] + (b"/" if int(row[0], 8) & 0o170000 == 0o040000 else b""))


def crafted(
    site: Site, *entries: Row, folder_mode: bytes = b"40000", more: tuple[tuple[int, bytes], ...] = ()
) -> bytes:
    """A push of one commit on main whose folder src has these entries besides its own."""
    base = site.repository.references["refs/heads/main"].peel(pygit2.Commit)
    top = rows(site, base.tree_id)
    src = rows(site, bytes.fromhex(top[b"src"][2])) | {row[1]: row for row in entries}
    inner = tree_of(*sorted_rows(src))
    outer = tree_of(*sorted_rows(top | {b"src": (folder_mode, b"src", object_id(TREE, inner))}))
    commit = commit_of(object_id(TREE, outer), str(base.id))
    objects = [*more, (TREE, inner), (TREE, outer), (COMMIT_OBJECT, commit)]
    if any(bytes.fromhex(BODY_ID) in raw for kind, raw in objects if kind == TREE):
        objects.insert(0, (BLOB, BODY))
    return commands((None, object_id(COMMIT_OBJECT, commit), OWN_REF)) + pack_of(*objects)


ODD = [b"120777", b"160755", b"20000", b"60000", b"10644", b"140000", b"100664", b"100600", b"100777", b"100645"]
ODD += [b"0100644", b"0120000", b"0160000", b"644", b"170000"]


async def refused_as_odd(site: Site, request: bytes) -> None:
    """By its mode, whether git's own check is strict about it or not."""
    answer = await site.post(request)
    assert b"new entries" in answer.content or b"zeroPaddedFilemode" in answer.content, answer.content


async def test_a_mode_that_git_would_not_write_is_refused_with_a_record(site: Site) -> None:
    for mode in ODD:
        no_file = int(mode, 8) & 0o170000 not in {0o100000, 0o120000}
        request = crafted(site, (mode, b"new.py", SOME_COMMIT if no_file else BODY_ID))
        await unchanged(site, partial(refused_as_odd, site, request))


async def test_a_folder_with_an_odd_mode_is_refused(site: Site) -> None:
    for mode in (b"040000", b"40755", b"40777", b"040755"):
        request = crafted(site, (b"100644", b"new.py", BODY_ID), folder_mode=mode)
        await unchanged(site, partial(refused_as_odd, site, request))


@pytest.mark.parametrize("mode", [b"100644", b"100755"], ids=bytes.decode)
async def test_the_twin_with_a_plain_mode_is_let_in_to_the_byte(site: Site, mode: bytes) -> None:
    answer = await site.post(crafted(site, (mode, b"new.py", BODY_ID)))
    assert b"ok refs/heads/" in answer.content, answer.content
    tree = site.repository[site.refs()[OWN_REF]].peel(pygit2.Commit).tree
    assert rows(site, tree["src"].id)[b"new.py"] == (mode, b"new.py", BODY_ID)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((b"120000", b"new.py", BODY_ID), b"1 symlinks"),
        ((b"120000", b"app.py", BODY_ID), b"1 symlinks"),
        ((b"160000", b"module", SOME_COMMIT), b"1 submodules"),
        ((b"160000", b"app.py", SOME_COMMIT), b"1 submodules"),
    ],
)
async def test_a_new_link_or_submodule_is_refused(site: Site, row: Row, told: bytes) -> None:
    await unchanged(site, partial(refused_push, site, crafted(site, row), told))


async def test_an_empty_folder_is_refused(site: Site) -> None:
    """Of ten of them in ten of them, and so on, a checkout would never end."""
    request = crafted(site, (b"40000", b"nothing", object_id(TREE, b"")), more=((TREE, b""),))
    await unchanged(site, partial(refused_push, site, request, b"empty folders"))


async def test_folders_that_hold_each_other_ten_times_over_end_at_the_bound(site: Site) -> None:
    tree = tree_of((b"100644", b"f", BODY_ID))
    more = [(TREE, tree)]
    for _ in range(12):
        tree = tree_of(*((b"40000", b"%d" % at, object_id(TREE, tree)) for at in range(10)))
        more.append((TREE, tree))
    request = crafted(site, (b"40000", b"big", object_id(TREE, tree)), more=tuple(more))
    await unchanged(site, partial(refused_push, site, request, b"changes too many files"))


# --- what the base has ------------------------------------------------------------------------------------------------


def land_odd(site: Site, *entries: Row) -> None:
    """Main as an old repository may be: written past every check."""
    repository = site.repository
    base = repository.references["refs/heads/main"].peel(pygit2.Commit)
    top = rows(site, base.tree_id)
    src = rows(site, bytes.fromhex(top[b"src"][2])) | {row[1]: row for row in entries}
    repository.odb.write(ObjectType.BLOB, BODY)
    inner = repository.odb.write(ObjectType.TREE, tree_of(*sorted_rows(src)))
    outer = repository.odb.write(ObjectType.TREE, tree_of(*sorted_rows(top | {b"src": (b"40000", b"src", str(inner))})))
    raw = commit_of(str(outer), str(base.id), by=SOMEBODY.name + " <s@example.org>")
    made = repository.odb.write(ObjectType.COMMIT, raw)
    repository.references["refs/heads/main"].set_target(made)
    site.world.base = Commit(str(made))


async def test_links_and_submodules_that_the_base_has_stay(site: Site) -> None:
    land_odd(site, (b"120000", b"link", BODY_ID), (b"160000", b"module", SOME_COMMIT))
    answer = await site.post(crafted(site, (b"100644", b"new.py", BODY_ID)))
    assert b"ok refs/heads/" in answer.content, answer.content


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((b"120000", b"link", object_id(BLOB, b"/etc/passwd")), b"1 symlinks"),
        ((b"160000", b"module", "abcdef1234" * 4), b"1 submodules"),
        ((b"120000", b"module", BODY_ID), b"1 symlinks"),
        ((b"120777", b"link", BODY_ID), b"new entries"),
    ],
)
async def test_a_link_or_submodule_of_the_base_is_not_turned_elsewhere(site: Site, row: Row, told: bytes) -> None:
    land_odd(site, (b"120000", b"link", BODY_ID), (b"160000", b"module", SOME_COMMIT))
    elsewhere = row[2] == object_id(BLOB, b"/etc/passwd")
    request = crafted(site, row, more=((BLOB, b"/etc/passwd"),) if elsewhere else ())
    await unchanged(site, partial(refused_push, site, request, told))


async def test_a_link_may_become_a_file_and_a_submodule_may_go(site: Site) -> None:
    land_odd(site, (b"120000", b"link", BODY_ID))
    answer = await site.post(crafted(site, (b"100644", b"link", BODY_ID)))
    assert b"ok refs/heads/" in answer.content, answer.content


async def test_an_odd_mode_that_main_has_always_had_is_no_fault_of_who_pushes(site: Site) -> None:
    """Git itself writes 100644 for it when it makes the folder anew, and the file is not changed by that."""
    land_odd(site, (b"100664", b"old.py", BODY_ID))
    clone = await site.clone()
    (clone / "src/cart.py").write_text("changed\n")
    await site.commit(clone)
    assert (await site.push(clone)).code == 0
    tree = site.repository[site.refs()[OWN_REF]].peel(pygit2.Commit).tree
    assert rows(site, tree["src"].id)[b"old.py"][0] == b"100644"
    intent = (await site.effects())[-1]
    assert "1 paths written and 0 deleted" in intent.decision.claims[0].text


async def test_an_odd_folder_of_old_history_cannot_be_put_under_a_new_name(site: Site) -> None:
    """The objects are here, and so they need not come again."""
    land_odd(site, (b"120777", b"odd", BODY_ID))
    base = site.repository.references["refs/heads/main"].peel(pygit2.Commit)
    inner = rows(site, base.tree_id)[b"src"][2]
    await unchanged(site, partial(refused_push, site, crafted(site, (b"40000", b"copy", inner)), b"new entries"))


def test_a_tree_is_parsed_to_its_last_byte() -> None:
    raw = tree_of((b"100644", b"a", BODY_ID), (b"40000", b"b c", BODY_ID))
    assert [(one.mode, one.name) for one in parsed(raw)] == [(b"100644", b"a"), (b"40000", b"b c")]
