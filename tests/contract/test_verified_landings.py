"""What of a landing is looked at afterwards, in every forge: where the branch is, the tree, and each path touched."""

from __future__ import annotations

from worlds import AT, MAIN, REPOSITORY, ForgeWorld

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.ids import Branch, Commit, DeliveryId, EffectKey
from controller.domain.verbs import LandCommit
from controller.ports import Candidate
from controller.queue.verifying import doubts_about

NAME = DeliveryId("shop-1a2b3c")
TOPIC = Branch("agent/shop-1a2b3c/1")
START = {"app.py": "".join(f"line {n}\n" for n in range(20)), "lib/a.py": "a = 1\n", "README.md": "shop\n"}
RENAMED: dict[str, str | None] = {"lib/a.py": None, "lib/b.py": START["lib/a.py"]}


async def planned(world: ForgeWorld, base: Commit, head: Commit) -> e.LandingPlanned:
    made = await world.forge.merge(REPOSITORY, base, head, "land it\n", AT)
    assert isinstance(made, Candidate)
    return e.LandingPlanned(
        landing=1, base=base, tested=made.commit, deliveries=(NAME,), heads=(head,), lane="normal", order=(NAME,),
        tree=made.tree,
    )  # fmt: skip


async def landed(world: ForgeWorld, plan: e.LandingPlanned) -> None:
    verb = LandCommit(repository=REPOSITORY, branch=MAIN, expect=plan.base, commit=plan.tested, pull_requests=())
    await world.forge.act(EffectKey("land/it"), verb)


def with_files(*files: str) -> Delivery:
    change = e.ChangeAuthored.model_construct(files=files)
    return Delivery(NAME, change=change)


async def doubts(world: ForgeWorld, plan: e.LandingPlanned, *files: str) -> tuple[str, ...]:
    return await doubts_about(plan, with_files(*files), REPOSITORY, MAIN, world.forge)


async def renamed(world: ForgeWorld) -> e.LandingPlanned:
    start = await world.commit(REPOSITORY, MAIN, START, "start")
    head = await world.commit(REPOSITORY, TOPIC, RENAMED, "rename", onto=start)
    return await planned(world, start, head)


async def test_what_landed_as_it_was_tested_leaves_no_doubt(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    await landed(forge_world, plan)
    assert await doubts(forge_world, plan, "lib/a.py", "lib/b.py") == ()


async def test_a_branch_that_has_moved_on_still_holds_it(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    await landed(forge_world, plan)
    await forge_world.commit(REPOSITORY, MAIN, {"app.py": "by hand\n"}, "by hand")
    assert await doubts(forge_world, plan, "lib/a.py", "lib/b.py") == ()


async def test_both_ends_of_a_rename_must_be_the_changes_own(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    await landed(forge_world, plan)
    assert await doubts(forge_world, plan, "lib/b.py") == ("stray_files",)
    assert await doubts(forge_world, plan, "lib/a.py") == ("stray_files",)
    assert await doubts(forge_world, plan) == ("stray_files",)


async def test_a_branch_that_does_not_hold_what_was_tested_is_missing_it(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    assert await doubts(forge_world, plan, "lib/a.py", "lib/b.py") == ("missing",)
    await forge_world.commit(REPOSITORY, MAIN, RENAMED, "the same files in another commit")
    assert await doubts(forge_world, plan, "lib/a.py", "lib/b.py") == ("missing",)


async def test_another_tree_than_the_tested_one_is_doubted(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    await landed(forge_world, plan)
    other = plan.model_copy(update={"tree": await forge_world.forge.tree(REPOSITORY, plan.base)})
    assert await doubts(forge_world, other, "lib/a.py", "lib/b.py") == ("another_tree",)


async def test_the_tree_of_a_candidate_is_the_tree_of_its_commit(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    assert await forge_world.forge.tree(REPOSITORY, plan.tested) == plan.tree
    assert await forge_world.forge.tree(REPOSITORY, plan.base) != plan.tree


async def test_a_revert_is_held_to_its_own_files_as_well(forge_world: ForgeWorld) -> None:
    plan = await renamed(forge_world)
    await landed(forge_world, plan)
    undone = await forge_world.forge.revert(REPOSITORY, plan.tested, plan.tested, "undo it\n", AT)
    assert isinstance(undone, Candidate)
    back = await planned(forge_world, plan.tested, undone.commit)
    await landed(forge_world, back)
    assert await doubts(forge_world, back, "lib/a.py", "lib/b.py") == ()
    assert await doubts(forge_world, back, "lib/b.py") == ("stray_files",)
