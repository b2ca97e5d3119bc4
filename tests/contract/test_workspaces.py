"""What every workspace promises: a copy to work in, and only plain work comes out of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from worlds import AT, MAIN, REPOSITORY, WorkspaceWorld

from controller.domain.ids import Commit
from controller.errors import Permanent
from controller.ports import Committed

SESSION = "shop-1a2b3c/1"
START = {"app.py": "one\n", "lib/deep/a.py": "a = 1\n", "README.md": "shop\n"}


async def begun(world: WorkspaceWorld) -> tuple[Commit, Path]:
    base = await world.forge_world.commit(REPOSITORY, MAIN, START, "start")
    return base, await world.workspaces.create(SESSION, REPOSITORY, base)


async def committed(world: WorkspaceWorld, base: Commit) -> Committed:
    made = await world.workspaces.commit(SESSION, REPOSITORY, base, "work\n\nFlyball-Session: 1\n", AT)
    assert made is not None
    return made


async def test_a_copy_holds_the_base_and_nothing_that_git_could_run(workspace_world: WorkspaceWorld) -> None:
    _, place = await begun(workspace_world)
    found = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
    assert found == START


async def test_an_untouched_copy_commits_to_nothing(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    (place / "app.py").write_text("one\n")
    (place / "empty").mkdir()
    assert await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT) is None


async def test_work_becomes_one_commit_on_the_base_and_moves_no_branch(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    (place / "app.py").write_text("one\ntwo\n")
    (place / "README.md").unlink()
    (place / "new").mkdir()
    (place / "new/b.py").write_text("b = 1\n")
    made = await committed(workspace_world, base)
    world = workspace_world.forge_world
    assert made.files == ("README.md", "app.py", "new/b.py")
    assert made.lines_changed == 3
    expected = {"app.py": "one\ntwo\n", "lib/deep/a.py": "a = 1\n", "new/b.py": "b = 1\n"}
    assert await world.files(REPOSITORY, made.head) == expected
    assert await world.forge.behind(REPOSITORY, base, made.head) == 1
    assert await world.forge.tip(REPOSITORY, MAIN) == base


async def test_the_same_work_twice_is_the_same_commit(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    (place / "app.py").write_text("two\n")
    first = await committed(workspace_world, base)
    assert await committed(workspace_world, base) == first
    again = await workspace_world.workspaces.create(SESSION, REPOSITORY, base)
    (again / "app.py").write_text("two\n")
    assert await committed(workspace_world, base) == first


async def test_what_an_earlier_process_left_is_thrown_away(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    (place / "left.py").write_text("half done\n")
    (place / "lib/deep/a.py").unlink()
    again = await workspace_world.workspaces.create(SESSION, REPOSITORY, base)
    assert again == place
    assert await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT) is None


async def test_what_running_the_tests_leaves_behind_is_not_committed(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    for litter in ("__pycache__/app.pyc", ".pytest_cache/v", "lib/deep/__pycache__/a.pyc", ".venv/bin/python", "x.pyc"):
        (place / litter).parent.mkdir(parents=True, exist_ok=True)
        (place / litter).write_text("generated")
    assert await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT) is None


async def test_what_looks_like_litter_is_kept_where_the_base_tracks_it(workspace_world: WorkspaceWorld) -> None:
    world = workspace_world
    base = await world.forge_world.commit(REPOSITORY, MAIN, {"vendor/x.pyc": "1", "vendor/y.pyc": "2"}, "start")
    place = await world.workspaces.create(SESSION, REPOSITORY, base)
    (place / "vendor/x.pyc").write_text("changed")
    (place / "vendor/z.pyc").write_text("generated")
    made = await committed(world, base)
    assert await world.forge_world.files(REPOSITORY, made.head) == {"vendor/x.pyc": "changed", "vendor/y.pyc": "2"}


async def test_a_symlink_out_of_the_copy_is_refused_and_its_target_stays_unread(
    workspace_world: WorkspaceWorld, tmp_path: Path
) -> None:
    base, place = await begun(workspace_world)
    secret = tmp_path / "secret"
    secret.write_text("token")
    (place / "app.py").unlink()
    (place / "app.py").symlink_to(secret)
    with pytest.raises(Permanent, match=r"app\.py is a symlink"):
        await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT)


async def test_a_folder_swapped_for_a_symlink_is_refused(workspace_world: WorkspaceWorld, tmp_path: Path) -> None:
    base, place = await begun(workspace_world)
    outside = tmp_path / "outside"
    (place / "lib").rename(outside)
    (place / "lib").symlink_to(outside)
    with pytest.raises(Permanent, match="lib is a symlink"):
        await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT)


@pytest.mark.parametrize("name", [".git", "lib/.git", "lib/.GIT"])
async def test_a_repository_within_the_copy_is_refused(workspace_world: WorkspaceWorld, name: str) -> None:
    base, place = await begun(workspace_world)
    (place / name).mkdir()
    (place / name / "config").write_text("[core]\n\tfsmonitor = touch /tmp/pwned\n")
    with pytest.raises(Permanent, match="repository within the repository"):
        await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT)


async def test_a_pipe_in_the_copy_is_refused_and_does_not_block(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    os.mkfifo(place / "pipe")
    commit = workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT)
    with pytest.raises(Permanent, match="neither file nor folder"):
        await asyncio.wait_for(commit, timeout=5)


async def test_a_discarded_copy_is_gone_and_discarding_again_is_fine(workspace_world: WorkspaceWorld) -> None:
    base, place = await begun(workspace_world)
    await workspace_world.workspaces.discard(SESSION)
    await workspace_world.workspaces.discard(SESSION)
    assert not place.exists()
    with pytest.raises(Permanent, match="no working copy"):
        await workspace_world.workspaces.commit(SESSION, REPOSITORY, base, "m", AT)


async def test_sessions_whose_names_look_alike_do_not_share_a_copy(workspace_world: WorkspaceWorld) -> None:
    base, _ = await begun(workspace_world)
    names = ["a/b", "a-b", "a.b", "a_b"]
    places = [await workspace_world.workspaces.create(name, REPOSITORY, base) for name in names]
    assert len(set(places)) == 4


@pytest.mark.parametrize("name", ["../x", "a/../../x", "", "/etc", "a//b", ".", "a\n"])
async def test_a_session_name_cannot_lead_out_of_the_root(workspace_world: WorkspaceWorld, name: str) -> None:
    base, _ = await begun(workspace_world)
    with pytest.raises(Permanent, match="session"):
        await workspace_world.workspaces.create(name, REPOSITORY, base)


async def test_what_the_base_ignores_is_the_same_answer_each_time_and_another_at_another_base(
    workspace_world: WorkspaceWorld,
) -> None:
    forge, workspaces = workspace_world.forge_world, workspace_world.workspaces
    base = await forge.commit(REPOSITORY, MAIN, {**START, ".gitignore": "*.log\n"}, "start")
    later = await forge.commit(REPOSITORY, MAIN, {".gitignore": "*.tmp\n"}, "other ones")
    for _ in range(2):
        assert await workspaces.ignored(REPOSITORY, base, ["a.log", "b.tmp", "app.py"]) == {"a.log"}
        assert await workspaces.ignored(REPOSITORY, later, ["b.tmp", "a.log"]) == {"b.tmp"}
        assert await workspaces.ignored(REPOSITORY, base, ["c.log", "a.log"]) == {"a.log", "c.log"}
