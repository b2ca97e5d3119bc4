"""What every forge promises the loop, embedded, simulated or hosted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from worlds import AT, MAIN, REPOSITORY, ForgeWorld

from controller.domain.ids import Branch, Commit, EffectKey
from controller.domain.verbs import (
    ClosePullRequest,
    CommentOnPullRequest,
    LandCommit,
    Ok,
    OpenPullRequest,
    PullRequest,
    PushBranch,
    Verb,
)
from controller.errors import Permanent
from controller.ports import Candidate, Conflict

TOPIC = Branch("agent/shop-1/1")
OTHER = Branch("agent/shop-2/1")
NOWHERE = Commit("0123456789" * 4)
LINES = "".join(f"line {n}\n" for n in range(20))
START = {"app.py": LINES, "lib/a.py": "a = 1\n", "README.md": "shop\n"}


def key(name: str) -> EffectKey:
    return EffectKey(f"test/{name}")


async def begun(world: ForgeWorld) -> Commit:
    return await world.commit(REPOSITORY, MAIN, START, "start")


async def merged(world: ForgeWorld, base: Commit, head: Commit) -> Candidate:
    made = await world.forge.merge(REPOSITORY, base, head, "merge it\n", AT)
    assert isinstance(made, Candidate)
    return made


async def proposed(world: ForgeWorld, branch: Branch, files: dict[str, str | None], start: Commit) -> PullRequest:
    head = await world.commit(REPOSITORY, branch, files, f"work on {branch}", onto=start)
    verb = OpenPullRequest(repository=REPOSITORY, branch=branch, head=head, base=MAIN, title="A title", body="A body")
    pull = await world.forge.act(key(f"open/{branch}"), verb)
    assert isinstance(pull, PullRequest)
    return pull


def landing(start: Commit, commit: Commit, *pulls: PullRequest) -> LandCommit:
    numbers = tuple(pull.number for pull in pulls)
    return LandCommit(repository=REPOSITORY, branch=MAIN, expect=start, commit=commit, pull_requests=numbers)


# --- looking --------------------------------------------------------------------------------------


async def test_a_branch_that_nobody_made_has_no_tip(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == start
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) is None


async def test_distance_counts_merges_once_and_not_what_they_brought(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    await forge_world.commit(REPOSITORY, TOPIC, {"one.py": "1\n"}, "one", onto=start)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"two.py": "2\n"}, "two")
    first = await merged(forge_world, start, head)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"three.py": "3\n"}, "three", onto=first.commit)
    assert await forge_world.forge.behind(REPOSITORY, start, tip) == 2
    assert await forge_world.forge.behind(REPOSITORY, tip, tip) == 0
    assert await forge_world.forge.contains(REPOSITORY, tip, head)
    assert not await forge_world.forge.contains(REPOSITORY, head, tip)


async def test_a_change_names_every_path_that_it_touches(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    files = {"app.py": LINES + "more\n", "README.md": None, "new/b.py": "b = 1\nc = 2\n"}
    head = await forge_world.commit(REPOSITORY, TOPIC, files, "work", onto=start)
    change = await forge_world.forge.change(REPOSITORY, start, head)
    assert change.files == ("README.md", "app.py", "new/b.py")
    assert change.lines_changed == 4


async def test_a_long_diff_is_cut_at_its_bound_and_says_so(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"big.py": "é = 1\n" * 5000}, "work", onto=start)
    whole = await forge_world.forge.diff(REPOSITORY, start, head, 1_000_000)
    cut = await forge_world.forge.diff(REPOSITORY, start, head, 1000)
    assert whole.count("+é = 1") == 5000
    assert len(cut.encode()) <= 1000
    assert "cut off" in cut
    assert cut.startswith(whole[:500])


async def test_a_commit_that_the_forge_has_not_got_is_named_in_the_error(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    with pytest.raises(Permanent, match=NOWHERE):
        await forge_world.forge.change(REPOSITORY, start, NOWHERE)


# --- making candidates ----------------------------------------------------------------------------


async def test_a_merge_holds_both_sides_and_moves_nothing(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"app.py": LINES.replace("line 2\n", "l 2\n")}, "t", onto=start)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"app.py": LINES.replace("line 17\n", "l 17\n")}, "m")
    made = await merged(forge_world, tip, head)
    files = await forge_world.files(REPOSITORY, made.commit)
    assert files["app.py"] == LINES.replace("line 2\n", "l 2\n").replace("line 17\n", "l 17\n")
    assert await forge_world.forge.contains(REPOSITORY, made.commit, head)
    assert await forge_world.forge.behind(REPOSITORY, tip, made.commit) == 1
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == tip


async def test_the_same_inputs_give_the_same_commit_and_another_instant_another(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"new.py": "1\n"}, "topic", onto=start)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"other.py": "2\n"}, "main")
    forge = forge_world.forge
    for at, same in ((AT, True), (AT + timedelta(seconds=1), False)):
        assert (
            await forge.merge(REPOSITORY, tip, head, "m", at) == await forge.merge(REPOSITORY, tip, head, "m", AT)
        ) is same
        again = await forge.rebase(REPOSITORY, start, head, tip, at)
        assert (again == await forge.rebase(REPOSITORY, start, head, tip, AT)) is same
        undone = await forge.revert(REPOSITORY, tip, tip, "r", at)
        assert (undone == await forge.revert(REPOSITORY, tip, tip, "r", AT)) is same


async def test_a_merge_that_conflicts_names_the_files_and_only_those(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    theirs = {"app.py": LINES.replace("line 5\n", "theirs\n"), "lib/a.py": "a = 2\n", "fine.py": "1\n"}
    head = await forge_world.commit(REPOSITORY, TOPIC, theirs, "topic", onto=start)
    ours = {"app.py": LINES.replace("line 5\n", "ours\n"), "lib/a.py": None}
    tip = await forge_world.commit(REPOSITORY, MAIN, ours, "main")
    assert await forge_world.forge.merge(REPOSITORY, tip, head, "m", AT) == Conflict(("app.py", "lib/a.py"))


async def test_a_rebase_carries_the_change_and_its_message_onto_the_new_tip(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"new.py": "1\n"}, "topic", onto=start)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"other.py": "2\n"}, "main")
    made = await forge_world.forge.rebase(REPOSITORY, start, head, tip, AT)
    assert isinstance(made, Candidate)
    assert await forge_world.files(REPOSITORY, made.commit) == {**START, "new.py": "1\n", "other.py": "2\n"}
    assert await forge_world.forge.behind(REPOSITORY, tip, made.commit) == 1
    assert not await forge_world.forge.contains(REPOSITORY, made.commit, head)


async def test_a_rebase_that_conflicts_names_the_files(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"lib/a.py": "a = 2\n"}, "topic", onto=start)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"lib/a.py": "a = 3\n"}, "main")
    assert await forge_world.forge.rebase(REPOSITORY, start, head, tip, AT) == Conflict(("lib/a.py",))


async def test_a_merge_reverted_with_nothing_after_it_gives_the_tree_before_it_to_the_byte(
    forge_world: ForgeWorld,
) -> None:
    start = await begun(forge_world)
    files = {"app.py": "other\n", "lib/a.py": None, "new.py": "1\n"}
    head = await forge_world.commit(REPOSITORY, TOPIC, files, "topic", onto=start)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"other.py": "2\n"}, "main")
    before = await forge_world.forge.merge(REPOSITORY, tip, tip, "the tree of tip", AT)
    bad = await merged(forge_world, tip, head)
    undone = await forge_world.forge.revert(REPOSITORY, bad.commit, bad.commit, "revert", AT)
    assert isinstance(undone, Candidate)
    assert isinstance(before, Candidate)
    assert undone.tree == before.tree
    assert undone.tree != bad.tree


async def test_a_revert_keeps_what_landed_after_the_bad_merge(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"lib/a.py": "a = 2\n"}, "topic", onto=start)
    bad = await merged(forge_world, start, head)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"later.py": "3\n"}, "later", onto=bad.commit)
    undone = await forge_world.forge.revert(REPOSITORY, bad.commit, tip, "revert", AT)
    assert isinstance(undone, Candidate)
    assert await forge_world.files(REPOSITORY, undone.commit) == {**START, "later.py": "3\n"}


async def test_a_revert_of_what_others_have_built_upon_names_the_files(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"lib/a.py": "a = 2\n", "new.py": "1\n"}, "topic", onto=start)
    bad = await merged(forge_world, start, head)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"lib/a.py": "a = 2 + 1\n"}, "upon", onto=bad.commit)
    assert await forge_world.forge.revert(REPOSITORY, bad.commit, tip, "r", AT) == Conflict(("lib/a.py",))


# --- pushing --------------------------------------------------------------------------------------


async def test_pushing_twice_under_one_key_moves_the_branch_once(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    made = await merged(forge_world, start, start)
    verb = PushBranch(repository=REPOSITORY, branch=TOPIC, commit=made.commit, expect=None)
    assert await forge_world.forge.find(key("push"), verb) is None
    assert await forge_world.forge.act(key("push"), verb) == Ok()
    assert await forge_world.forge.act(key("push"), verb) == Ok()
    assert await forge_world.forge.find(key("push"), verb) == Ok()
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) == made.commit


async def test_a_push_over_somebody_elses_work_is_refused_and_names_both_commits(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    theirs = await forge_world.commit(REPOSITORY, TOPIC, {"theirs.py": "1\n"}, "theirs", onto=start)
    made = await merged(forge_world, start, start)
    for expect in (start, None):
        verb = PushBranch(repository=REPOSITORY, branch=TOPIC, commit=made.commit, expect=expect)
        with pytest.raises(Permanent, match=theirs) as refusal:
            await forge_world.forge.act(key("push"), verb)
        assert (expect or "no commit") in str(refusal.value)
        assert await forge_world.forge.find(key("push"), verb) is None
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) == theirs


async def test_a_branch_that_was_pushed_and_has_moved_on_counts_as_pushed(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    made = await merged(forge_world, start, start)
    verb = PushBranch(repository=REPOSITORY, branch=TOPIC, commit=made.commit, expect=None)
    await forge_world.forge.act(key("push"), verb)
    later = await forge_world.commit(REPOSITORY, TOPIC, {"later.py": "1\n"}, "later")
    assert await forge_world.forge.find(key("push"), verb) == Ok()
    assert await forge_world.forge.act(key("push"), verb) == Ok()
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) == later


async def test_a_branch_can_be_taken_back_to_a_commit_that_it_contains(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    ahead = await forge_world.commit(REPOSITORY, TOPIC, {"ahead.py": "1\n"}, "ahead", onto=start)
    verb = PushBranch(repository=REPOSITORY, branch=TOPIC, commit=start, expect=ahead)
    assert await forge_world.forge.find(key("back"), verb) is None
    await forge_world.forge.act(key("back"), verb)
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) == start


async def test_a_push_of_a_commit_that_is_nowhere_is_refused(forge_world: ForgeWorld) -> None:
    await begun(forge_world)
    with pytest.raises(Permanent, match=NOWHERE):
        await forge_world.forge.act(
            key("push"), PushBranch(repository=REPOSITORY, branch=TOPIC, commit=NOWHERE, expect=None)
        )
    assert await forge_world.forge.tip(REPOSITORY, TOPIC) is None


async def test_of_many_pushes_from_one_base_exactly_one_wins(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    await forge_world.commit(REPOSITORY, TOPIC, {}, "same", onto=start)
    base = await forge_world.forge.tip(REPOSITORY, TOPIC)
    made = [await forge_world.forge.merge(REPOSITORY, start, start, f"try {n}", AT) for n in range(6)]
    commits = [candidate.commit for candidate in made if isinstance(candidate, Candidate)]
    verbs = [PushBranch(repository=REPOSITORY, branch=TOPIC, commit=commit, expect=base) for commit in commits]
    outcomes = await asyncio.gather(
        *(forge_world.forge.act(key(f"push/{n}"), verb) for n, verb in enumerate(verbs)), return_exceptions=True
    )
    won = [commit for commit, outcome in zip(commits, outcomes, strict=True) if outcome == Ok()]
    assert [type(outcome) for outcome in outcomes].count(Permanent) == 5
    assert won == [await forge_world.forge.tip(REPOSITORY, TOPIC)]


# --- pull requests --------------------------------------------------------------------------------


async def test_opening_twice_under_one_key_gives_one_pull_request(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    assert await forge_world.forge.pull_request_of(REPOSITORY, TOPIC) is None
    first = await proposed(forge_world, TOPIC, {"new.py": "1\n"}, start)
    verb = OpenPullRequest(
        repository=REPOSITORY, branch=TOPIC, head=first.head, base=MAIN, title="A title", body="A body"
    )
    assert await forge_world.forge.act(key(f"open/{TOPIC}"), verb) == first
    assert await forge_world.forge.find(key(f"open/{TOPIC}"), verb) == first
    assert await forge_world.forge.pull_request_of(REPOSITORY, TOPIC) == first.number
    assert first.state == "open"


async def test_openers_who_race_for_one_branch_share_one_pull_request(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"new.py": "1\n"}, "topic", onto=start)
    verb = OpenPullRequest(repository=REPOSITORY, branch=TOPIC, head=head, base=MAIN, title="t", body="b")
    opened = await asyncio.gather(*(forge_world.forge.act(key(f"open/{n}"), verb) for n in range(8)))
    assert len({pull.number for pull in opened}) == 1


async def test_openers_of_different_branches_get_different_numbers(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    branches = [Branch(f"agent/shop-{n}/1") for n in range(6)]
    pulls = await asyncio.gather(*(proposed(forge_world, b, {f"{b[6:12]}.py": "1\n"}, start) for b in branches))
    assert len({pull.number for pull in pulls}) == 6


async def test_a_pull_request_is_not_opened_for_a_head_that_has_moved(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    head = await forge_world.commit(REPOSITORY, TOPIC, {"new.py": "1\n"}, "topic", onto=start)
    moved = await forge_world.commit(REPOSITORY, TOPIC, {"new.py": "2\n"}, "again")
    verb = OpenPullRequest(repository=REPOSITORY, branch=TOPIC, head=head, base=MAIN, title="t", body="b")
    assert await forge_world.forge.find(key("open"), verb) is None
    with pytest.raises(Permanent, match=moved):
        await forge_world.forge.act(key("open"), verb)
    assert await forge_world.forge.pull_request_of(REPOSITORY, TOPIC) is None


async def test_a_push_to_its_branch_moves_the_head_of_an_open_pull_request(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"new.py": "1\n"}, start)
    made = await merged(forge_world, pull.head, start)
    push = PushBranch(repository=REPOSITORY, branch=TOPIC, commit=made.commit, expect=pull.head)
    await forge_world.forge.act(key("push"), push)
    assert (await forge_world.pull(REPOSITORY, pull.number)).head == made.commit
    assert await forge_world.forge.pull_request_of(REPOSITORY, TOPIC) == pull.number


async def test_closing_twice_closes_once_and_frees_the_branch_for_another(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"new.py": "1\n"}, start)
    close = ClosePullRequest(repository=REPOSITORY, number=pull.number, reason="superseded")
    assert await forge_world.forge.find(key("close"), close) is None
    assert await forge_world.forge.act(key("close"), close) == Ok()
    assert await forge_world.forge.act(key("close"), close) == Ok()
    assert await forge_world.forge.find(key("close"), close) == Ok()
    assert await forge_world.forge.pull_request_of(REPOSITORY, TOPIC) is None
    again = OpenPullRequest(repository=REPOSITORY, branch=TOPIC, head=pull.head, base=MAIN, title="t", body="b")
    second = await forge_world.forge.act(key("open again"), again)
    assert second.number != pull.number


async def test_a_comment_is_found_by_its_key_and_written_once(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"new.py": "1\n"}, start)
    first = CommentOnPullRequest(repository=REPOSITORY, number=pull.number, text="CI is red: test_a")
    second = CommentOnPullRequest(repository=REPOSITORY, number=pull.number, text="CI is green")
    assert await forge_world.forge.find(key("c1"), first) is None
    for comment_key, verb in (("c1", first), ("c1", first), ("c2", second), ("c1", first)):
        assert await forge_world.forge.act(key(comment_key), verb) == Ok()
    assert await forge_world.forge.find(key("c1"), first) == Ok()
    assert await forge_world.forge.find(key("c3"), first) is None
    assert await forge_world.comments(REPOSITORY, pull.number) == ["CI is red: test_a", "CI is green"]


async def test_comments_that_race_are_all_kept(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"new.py": "1\n"}, start)
    texts = [f"comment {n}" for n in range(8)]
    verbs = [CommentOnPullRequest(repository=REPOSITORY, number=pull.number, text=text) for text in texts]
    await asyncio.gather(*(forge_world.forge.act(key(verb.text), verb) for verb in verbs))
    assert sorted(await forge_world.comments(REPOSITORY, pull.number)) == texts


async def test_nothing_can_be_said_about_a_pull_request_that_is_not_there(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    verbs: list[Verb] = [
        ClosePullRequest(repository=REPOSITORY, number=7, reason="r"),
        CommentOnPullRequest(repository=REPOSITORY, number=7, text="t"),
        LandCommit(repository=REPOSITORY, branch=MAIN, expect=start, commit=start, pull_requests=(7,)),
    ]
    for verb in verbs:
        assert await forge_world.forge.find(key("x"), verb) is None
        with pytest.raises(Permanent, match="7"):
            await forge_world.forge.act(key("x"), verb)


# --- landing --------------------------------------------------------------------------------------


async def test_landing_moves_the_branch_and_marks_every_pull_request_that_it_carries(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    one = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    two = await proposed(forge_world, OTHER, {"two.py": "2\n"}, start)
    first = await merged(forge_world, start, one.head)
    both = await merged(forge_world, first.commit, two.head)
    verb = landing(start, both.commit, one, two)
    assert await forge_world.forge.find(key("land"), verb) is None
    assert await forge_world.forge.act(key("land"), verb) == Ok()
    assert await forge_world.forge.find(key("land"), verb) == Ok()
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == both.commit
    for pull, branch in ((one, TOPIC), (two, OTHER)):
        assert (await forge_world.pull(REPOSITORY, pull.number)).state == "merged"
        assert await forge_world.forge.pull_request_of(REPOSITORY, branch) is None


async def test_landing_again_after_the_branch_has_moved_on_changes_nothing(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    made = await merged(forge_world, start, pull.head)
    verb = landing(start, made.commit, pull)
    await forge_world.forge.act(key("land"), verb)
    later = await forge_world.commit(REPOSITORY, MAIN, {"later.py": "1\n"}, "later")
    assert await forge_world.forge.act(key("land"), verb) == Ok()
    assert await forge_world.forge.find(key("land"), verb) == Ok()
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == later


async def test_landing_from_a_stale_base_is_refused_and_changes_nothing(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    made = await merged(forge_world, start, pull.head)
    moved = await forge_world.commit(REPOSITORY, MAIN, {"other.py": "1\n"}, "somebody was faster")
    with pytest.raises(Permanent, match=moved):
        await forge_world.forge.act(key("land"), landing(start, made.commit, pull))
    assert await forge_world.forge.find(key("land"), landing(start, made.commit, pull)) is None
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == moved
    assert (await forge_world.pull(REPOSITORY, pull.number)).state == "open"


async def test_two_landers_from_one_base_cannot_both_win(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pulls = [
        await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start),
        await proposed(forge_world, OTHER, {"two.py": "2\n"}, start),
    ]
    made = [await merged(forge_world, start, pull.head) for pull in pulls]
    verbs = [landing(start, m.commit, pull) for m, pull in zip(made, pulls, strict=True)]
    outcomes = await asyncio.gather(
        *(forge_world.forge.act(key(f"land/{n}"), verb) for n, verb in enumerate(verbs)), return_exceptions=True
    )
    states = [(await forge_world.pull(REPOSITORY, pull.number)).state for pull in pulls]
    assert sorted(states) == ["merged", "open"]
    assert [outcome == Ok() for outcome in outcomes] == [state == "merged" for state in states]


async def test_a_commit_that_does_not_descend_from_the_branch_cannot_land(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    tip = await forge_world.commit(REPOSITORY, MAIN, {"other.py": "1\n"}, "main")
    pull = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    with pytest.raises(Permanent, match="descend"):
        await forge_world.forge.act(key("land"), landing(tip, pull.head, pull))
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == tip


async def test_a_pull_request_pushed_to_since_its_test_is_not_marked_merged(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    pull = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    made = await merged(forge_world, start, pull.head)
    late = await forge_world.commit(REPOSITORY, TOPIC, {"late.py": "1\n"}, "one more thing")
    with pytest.raises(Permanent, match=late):
        await forge_world.forge.act(key("land"), landing(start, made.commit, pull))
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == start


async def test_a_closed_pull_request_does_not_land_and_a_landed_one_does_not_close(forge_world: ForgeWorld) -> None:
    start = await begun(forge_world)
    one = await proposed(forge_world, TOPIC, {"one.py": "1\n"}, start)
    two = await proposed(forge_world, OTHER, {"two.py": "2\n"}, start)
    close_one = ClosePullRequest(repository=REPOSITORY, number=one.number, reason="abandoned")
    await forge_world.forge.act(key("close"), close_one)
    with pytest.raises(Permanent, match="closed"):
        await forge_world.forge.act(
            key("land"), landing(start, (await merged(forge_world, start, one.head)).commit, one)
        )
    made = await merged(forge_world, start, two.head)
    await forge_world.forge.act(key("land 2"), landing(start, made.commit, two))
    with pytest.raises(Permanent, match="merged"):
        await forge_world.forge.act(
            key("close 2"), ClosePullRequest(repository=REPOSITORY, number=two.number, reason="too late")
        )
    assert await forge_world.forge.tip(REPOSITORY, MAIN) == made.commit
