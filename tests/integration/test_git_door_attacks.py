"""Pushes made to get past the git door: every ref stays, no object is kept, and the log has one refusal each."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import AT, DELIVERY, OWN
from git_door_kit import HARMLESS, OWN_REF, SOMEBODY, Site, commands, refused_push, serving, unchanged


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


REFS_OF_OTHERS = [
    "refs/heads/main",
    "refs/heads/Main",
    "refs/heads/MAIN",
    "refs/heads/../main",
    "refs/heads/agent/../main",
    "refs/heads//main",
    "refs/heads/refs/heads/main",
    "HEAD",
    "main",
    "refs/for/main",
    "refs/tags/v1",
    "refs/notes/commits",
    "refs/replace/1",
    "refs/flyball/pulls/1",
    "refs/heads/agent/other/1",
    f"refs/heads/agent/{DELIVERY}",
    f"refs/heads/AGENT/{DELIVERY}/1",
    f"refs/heads/agent/{DELIVERY}/1/more",
    f"refs/heads/agent/{DELIVERY}/1.lock",
    f"refs/heads/agent/{DELIVERY}/\u0661",
    "refs/heads/" + "a" * 300,
]


async def test_no_ref_but_the_deliverys_own_can_be_moved(site: Site) -> None:
    site.land({"src/cart.py": "theirs\n"}, branch="agent/other/1")
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    pack = await site.pack(clone, new, f"^{site.world.base}")
    for ref in REFS_OF_OTHERS:
        request = commands((site.refs().get(ref), new, ref)) + pack
        await unchanged(site, partial(refused_push, site, request, b"ng "))


async def test_real_git_is_told_why_main_does_not_move(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    await site.commit(clone)

    async def act() -> None:
        said = await site.push(clone, "HEAD:main")
        assert "[remote rejected]" in said.text
        assert "is not this session's; its own branch is" in said.text

    await unchanged(site, act)


@pytest.mark.parametrize("second", ["refs/heads/main", OWN_REF, "refs/tags/v1"])
async def test_second_branch_in_one_push_refuses_both(site: Site, second: str) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    pack = await site.pack(clone, new, f"^{site.world.base}")

    async def act() -> None:
        answer = await site.post(commands((None, new, OWN_REF), (None, new, second)) + pack)
        assert answer.content.count(b"ng refs/") == 2

    await unchanged(site, act)


async def test_branch_is_not_deleted(site: Site) -> None:
    at = site.land({"src/cart.py": "begun\n"}, branch=OWN)
    clone = await site.clone()
    assert (await site.push(clone, f":{OWN_REF}")).code != 0  # git itself: the server says it deletes nothing

    async def act() -> None:
        answer = await site.post(commands((at, None, OWN_REF)))
        assert b"a push deletes nothing" in answer.content

    await unchanged(site, act)


async def test_unrelated_history_is_refused(site: Site) -> None:
    clone = await site.clone()
    assert (await site.git("checkout", "--quiet", "--orphan", "other", at=clone)).code == 0
    await site.commit(clone)

    async def act() -> None:
        assert "does not begin in the protected branch" in (await site.push(clone, f"HEAD:{OWN_REF}")).text

    await unchanged(site, act)


async def test_tree_that_names_a_hidden_object_is_refused(site: Site) -> None:
    """Or else its content could be fetched by whoever knows its id."""
    hidden = site.land({"src/secret_plan.py": "plan\n"}, branch="agent/other/1")
    plan = site.repository[hidden].peel(pygit2.Tree)["src/secret_plan.py"].id
    clone = await site.clone()
    repository = pygit2.Repository(str(clone))
    folder = repository.TreeBuilder(repository.head.peel(pygit2.Tree)["src"].id)
    repository.odb.write(pygit2.enums.ObjectType.BLOB, b"plan\n")  # only so that libgit2 lets the tree be written
    folder.insert("mine.py", plan, FileMode.BLOB)
    inner = folder.write()
    top = repository.TreeBuilder(repository.head.peel(pygit2.Tree))
    top.insert("src", inner, FileMode.TREE)
    tree, who = top.write(), SOMEBODY.signed(AT)
    new = repository.create_commit(None, who, who, "smuggled", tree, [repository.head.target])
    pack = await site.pack(clone, *map(str, (new, tree, inner)), options=())

    async def act() -> None:
        answer = await site.post(commands((None, str(new), OWN_REF)) + pack)
        assert b"1 objects neither came with the push nor are in branches" in answer.content

    await unchanged(site, act)


async def test_file_put_back_from_older_history_need_not_come_again(site: Site) -> None:
    old = HARMLESS["src/cart.py"]
    site.land({"src/cart.py": "two\n"})
    site.land({"src/cart.py": "three\n"})
    clone = await site.clone()
    (clone / "src/cart.py").write_text(old)
    new = await site.commit(clone)
    blob = (await site.git("rev-parse", "HEAD:src/cart.py", at=clone)).text.strip()
    listed = (await site.git("rev-list", "--objects", "HEAD", "^origin/main", at=clone)).text.splitlines()
    pack = await site.pack(clone, *(line for line in listed if not line.startswith(blob)), options=())
    answer = await site.post(commands((None, new, OWN_REF)) + pack)
    assert b"ok refs/heads/" in answer.content
    assert site.refs()[OWN_REF] == new


async def test_pack_built_on_objects_that_did_not_come_is_refused(site: Site) -> None:
    site.land({"src/long.txt": "".join(f"line {number}\n" for number in range(2_000))})
    clone = await site.clone()
    with (clone / "src/long.txt").open("a") as file:
        file.write("one more\n")
    new = await site.commit(clone)
    main = site.refs()["refs/heads/main"]
    thin = await site.pack(clone, new, f"^{main}", options=("--revs", "--thin"))

    async def act() -> None:
        answer = await site.post(commands((None, new, OWN_REF)) + thin)
        assert b"unresolved delta" in answer.content

    await unchanged(site, act)


@pytest.mark.parametrize("spoil", [lambda pack: pack[:-25], lambda pack: pack[:40] + b"x" + pack[41:], lambda _: b"?"])
async def test_broken_pack_is_refused(site: Site, spoil: Callable[[bytes], bytes]) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    pack = await site.pack(clone, new, f"^{site.world.base}")

    async def act() -> None:
        answer = await site.post(commands((None, new, OWN_REF)) + spoil(pack))
        assert b"not whole or not well-formed" in answer.content

    await unchanged(site, act)
