"""What is hidden is answered to the byte like what does not exist: fetched, had, named in a tree, or built upon."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pygit2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from git_door_kit import (
    COMMIT_OBJECT,
    HARMLESS,
    OWN_REF,
    TREE,
    Site,
    commands,
    commit_of,
    object_id,
    pack_of,
    serving,
    tree_of,
)

from controller.adapters.git_pack import FLUSH, known_only, packet
from controller.adapters.git_trees import entries_of

NOWHERE = "0123456789" * 4
PLAN = "".join(f"line {number} of the secret plan\n" for number in range(400))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


def hidden(site: Site) -> str:
    return site.land({"src/secret_plan.py": PLAN}, branch="agent/other/1")


def lines(*contents: str) -> bytes:
    return b"".join(packet(f"{content}\n".encode()) for content in contents)


async def fetched(site: Site, version: str, *claims: str, want: str = "", before: str = "") -> bytes:
    """The answer to a fetch that claims this, with what names an object or a moment left out."""
    want = want or site.refs()["refs/heads/main"]
    if version == "2":
        head = (
            packet(b"command=fetch")
            + packet(b"object-format=sha1")
            + b"0001"
            + lines("thin-pack", "no-progress", "ofs-delta")
        )
        request = head + lines(f"want {want}", *claims, *([before] if before else [])) + FLUSH
    else:
        request = lines(
            f"want {want} multi_ack_detailed thin-pack ofs-delta no-progress", *([before] if before else [])
        )
        request += FLUSH + lines(*claims)
        request += b"" if claims and claims[-1] == "done" else FLUSH
    headers = {"Git_Protocol": f"version={version}"} if version != "0" else {}
    answer = await site.post(request, "git-upload-pack", **headers)
    assert answer.status_code == 200
    return joined(answer.content) if version == "2" else answer.content


def joined(answer: bytes) -> bytes:
    """The pack in one piece: where it is cut into lines depends on the moment."""
    head, mark, rest = answer.partition(packet(b"packfile\n"))
    pack, at = b"", 0
    while at < len(rest):
        size = max(int(rest[at : at + 4], 16), 4)
        pack += rest[at + 5 : at + size]
        at += size
    return head + mark + pack


@pytest.mark.parametrize("version", ["0", "1", "2"])
@pytest.mark.parametrize("done", [False, True])
async def test_a_commit_that_is_had_is_not_told_to_exist(site: Site, version: str, *, done: bool) -> None:
    secret, end = hidden(site), ("done",) if done else ()
    assert await fetched(site, version, f"have {secret}", *end) == await fetched(site, version, f"have {NOWHERE}", *end)
    assert secret.encode() not in await fetched(site, version, f"have {secret}", *end)


@pytest.mark.parametrize("version", ["0", "2"])
async def test_trees_and_files_that_are_had_are_not_told_to_exist(site: Site, version: str) -> None:
    tree = site.repository[hidden(site)].peel(pygit2.Tree)
    nothing = await fetched(site, version, f"have {NOWHERE}", "done")
    for one in (tree.id, tree["src"].id, tree["src/secret_plan.py"].id):
        assert await fetched(site, version, f"have {one}", "done") == nothing


@pytest.mark.parametrize("version", ["0", "2"])
async def test_a_hidden_commit_said_to_be_shallow_is_not_told_to_exist(site: Site, version: str) -> None:
    secret = hidden(site)
    tree = str(site.repository[secret].peel(pygit2.Tree).id)
    nothing = await fetched(site, version, "done", before=f"shallow {NOWHERE}")
    for one in (secret, tree):
        assert await fetched(site, version, "done", before=f"shallow {one}") == nothing


@pytest.mark.parametrize("version", ["0", "2"])
async def test_a_pack_is_built_on_nothing_that_is_hidden(site: Site, version: str) -> None:
    """The landed file is the hidden one with a line more: a thin pack would hold that line alone."""
    secret = hidden(site)
    site.land({"src/plan.py": PLAN + "one more\n"})
    thin = await fetched(site, version, f"have {secret}", "done")
    whole = await fetched(site, version, f"have {NOWHERE}", "done")
    assert len(thin) == len(whole)
    assert thin == whole


@pytest.mark.parametrize("version", ["0", "2"])
async def test_the_twin_with_a_shown_commit_is_acknowledged(site: Site, version: str) -> None:
    before = site.refs()["refs/heads/main"]
    site.land({"src/plan.py": PLAN})
    answer = await fetched(site, version, f"have {before}")
    assert f"ACK {before}".encode() in answer


@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_a_wanted_hidden_commit_is_refused_like_one_that_does_not_exist(site: Site, version: str) -> None:
    secret = hidden(site)
    said = [await fetched(site, version, "done", want=one) for one in (secret, NOWHERE)]
    assert said[0].replace(secret.encode(), b"") == said[1].replace(NOWHERE.encode(), b"")


def test_only_claims_of_unknown_commits_are_taken_out() -> None:
    known, other = "a" * 40, "b" * 40
    body = (
        lines(f"want {other}", "deepen 3", f"have {known}", f"have {other}", f"shallow {other}") + FLUSH + lines("done")
    )
    left = lines(f"want {other}", "deepen 3", f"have {known}") + FLUSH + lines("done")
    assert known_only(body, {known.encode()}) == left
    assert known_only(left, {known.encode()}) == left


# --- pushes -----------------------------------------------------------------------------------------------------------


def naming(site: Site, blob: str = "", folder: str = "", parent: str = "") -> bytes:
    """A push of a commit whose tree, or whose parents, name this object."""
    base = site.repository.references["refs/heads/main"].peel(pygit2.Commit)
    rows = [(one.mode, one.name, one.id.hex()) for one in entries_of(site.repository, base.tree_id)]
    rows += [(b"100644", b"z.py", blob)] if blob else []
    rows += [(b"40000", b"z", folder)] if folder else []
    tree = tree_of(*sorted(rows, key=lambda row: row[1] + (b"/" if row[0] == b"40000" else b"")))
    parents = [str(base.id), *([parent] if parent else [])]
    commit = commit_of(object_id(TREE, tree), *parents)
    objects = [(COMMIT_OBJECT, commit)] if parent else [(TREE, tree), (COMMIT_OBJECT, commit)]
    return commands((None, object_id(COMMIT_OBJECT, commit), OWN_REF)) + pack_of(*objects)


def alike(answer: bytes) -> bytes:
    return re.sub(rb"[0-9a-f]{40}", b"ID", answer)


async def refused(site: Site, request: bytes) -> bytes:
    refs, objects = site.refs(), site.objects()
    answer = await site.post(request)
    assert b"ng refs/heads/" in answer.content
    assert (site.refs(), site.objects()) == (refs, objects)
    return alike(answer.content)


async def test_a_push_that_names_something_hidden_hears_what_it_hears_of_nothing(site: Site) -> None:
    secret = hidden(site)
    tree = site.repository[secret].peel(pygit2.Tree)
    nothing = await refused(site, naming(site, blob=NOWHERE))
    assert b"1 objects neither came with the push nor are in branches" in nothing
    assert await refused(site, naming(site, blob=str(tree["src/secret_plan.py"].id))) == nothing
    assert await refused(site, naming(site, folder=NOWHERE)) == nothing
    assert await refused(site, naming(site, folder=str(tree["src"].id))) == nothing
    assert await refused(site, naming(site, parent=NOWHERE)) == nothing
    assert await refused(site, naming(site, parent=secret)) == nothing


async def test_a_branch_moved_to_a_hidden_commit_hears_what_it_hears_of_nothing(site: Site) -> None:
    secret = hidden(site)
    said = [await refused(site, commands((None, one, OWN_REF))) for one in (secret, NOWHERE)]
    assert said[0] == said[1]


async def test_objects_that_no_commit_reaches_are_not_brought_along(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    listed = (await site.git("rev-list", "--objects", new, f"^{site.world.base}", at=clone)).text.splitlines()
    (clone / "loose").write_text("for later\n")
    loose = (await site.git("hash-object", "-w", "loose", at=clone)).text.strip()
    names = [line.split()[0] for line in listed]
    said = await refused(site, commands((None, new, OWN_REF)) + await site.pack(clone, *names, loose, options=()))
    assert b"1 objects came that its commits do not reach" in said
    answer = await site.post(commands((None, new, OWN_REF)) + await site.pack(clone, *names, options=()))
    assert b"ok refs/heads/" in answer.content


async def test_a_file_named_as_a_folder_is_refused(site: Site) -> None:
    readme = str(site.repository[site.world.base].peel(pygit2.Tree)["README.md"].id)
    assert b"not whole or not well-formed" in await refused(site, naming(site, folder=readme))
