"""What an agent offers, says and asks back, over a real git forge and through the real gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from belts_kit import DELIVERY, MAIN, OWN, PAGE, SHOP, Belts, called
from facts_kit import sample

from controller.domain import events as e
from controller.domain.delivery import Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.ids import Branch, DeliveryId, EffectKey, Repository, delivery_stream
from controller.domain.verbs import ClosePullRequest
from controller.ports import Allowed, Badge
from tools.belt import NotPossible, Tool
from tools.forge import ForgeBelt
from tools.forge_read import ForgeReadBelt

OTHER = DeliveryId("billing-1a2b3c")


class Lets:
    """The part of a desk that a push asks. What it decides is tested elsewhere."""

    async def may_commit(self, session: str, files: Sequence[str], *, turn: int, index: int) -> Allowed:
        del session, files, turn, index
        return Allowed({}, ())


class Offering(Belts):
    @property
    def tools(self) -> list[Tool]:
        belt = ForgeBelt(
            gate=self.gate,
            desk=Lets(),
            workspaces=self.workspaces,
            log=self.log,
            requests=self.requests,
            repositories=self.repositories,
        )
        return [*belt.tools(), *ForgeReadBelt(self.forge, self.log, PAGE).tools()]

    async def call(self, name: str, badge: Badge, index: int = 0, **arguments: object) -> str:
        return (await called(self.tools, name, badge, index, **arguments)).text

    async def write(self, badge: Badge, text: str) -> None:
        root = await self.workspaces.create(badge.session, SHOP, self.base)
        (root / "shop.py").write_text(text)


@pytest.fixture
def world(tmp_path: Path) -> Offering:
    return Offering(tmp_path)


async def test_a_pull_request_is_opened_for_what_was_pushed_last_and_is_carried_by_nothing(world: Offering) -> None:
    badge = await world.begun()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    await world.write(badge, "second = 2\n")
    await world.call("git_push", badge, 1, branch=OWN)
    told = await world.call("open_pull_request", badge, 2, branch=OWN, title="Add a second", body="It was asked for.")
    pull = await world.forge.pull_request(SHOP, 1)
    assert pull is not None
    assert (pull.head, pull.base) == (await world.forge.tip(SHOP, OWN), MAIN)
    assert "Nothing carries it onward by itself" in told
    assert pull.body == f"It was asked for.\n\nAgent-Role: author\nAgent-Session: {badge.session}\n"
    assert await world.log.read(delivery_stream(DELIVERY)) == []


async def test_the_same_call_after_a_crash_finds_its_pull_request_though_the_branch_has_moved(world: Offering) -> None:
    badge = await world.begun()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    first = await world.call("open_pull_request", badge, 1, branch=OWN, title="Add it")
    await world.write(badge, "second = 2\n")
    await world.call("git_push", badge, 2, branch=OWN)
    assert await world.call("open_pull_request", badge, 1, branch=OWN, title="Add it") == first


async def test_nothing_is_offered_that_this_session_has_not_pushed(world: Offering) -> None:
    badge = await world.begun()
    world.commit(OWN, {"shop.py": "by somebody else\n"})
    with pytest.raises(NotPossible, match="has pushed nothing yet"):
        await world.call("open_pull_request", badge, branch=OWN, title="Not mine")
    assert await world.forge.pull_request_of(SHOP, OWN) is None


async def test_a_branch_that_somebody_else_has_moved_is_neither_pushed_nor_proposed(world: Offering) -> None:
    badge = await world.begun()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    theirs = world.commit(OWN, {"shop.py": "theirs = 1\n"})
    await world.write(badge, "second = 2\n")
    assert "is not where it was expected" in await world.call("git_push", badge, 1, branch=OWN)
    assert "is not at" in await world.call("open_pull_request", badge, 2, branch=OWN, title="Add it")
    assert await world.forge.tip(SHOP, OWN) == theirs
    assert await world.forge.pull_request_of(SHOP, OWN) is None


async def test_a_comment_says_which_agent_speaks_and_is_made_once(world: Offering) -> None:
    author = await world.begun()
    await world.write(author, "first = 1\n")
    await world.call("git_push", author, 0, branch=OWN)
    await world.call("open_pull_request", author, 1, branch=OWN, title="Add it")
    badge = await world.visited("on-call", "forge:write")
    for _ in range(2):
        await world.call("comment", badge, 0, number=1, text="The canary is slow.")
    pull = await world.forge.pull_request(SHOP, 1)
    assert pull is not None
    said = f"The canary is slow.\n\nAgent-Role: on-call\nAgent-Session: {badge.session}\n"
    assert [one.text for one in pull.comments] == [said]
    assert "no such pull request" in await world.call("comment", badge, 1, number=7, text="Hello?")


async def test_a_role_without_the_verb_is_refused_by_the_gate_though_its_call_came_through(world: Offering) -> None:
    author = await world.begun()
    with pytest.raises(NotPossible, match=r"forge\.comment was refused"):
        await world.call("comment", author, number=1, text="I may not")


async def test_a_long_pull_request_is_read_page_by_page_and_nothing_is_left_out(world: Offering) -> None:
    badge = await world.begun()
    await world.asked()
    lines = [f"line_{number} = 'ä' * {number}" for number in range(200)]
    await world.write(badge, "\n".join(lines) + "\n")
    await world.call("git_push", badge, 0, branch=OWN)
    await world.call("open_pull_request", badge, 1, branch=OWN, title="Add lines")
    head = await world.forge.tip(SHOP, OWN)
    assert head is not None
    await world.proposed(DELIVERY, head, head, run="run-1")
    text, offset, pages = "", 0, 0
    while offset >= 0:
        page = await world.call("read_pull_request", badge, branch=OWN, offset=offset)
        assert len(page.encode()) <= PAGE
        first, _, rest = page.partition("\n")
        assert first == f"#1 open: {OWN} at {head[:12]}, for main; delivery {DELIVERY} is PROPOSED"
        body, _, note = rest.rpartition("\n[bytes ")
        text, pages = f"{text}{body or rest}\n", pages + 1
        offset = int(note.rstrip("]").rpartition(" ")[2]) if body else -1
    assert pages >= 3
    assert "1 files, 202 lines since" in text
    assert [line for line in text.splitlines() if line.startswith("+line")] == [f"+{line}" for line in lines]
    with pytest.raises(NotPossible, match="there is no byte 999999"):
        await world.call("read_pull_request", badge, branch=OWN, offset=999_999)


async def test_a_closed_pull_request_of_a_delivery_is_still_read_and_a_branch_without_one_is_not(
    world: Offering,
) -> None:
    badge = await world.begun()
    await world.asked()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    await world.call("open_pull_request", badge, 1, branch=OWN, title="Add it")
    head = await world.forge.tip(SHOP, OWN)
    assert head is not None
    await world.proposed(DELIVERY, head, head, run="run-1")
    await world.forge.act(EffectKey("close"), ClosePullRequest(repository=SHOP, number=1, reason="given up"))
    assert (await world.call("read_pull_request", badge, branch=OWN)).startswith("#1 closed: ")
    with pytest.raises(NotPossible, match="there is no pull request of agent/shop-1a2b3c/9"):
        await world.call("read_pull_request", badge, branch="agent/shop-1a2b3c/9")
    with pytest.raises(NotPossible, match="there is no pull request of main"):
        await world.call("read_pull_request", badge, branch="main")


async def test_a_revert_is_asked_for_as_a_delivery_of_its_own(world: Offering) -> None:
    await world.merged()
    badge = await world.visited("on-call", "forge:write")
    told = await world.call("request_revert", badge, 0, delivery=DELIVERY, reason="users complain")
    undo = DeliveryId(f"{DELIVERY}-undo")
    assert told.startswith(f"Asked for: {undo} takes back {DELIVERY}.")
    entries = await world.log.read(delivery_stream(undo))
    asked = fold_delivery(undo, entries).asked
    assert (asked.cause, asked.bad_commit, asked.asked_by) == (e.Cause.REVERT, world.base, badge.principal)
    assert (entries[0].principal, entries[0].on_behalf_of) == (badge.principal, "person:0123456789ab")
    assert await world.seals.open(asked.task) == "Revert: Add a total\n\nusers complain"
    assert await world.call("request_revert", badge, 0, delivery=DELIVERY, reason="users complain") == told
    with pytest.raises(NotPossible, match=f"asked for already: it is {undo}, and NEW"):
        await world.call("request_revert", badge, 1, delivery=DELIVERY, reason="once more")


async def test_what_has_not_merged_is_taken_back_or_is_another_repositorys_is_not_reverted(world: Offering) -> None:
    badge = await world.visited("on-call", "forge:write")
    await world.asked()
    await world.asked(OTHER, Repository("billing"))
    with pytest.raises(NotPossible, match="is ACCEPTED and has not merged"):
        await world.call("request_revert", badge, delivery=DELIVERY, reason="no")
    for unknown in (OTHER, "shop-ffffff"):
        with pytest.raises(NotPossible, match="there is no such delivery in shop"):
            await world.call("request_revert", badge, delivery=unknown, reason="no")
    revert = DeliveryId(f"{DELIVERY}-revert")
    await world.merged(revert, cause=e.Cause.REVERT)
    with pytest.raises(NotPossible, match="is a revert itself"):
        await world.call("request_revert", badge, delivery=revert, reason="no")


async def test_what_regressed_is_taken_back_by_the_loop_and_not_by_an_agent(world: Offering) -> None:
    badge = await world.visited("on-call", "forge:write")
    await world.merged()
    joined, gone = sample(e.RolloutJoined), sample(e.DeliveryRegressed)
    await world.add(delivery_stream(DELIVERY), joined, gone)
    with pytest.raises(NotPossible, match="it is being taken back already"):
        await world.call("request_revert", badge, delivery=DELIVERY, reason="quick")
    state = fold_delivery(DELIVERY, await world.log.read(delivery_stream(DELIVERY)))
    assert state.phase is Phase.REGRESSED
    assert await world.log.stream(delivery_stream(DeliveryId(f"{DELIVERY}-undo"))) is None


async def test_a_branch_of_another_session_is_nobodys_to_propose(world: Offering) -> None:
    badge = await world.begun()
    with pytest.raises(NotPossible, match="this session's own branch is"):
        await world.call("open_pull_request", badge, branch=Branch("agent/shop-1a2b3c/2"), title="Not mine")


# --- secrets ----------------------------------------------------------------------------------------------------------

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"[:36]


async def test_no_secret_goes_out_in_a_pull_request_or_a_comment(world: Offering) -> None:
    badge = await world.begun()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    words = {"title": f"Add it with {TOKEN}", "body": f"It was asked for.\n\nexport GITHUB_TOKEN={TOKEN}"}
    await world.call("open_pull_request", badge, 1, branch=OWN, **words)
    helper = await world.visited("on-call", "forge:write")
    await world.call("comment", helper, 0, number=1, text=f"use {TOKEN} for it")
    pull = await world.forge.pull_request(SHOP, 1)
    assert pull is not None
    said = f"{pull.title}\n{pull.body}\n{pull.comments}"
    assert TOKEN not in said
    assert said.count("[secret:github-token:") == 3
    assert "Add it with [secret:github-token:" in pull.title
    assert TOKEN.encode() not in b"".join([entry.leaf async for entry in world.log.scan()])


async def test_words_without_a_secret_go_out_as_they_are(world: Offering) -> None:
    badge = await world.begun()
    await world.write(badge, "first = 1\n")
    await world.call("git_push", badge, 0, branch=OWN)
    await world.call("open_pull_request", badge, 1, branch=OWN, title="Rename ghp_ helpers", body="See 3f2a9c1d.")
    pull = await world.forge.pull_request(SHOP, 1)
    assert pull is not None
    assert (pull.title, pull.body.splitlines()[0]) == ("Rename ghp_ helpers", "See 3f2a9c1d.")
