"""What the git door lets in, and what a refused push leaves behind: nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import OWN, SESSION, STREAM
from git_door_kit import HARMLESS, HOST, OWN_REF, Site, commands, serving, unchanged

from controller.adapters.git_pack import FLUSH, packet
from controller.adapters.git_receive import PushLimits
from controller.domain.effect import EffectState, fold
from controller.domain.ids import effect_stream


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


async def test_push_moves_the_own_branch_through_the_gate(site: Site) -> None:
    hook = site.bare / "hooks" / "post-update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {site.folder}/hook-ran\n")
    hook.chmod(0o755)
    clone = await site.clone()
    (clone / "src/cart.py").write_text("def total(prices):\n    return sum(prices, 0)\n")
    (clone / "tests/test_cart.py").unlink()
    new = await site.commit(clone)
    said = await site.push(clone)
    assert said.code == 0, said.text
    assert site.refs()[OWN_REF] == new
    (intent,) = await site.effects()
    assert intent.key.startswith(f"agent/{SESSION}/git/")
    assert (intent.subject, intent.agent) == (STREAM, "contributor")
    assert "1 paths written and 1 deleted in 1 commits" in intent.decision.claims[0].text
    assert not (site.folder / "hook-ran").exists()
    first = (await site.world.log.read(effect_stream(intent.key)))[0]
    assert (first.principal, first.on_behalf_of) == (f"agent:contributor/{SESSION}", "person:0123456789ab")


async def test_force_push_over_the_own_branch_is_allowed(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("one\n")
    await site.commit(clone)
    assert (await site.push(clone)).code == 0
    assert (await site.git("commit", "--quiet", "--amend", "-m", "better", at=clone)).code == 0
    assert (await site.push(clone)).code != 0  # git itself: no fast-forward
    said = await site.push(clone, f"+HEAD:{OWN_REF}")
    assert said.code == 0, said.text
    assert site.refs()[OWN_REF] == (await site.git("rev-parse", "HEAD", at=clone)).text.strip()


async def test_merging_what_others_landed_is_no_change_of_ones_own(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    await site.commit(clone)
    assert (await site.push(clone)).code == 0
    site.land({".github/workflows/ci.yml": "on: pull_request\n", "other/file.txt": "theirs\n"})
    assert (await site.git("pull", "--quiet", "--no-rebase", "--no-edit", "origin", "main", at=clone)).code == 0
    said = await site.push(clone)
    assert said.code == 0, said.text
    assert await site.refused() == []


async def test_merge_that_drops_what_others_landed_is_one(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    await site.commit(clone)
    site.land({".github/workflows/ci.yml": "on: pull_request\n"})
    assert (await site.git("fetch", "--quiet", at=clone)).code == 0
    assert (await site.git("merge", "--quiet", "-s", "ours", "--no-edit", "origin/main", at=clone)).code == 0

    async def act() -> None:
        said = await site.push(clone)
        assert "path-never-granted" in said.text

    await unchanged(site, act)


async def test_large_push_within_the_bounds_is_streamed_in(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/data.bin").write_bytes(os.urandom(3 * 1024 * 1024))  # more than git sends at once
    new = await site.commit(clone)
    said = await site.push(clone)
    assert said.code == 0, said.text
    assert site.refs()[OWN_REF] == new


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (PushLimits(pack_bytes=200_000), "too large"),
        (PushLimits(unfolded_bytes=200_000), "too large"),
        (PushLimits(objects=2), "too many objects"),
        (PushLimits(commits=1), "too many commits"),
        (PushLimits(files=1), "too many files"),
    ],
)
async def test_push_over_a_bound_is_refused(tmp_path: Path, limits: PushLimits, fault: str) -> None:
    async with serving(Site(tmp_path, limits)) as site:
        await site.begin(HARMLESS)
        clone = await site.clone()
        (clone / "src/data.bin").write_bytes(os.urandom(2 * 1024 * 1024))
        await site.commit(clone)
        (clone / "src/cart.py").write_text("more\n")
        await site.commit(clone)

        async def act() -> None:
            said = await site.push(clone)
            assert said.code != 0
            assert fault in said.text

        await unchanged(site, act)


def _link(clone: Path) -> None:
    (clone / "src/link.py").symlink_to("/etc/passwd")


def _write(path: str, text: str = "x\n") -> Callable[[Path], None]:
    def write(clone: Path) -> None:
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)

    return write


def _submodule(clone: Path) -> None:
    repository = pygit2.Repository(str(clone))
    repository.index.add(pygit2.IndexEntry("src/module", repository.head.peel(pygit2.Commit).id, FileMode.COMMIT))
    repository.index.write()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_link, "1 symlinks"),
        (_submodule, "1 submodules"),
        (_write("src/.gitmodules", ""), "1 submodules"),
        (_write(".github/workflows/ci.yml"), "path-never-granted"),
        (_write(".GitHub/workflows/other.yml"), "path-never-granted"),
        (_write("src/payments/card.py"), "protected-path"),
        (_write("src/.env"), "path-never-granted"),
        (_write("deploy/run.sh"), "outside-the-task"),
        (_write("src/a\u202eb.py"), "path/characters"),
        (_write("src/-rf"), "path/segment-edges"),
    ],
)
async def test_what_no_push_may_touch_is_refused_with_its_rule(
    site: Site, change: Callable[[Path], None], told: str
) -> None:
    clone = await site.clone()
    change(clone)
    if change is _submodule:
        assert (await site.git("commit", "--quiet", "-m", "module", at=clone)).code == 0
    else:
        await site.commit(clone)

    async def act() -> None:
        said = await site.push(clone)
        assert said.code != 0
        assert told in said.text

    await unchanged(site, act)


async def test_agents_commit_with_a_sign_off_is_refused_in_words(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("one\n")
    await site.commit(clone)
    signed = await site.git(
        "commit", "--quiet", "--amend", "-m", "better\n\nSigned-off-by: A <a@example.org>", at=clone
    )
    assert signed.code == 0
    said = await site.push(clone)
    assert said.code != 0
    assert "agents never sign off" in said.text
    assert OWN_REF not in site.refs()


async def test_file_that_a_later_commit_takes_back_was_pushed_all_the_same(site: Site) -> None:
    clone = await site.clone()
    _write(".github/workflows/steal.yml")(clone)
    await site.commit(clone)
    (clone / ".github/workflows/steal.yml").unlink()
    await site.commit(clone)

    async def act() -> None:
        assert "path-never-granted" in (await site.push(clone)).text

    await unchanged(site, act)


async def test_many_files_are_decided_together(site: Site) -> None:
    clone = await site.clone()
    for number in range(60):
        _write(f"src/part_{number}.py")(clone)
    await site.commit(clone)
    assert (await site.push(clone)).code == 0
    _write("src/payments/card.py")(clone)
    for number in range(60):
        _write(f"src/part_{number}.py", "other\n")(clone)
    await site.commit(clone)

    async def act() -> None:
        assert 'src/payments/card.py" is protected in this repository' in (await site.push(clone)).text

    await unchanged(site, act)


async def test_concurrent_pushes_have_one_winner(site: Site) -> None:
    clones = [await site.clone(f"clone-{number}") for number in range(4)]
    made = []
    for number, clone in enumerate(clones):
        (clone / "src/cart.py").write_text(f"{number}\n")
        made.append(await site.commit(clone, f"by {number}"))
    said = await asyncio.gather(*(site.push(clone) for clone in clones))
    won = [commit for commit, one in zip(made, said, strict=True) if one.code == 0]
    assert [site.refs()[OWN_REF]] == won
    assert await site.refused() == []


async def test_push_repeated_after_a_lost_answer_is_told_that_it_is_done(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    request = commands((None, new, OWN_REF)) + await site.pack(clone, new, f"^{site.world.base}")
    answers = [await site.post(request) for _ in range(3)]
    assert {answer.content for answer in answers} == {
        packet(b"unpack ok\n") + packet(f"ok {OWN_REF}\n".encode()) + FLUSH
    }
    (intent,) = await site.effects()
    assert fold(intent.key, await site.world.log.read(effect_stream(intent.key))).state is EffectState.DONE


async def test_same_push_after_the_branch_was_put_back_is_another_effect(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("one\n")
    one = await site.commit(clone)
    (clone / "src/cart.py").write_text("two\n")
    two = await site.commit(clone)
    pack = await site.pack(clone, two, f"^{site.world.base}")
    forth, back = commands((one, two, OWN_REF)) + pack, commands((two, one, OWN_REF)) + pack
    begun = commands((None, one, OWN_REF)) + await site.pack(clone, one, f"^{site.world.base}")
    assert b"ok refs/" in (await site.post(begun)).content
    for request, expected in ((forth, two), (back, one), (forth, two), (back, one)):
        assert b"ok refs/" in (await site.post(request)).content
        assert site.refs()[OWN_REF] == expected
    assert len({intent.key for intent in await site.effects()}) == 5


async def test_push_onto_a_branch_that_has_moved_is_told_to_fetch(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("mine\n")
    new = await site.commit(clone)
    site.land({"src/cart.py": "meanwhile\n"}, branch=OWN)
    objects = site.objects()
    answer = await site.post(commands((None, new, OWN_REF)) + await site.pack(clone, new, f"^{site.world.base}"))
    assert b"fetch first" in answer.content
    assert site.objects() == objects


async def test_client_that_hangs_up_in_the_middle_leaves_nothing(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/data.bin").write_bytes(os.urandom(500_000))
    new = await site.commit(clone)
    whole = commands((None, new, OWN_REF)) + await site.pack(clone, new, f"^{site.world.base}")
    refs, objects = site.refs(), site.objects()
    _, writer = await asyncio.open_connection(HOST, site.port)
    head = (
        f"POST /git/shop.git/git-receive-pack HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n"
        f"Authorization: Bearer {site.token}\r\nContent-Type: application/x-git-receive-pack-request\r\n"
        f"Content-Length: {len(whole)}\r\n\r\n"
    )
    writer.write(head.encode() + whole[:200_000])
    await writer.drain()
    await asyncio.wait_for(site.plumbing.begun.wait(), 10)
    writer.close()
    await asyncio.wait_for(site.plumbing.over.wait(), 10)
    assert site.left_over() == []
    assert (site.refs(), site.objects()) == (refs, objects)
