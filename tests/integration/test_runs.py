"""What a run writes is thrown away, and what the session may not read is not in it: real sandbox, real git, real desk.

Every test runs code that does what it can; the working copy, the branch and the answer say what came of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import OWN, SESSION, SHOP, World

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_workspace import run_in_workspace
from controller.adapters.git_store import ref_value
from controller.adapters.run_copies import PREFIX, run_copy
from controller.adapters.sandbox import Sandbox
from controller.ports import Belt, ToolResult
from tools.local import LocalTools

BEST = asyncio.run(Sandbox.best())
CONFIG = CiConfig(wall_s=60, environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),))
LAUNDRY = """
import os, pathlib

def write(path, text="stolen\\n"):
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)

def test_total():
    for path in (
        ".github/workflows/ci.yml", "rbac/grants/author.yaml", "AGENTS.md", ".gitattributes", "src/payments/pay.py",
        "build/x.so", "t.log", "outside/the/task.py", "src/cart.py",
    ):
        write(path)
    os.unlink("README.md")
    os.symlink("/etc/passwd", "src/passwd")
"""


async def run(root: Path, target: str) -> str:
    command = (*CONFIG.command, target) if target else ()
    return await run_in_workspace(root, command, sandbox=BEST, config=CONFIG)


async def opened(world: World) -> Belt:
    await world.begin()
    return await LocalTools(world.desk, world.toolbox, world.badge_for).belt(SESSION, "author")


async def call(belt: Belt, name: str, index: int = 0, **arguments: Any) -> ToolResult:
    return await belt.call(name, arguments, turn=1, index=index)


async def nothing(_: Sequence[str]) -> frozenset[str]:
    return frozenset()


def tree(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text() for file in root.rglob("*") if file.is_file()}


def pushed(world: World) -> dict[str, str]:
    head = ref_value(world.forge.store.open(SHOP), f"refs/heads/{OWN}")
    assert head is not None
    return world.files_at(head)


async def test_nothing_that_a_run_writes_is_in_the_working_copy_or_on_the_branch(tmp_path: Path) -> None:
    world = World(tmp_path, run=run, files={".gitignore": "*.log\nbuild/\n"})
    belt = await opened(world)
    assert not (await call(belt, "write_file", path="tests/test_laundry.py", content=LAUNDRY)).error
    before = tree(world.root())
    told = (await call(belt, "run_tests", target="tests/test_laundry.py")).text
    assert told.startswith("passed: 1 passed"), told
    assert tree(world.root()) == before
    assert not (await call(belt, "git_push", branch=OWN)).error
    landed = pushed(world)
    assert set(landed) - set(world.files_at(world.base)) == {"tests/test_laundry.py"}
    assert {path: text for path, text in landed.items() if path != "tests/test_laundry.py"} == world.files_at(
        world.base
    )


async def test_a_run_does_not_see_what_the_session_may_not_read(tmp_path: Path) -> None:
    world = World(tmp_path, run=run, files={"deep/keys/id_ecdsa": "total-secret", ".env.example": "TOKEN=\n"})
    belt = await opened(world)
    spy = (
        "import pathlib\n\ndef test_total():\n    found = [p for p in pathlib.Path('.').rglob('*') if p.is_file()]\n"
        "    texts = [p.read_text() for p in found]\n    assert 0, (sorted(map(str, found)), texts)\n"
    )
    await call(belt, "write_file", path="tests/test_spy.py", content=spy)
    told = (await call(belt, "run_tests", target="tests/test_spy.py")).text
    assert "src/cart.py" in told, "it sees what the session may read"
    assert ".env.example" in told
    assert "total-secret" not in told
    assert "[not in the run, because this session may not read it: config/.env, deep/keys/id_ecdsa]" in told


async def test_a_run_brings_back_what_the_settings_keep_and_each_path_is_decided(tmp_path: Path) -> None:
    snapshots = (
        "import pathlib\n\ndef test_total():\n"
        "    for path in ('tests/__snapshots__/a.snap', 'src/payments/__snapshots__/b.snap', 'src/cart.py'):\n"
        "        file = pathlib.Path(path)\n        file.parent.mkdir(parents=True, exist_ok=True)\n"
        "        file.write_text('snapped')\n    pathlib.Path('tests/__snapshots__/old.snap').unlink()\n"
    )
    world = World(tmp_path, run=run, keeps=("**/__snapshots__/**",), files={"tests/__snapshots__/old.snap": "old"})
    belt = await opened(world)
    await call(belt, "write_file", path="tests/test_snap.py", content=snapshots)
    told = (await call(belt, "run_tests", index=1, target="tests/test_snap.py")).text
    assert "[kept from the run: tests/__snapshots__/a.snap (7 bytes), tests/__snapshots__/old.snap (deleted)]" in told
    assert "not kept" in told
    left = tree(world.root())
    assert left["tests/__snapshots__/a.snap"] == "snapped"
    assert "tests/__snapshots__/old.snap" not in left
    assert left["src/cart.py"] != "snapped", "what matches no pattern is thrown away"
    assert "src/payments/__snapshots__/b.snap" not in left, "a protected path stays one"
    (refused,) = await world.refusals()
    assert (refused.tool, refused.rules) == ("write_file", ("protected-path",))


# In pieces that no watch minds, put together at the very end.
NESTED = """
import os, pathlib

def test_total():
    pathlib.Path("tests/a.snap").write_text("snapped")
    one = "/".join("d" * 150)
    for piece in range(10):
        os.makedirs(f"{piece}/{one}")
    for piece in range(8, -1, -1):
        os.rename(str(piece + 1), f"{piece}/{one}/e")
"""


async def test_a_run_that_nests_folders_without_end_costs_the_session_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, run=run, keeps=("tests/*.snap", "**/*.py"))
    belt = await opened(world)
    await call(belt, "write_file", path="tests/test_nested.py", content=NESTED)
    told = await call(belt, "run_tests", index=1, target="tests/test_nested.py")
    assert not told.error
    assert "1 passed" in told.text
    assert "[kept from the run: tests/a.snap (7 bytes)]" in told.text
    assert not [path for path in world.root().parent.iterdir() if path.name.startswith(".run-")]


async def test_a_file_that_gitignore_names_is_refused_when_it_is_written(tmp_path: Path) -> None:
    world = World(
        tmp_path, files={".gitignore": "*.log\n", "src/.gitignore": "gen_*\n!gen_kept.py\n", "src/old.log": ""}
    )
    belt = await opened(world)
    for path in ("src/t.log", "src/gen_a.py"):
        told = await call(belt, "write_file", path=path, content="x")
        assert told.text == f"Not done: {path} is named by .gitignore, so no change can hold it; write another file."
    for path in ("src/gen_kept.py", "src/old.log", "tests/gen_a.py"):
        assert not (await call(belt, "write_file", path=path, content="x")).error, path


async def test_an_ignored_file_that_lies_in_the_working_copy_all_the_same_is_left_out_and_named(tmp_path: Path) -> None:
    world = World(tmp_path, files={"src/.gitignore": "*.log\nbuild/\n"})
    belt = await opened(world)
    await call(belt, "write_file", path="src/new.py", content="x = 1\n")
    (world.root() / "src/t.log").write_text("x")
    (world.root() / "src/build").mkdir()
    (world.root() / "src/build" / "x.so").write_bytes(b"\x7fELF")
    (world.root() / "src/.gitignore").write_text("")  # it is the base's that counts
    told = (await call(belt, "git_push", branch=OWN)).text
    assert "Left out, because .gitignore names them: src/build/x.so, src/t.log." in told
    assert {"src/build/x.so", "src/t.log"}.isdisjoint(pushed(world))


async def test_links_of_the_tree_are_copied_as_links_and_never_followed(tmp_path: Path) -> None:
    root = tmp_path / "site" / "copy"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("total-secret")
    (root / "a" / "out").symlink_to(tmp_path / "secret")
    (root / "to-folder").symlink_to(tmp_path)
    (root / "a" / "run.sh").write_text("#!/bin/sh\n")
    (root / "a" / "run.sh").chmod(0o755)
    os.mkfifo(root / "pipe")
    async with run_copy(root, nothing) as copy:
        assert (copy.folder / "a" / "out").readlink() == tmp_path / "secret"
        assert (copy.folder / "to-folder").is_symlink()
        assert os.access(copy.folder / "a" / "run.sh", os.X_OK)
        assert not (copy.folder / "pipe").exists()
        (copy.folder / "a" / "run.sh").write_text("changed")
        (copy.folder / "a" / "run.sh").chmod(0)
        (copy.folder / "a").chmod(0)
        left = copy.folder
    assert not left.exists()
    assert (root / "a" / "run.sh").read_text() == "#!/bin/sh\n", "a copy shares nothing with what it was made from"


async def test_a_copy_that_a_dead_process_left_goes_with_a_later_run(tmp_path: Path) -> None:
    root, stale, young = tmp_path / "copy", tmp_path / f"{PREFIX}stale", tmp_path / f"{PREFIX}young"
    for folder in (root, stale, young):
        folder.mkdir()
    os.utime(stale, (time.time() - 100_000,) * 2)
    async with run_copy(root, nothing):
        assert not stale.exists()
        assert young.exists(), "a run that is under way is left alone"


@pytest.mark.slow
async def test_a_copy_of_two_thousand_files_costs_less_than_three_seconds_of_cpu(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    for at in range(2_000):
        file = root / f"package_{at % 50}" / f"module_{at}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1\n" * 500)
    before = time.process_time()
    async with run_copy(root, nothing):
        took = time.process_time() - before
    assert took < 3, took
