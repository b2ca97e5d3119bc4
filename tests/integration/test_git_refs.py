"""Refs that move together under real processes that die at the worst instant."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from controller.adapters.git import GitForge
from controller.adapters.git_pulls import Pull, PullState
from controller.adapters.git_refs import JOURNAL, RefMove, writing
from controller.adapters.git_store import FLYBALL, Store, create_bare, ref_value
from controller.domain.ids import Branch, Commit, EffectKey, Repository
from controller.domain.verbs import LandCommit, OpenPullRequest, PullRequest, PushBranch
from controller.errors import Unavailable
from controller.ports import Candidate

SHOP, MAIN, TOPIC = Repository("shop"), Branch("main"), Branch("agent/shop-1/1")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPAWN = multiprocessing.get_context("spawn")
DIE_WITH_LOCKS_HELD = '#!/bin/sh\n[ "$1" = prepared ] && kill -9 $PPID\nexit 0\n'


class StoppedClock:
    def now(self) -> datetime:
        return AT

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@dataclass(frozen=True)
class Shop:
    """A forge with one repository, whose main branch has one commit."""

    forge: GitForge
    path: Path
    start: Commit

    def tip(self) -> Commit | None:
        return ref_value(self.forge.store.open(SHOP), "refs/heads/main")

    def locks(self) -> list[str]:
        return sorted(str(lock.relative_to(self.path)) for lock in self.path.rglob("*.lock"))

    async def proposed(self, branch: Branch, base: Commit) -> tuple[PullRequest, Commit]:
        """An open pull request from `base` with one more (empty) commit, and the commit that would land it."""
        made = await self.forge.merge(SHOP, base, base, f"work on {branch}", AT)
        assert isinstance(made, Candidate)
        await self.forge.act(
            EffectKey(f"push/{branch}"), PushBranch(repository=SHOP, branch=branch, commit=made.commit, expect=None)
        )
        opened = await self.forge.act(EffectKey(f"open/{branch}"), opening(branch, made.commit))
        landed = await self.forge.merge(SHOP, base, made.commit, f"merge {branch}", AT)
        assert isinstance(opened, PullRequest)
        assert isinstance(landed, Candidate)
        return opened, landed.commit

    async def pull(self, number: int) -> Pull:
        found = await self.forge.pull_request(SHOP, number)
        assert found is not None
        return found


def opening(branch: Branch, head: Commit) -> OpenPullRequest:
    return OpenPullRequest(repository=SHOP, branch=branch, head=head, base=MAIN, title="t", body="b")


def landing(expect: Commit, commit: Commit, number: int) -> LandCommit:
    return LandCommit(repository=SHOP, branch=MAIN, expect=expect, commit=commit, pull_requests=(number,))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    forge = GitForge(tmp_path, StoppedClock())
    path = forge.store.path(SHOP)
    create_bare(path, MAIN)
    repo, who = forge.store.open(SHOP), FLYBALL.signed(AT)
    start = repo.create_commit("refs/heads/main", who, who, "start", repo.TreeBuilder().write(), [])
    return Shop(forge, path, Commit(str(start)))


def git_dies_with_locks_held(shop: Shop) -> None:
    """From now on git is killed after it has locked all refs and before it moves the first."""
    hook = shop.path / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(DIE_WITH_LOCKS_HELD)
    hook.chmod(0o755)
    configure(shop, "core.hooksPath", str(hook.parent))


def git_lives(shop: Shop) -> None:
    configure(shop, "core.hooksPath", "/dev/null")


def configure(shop: Shop, key: str, value: str) -> None:
    plain_git(shop, "config", key, value)


def plain_git(shop: Shop, *arguments: str) -> None:
    subprocess.run(["git", "--git-dir", str(shop.path), *arguments], check=True)


# --- killed ----------------------------------------------------------------------------------------


async def test_a_landing_killed_before_the_first_ref_moved_has_not_happened(shop: Shop) -> None:
    pull, commit = await shop.proposed(TOPIC, shop.start)
    verb = landing(shop.start, commit, pull.number)
    git_dies_with_locks_held(shop)
    with pytest.raises(Unavailable, match="killed"):
        await shop.forge.act(EffectKey("land"), verb)
    assert "refs/heads/main.lock" in shop.locks()
    assert shop.tip() == shop.start
    git_lives(shop)
    assert await shop.forge.find(EffectKey("land"), verb) is None
    await shop.forge.act(EffectKey("land"), verb)
    assert shop.tip() == commit
    assert (await shop.pull(pull.number)).state is PullState.MERGED
    assert shop.locks() == []
    assert not (shop.path / JOURNAL).exists()


async def test_a_landing_killed_between_two_refs_is_finished_by_whoever_writes_next(shop: Shop) -> None:
    """The half-moved state is made by doing what git does next: renaming the first of its lock files."""
    pull, commit = await shop.proposed(TOPIC, shop.start)
    other, _ = await shop.proposed(Branch("agent/shop-2/1"), shop.start)
    git_dies_with_locks_held(shop)
    with pytest.raises(Unavailable):
        await shop.forge.act(EffectKey("land"), landing(shop.start, commit, pull.number))
    git_lives(shop)
    (shop.path / "refs/heads/main.lock").rename(shop.path / "refs/heads/main")
    assert shop.tip() == commit
    assert (await shop.pull(pull.number)).state is PullState.OPEN
    await shop.forge.act(EffectKey("open/again"), opening(Branch("agent/shop-2/1"), other.head))
    assert (await shop.pull(pull.number)).state is PullState.MERGED
    assert (await shop.pull(other.number)).state is PullState.OPEN
    assert shop.locks() == []


def land_until_killed(root: Path, start: Commit, rounds: int, progress: Connection) -> None:
    async def land() -> None:
        forge = GitForge(root, StoppedClock())
        shop = Shop(forge, forge.store.path(SHOP), start)
        for n in itertools.count():
            tip = shop.tip()
            assert tip is not None
            pull, commit = await shop.proposed(Branch(f"agent/shop-{rounds}-{n}/1"), tip)
            progress.send(pull.number)
            await forge.act(EffectKey(f"land/{rounds}/{n}"), landing(tip, commit, pull.number))

    asyncio.run(land())


async def test_a_branch_and_its_pull_requests_agree_after_a_kill_at_any_instant(shop: Shop) -> None:
    chance = random.Random(20260301)
    for rounds in range(4):
        ours, theirs = SPAWN.Pipe(duplex=False)
        child = SPAWN.Process(target=land_until_killed, args=(shop.forge.store.root, shop.start, rounds, theirs))
        child.start()
        numbers = []
        for _ in range(chance.randint(1, 4)):
            assert ours.poll(60)
            numbers.append(ours.recv())
        ours.poll(chance.uniform(0, 0.02))
        child.kill()
        child.join(60)
        await shop.proposed(Branch(f"agent/shop-after-{rounds}/1"), shop.start)
        assert shop.locks() == []
        for number in range(1, numbers[-1] + 1):
            pull, tip = await shop.pull(number), shop.tip()
            assert tip is not None
            landed = await shop.forge.contains(SHOP, tip, pull.head)
            assert landed is (pull.state is PullState.MERGED), f"pull request {number}, round {rounds}"


# --- racing ----------------------------------------------------------------------------------------


def open_one(root: Path, branch: Branch, head: Commit, key: str, told: Connection) -> None:
    forge = GitForge(root, StoppedClock())
    opened = asyncio.run(forge.act(EffectKey(key), opening(branch, head)))
    assert isinstance(opened, PullRequest)
    told.send(opened.number)


async def test_openers_in_different_processes_share_one_pull_request_of_a_branch(shop: Shop) -> None:
    made = await shop.forge.merge(SHOP, shop.start, shop.start, "work", AT)
    assert isinstance(made, Candidate)
    branches = [TOPIC, TOPIC, Branch("agent/shop-2/1"), Branch("agent/shop-3/1")]
    for branch in branches:
        push = PushBranch(repository=SHOP, branch=branch, commit=made.commit, expect=None)
        await shop.forge.act(EffectKey("push"), push)
    ours, theirs = SPAWN.Pipe(duplex=False)
    openers = [
        SPAWN.Process(target=open_one, args=(shop.forge.store.root, branch, made.commit, f"open/{n}", theirs))
        for n, branch in enumerate(branches)
    ]
    for opener in openers:
        opener.start()
    for opener in openers:
        await asyncio.to_thread(opener.join, 60)
    numbers = [ours.recv() for _ in openers if ours.poll(1)]
    assert sorted(set(numbers)) == [1, 2, 3]
    assert len(numbers) == 4
    assert await shop.forge.pull_request_of(SHOP, TOPIC) in numbers


async def test_somebody_who_pushes_past_the_lock_with_plain_git_is_not_overwritten(shop: Shop) -> None:
    pull, commit = await shop.proposed(TOPIC, shop.start)
    theirs = await shop.forge.merge(SHOP, shop.start, shop.start, "theirs", AT)
    assert isinstance(theirs, Candidate)
    with writing(shop.path) as writer:
        plain_git(shop, "update-ref", "refs/heads/main", theirs.commit)
        other = RefMove("refs/heads/other", None, commit)
        with pytest.raises(Unavailable, match="moved while"):
            writer.move([other, RefMove("refs/heads/main", shop.start, commit)])
    assert shop.tip() == theirs.commit
    assert await shop.forge.tip(SHOP, Branch("other")) is None
    assert (await shop.pull(pull.number)).state is PullState.OPEN
    assert not (shop.path / JOURNAL).exists()


async def test_a_lock_that_plain_git_holds_is_respected(shop: Shop) -> None:
    pull, commit = await shop.proposed(TOPIC, shop.start)
    (shop.path / "refs/heads/main.lock").touch()
    with pytest.raises(Unavailable, match=r"main\.lock"):
        await shop.forge.act(EffectKey("land"), landing(shop.start, commit, pull.number))
    assert shop.locks() == ["refs/heads/main.lock"]
    assert shop.tip() == shop.start


async def test_a_writer_that_is_locked_out_gives_up_before_its_deadline(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.adapters.git_refs.LOCK_WAIT_S", 0.05)
    pull, commit = await shop.proposed(TOPIC, shop.start)
    with writing(shop.path), pytest.raises(Unavailable, match="locked"):
        await shop.forge.act(EffectKey("land"), landing(shop.start, commit, pull.number))


# --- kept ------------------------------------------------------------------------------------------


async def test_a_candidate_that_no_ref_names_survives_a_collection_of_garbage(shop: Shop) -> None:
    made = await shop.forge.merge(SHOP, shop.start, shop.start, "candidate", AT)
    assert isinstance(made, Candidate)
    plain_git(shop, "gc", "--quiet")
    assert await shop.forge.contains(SHOP, made.commit, shop.start)


async def test_packed_refs_move_like_loose_ones(shop: Shop) -> None:
    pull, commit = await shop.proposed(TOPIC, shop.start)
    plain_git(shop, "pack-refs", "--all", "--prune")
    await shop.forge.act(EffectKey("land"), landing(shop.start, commit, pull.number))
    second, _ = await shop.proposed(Branch("agent/shop-2/1"), commit)
    assert (await shop.pull(pull.number)).state is PullState.MERGED
    assert second.number == pull.number + 1


async def test_the_forge_is_all_in_its_repository(shop: Shop, tmp_path: Path) -> None:
    pull, commit = await shop.proposed(TOPIC, shop.start)
    await shop.forge.act(EffectKey("land"), landing(shop.start, commit, pull.number))
    shutil.copytree(shop.path, tmp_path / "moved" / "shop.git")
    moved = GitForge(tmp_path / "moved", StoppedClock())
    assert await moved.pull_request(SHOP, pull.number) == await shop.pull(pull.number)
    head = ref_value(Store(tmp_path / "moved").open(SHOP), f"refs/pull/{pull.number}/head")
    assert head == pull.head
