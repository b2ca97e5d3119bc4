"""Where groups would be made, by what the kernel says of mounts. What they bound: test_sandbox_stays.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.adapters import sandbox_cgroups
from controller.adapters.sandbox_cgroups import Groups, group, groups_in
from controller.adapters.sandbox_rungs import Limits


def mounted(point: Path, kind: str, options: str) -> str:
    return f"30 25 0:26 / {point} rw,relatime shared:9 - {kind} {kind} {options}\n"


@pytest.fixture
def everything_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on a disk joins nobody; only the choice of folders is looked at here."""
    monkeypatch.setattr(sandbox_cgroups, "_works", lambda *_: True)


@pytest.mark.usefixtures("everything_works")
def test_version_1_has_a_tree_for_each_controller_and_groups_below_our_own(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name / "ours").mkdir(parents=True)
    mounts = "".join(mounted(tmp_path / name, "cgroup", f"rw,{name}") for name in ("memory", "pids"))
    found = groups_in(mounts, "8:pids:/ours\n4:memory:/ours\n0::/\n")
    assert found.below == {name: tmp_path / name / "ours" for name in ("memory", "pids")}
    assert found.words == "memory, processes bounded in sum (cgroup v1, not CPU)"


@pytest.mark.usefixtures("everything_works")
def test_version_2_uses_what_a_supervisor_has_delegated(tmp_path: Path) -> None:
    own = tmp_path / "flyball.service" / "supervisor"
    own.mkdir(parents=True)
    (own.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    found = groups_in(mounted(tmp_path, "cgroup2", "rw,nsdelegate"), "0::/flyball.service/supervisor\n")
    assert set(found.below.values()) == {own.parent}
    assert found.words == "memory, processes, CPU bounded in sum (cgroup v2)"


def test_folder_that_nobody_may_join_bounds_nothing(tmp_path: Path) -> None:
    """As in a container whose groups are read-only: said, and not an error."""
    found = groups_in(mounted(tmp_path / "nowhere", "cgroup2", "ro"), "0::/\n")
    assert found.words == "bounds per process only (no control group can be made here)"


async def test_where_no_group_can_be_made_none_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_cgroups, "found", lambda: Groups(0, {}, "none"))
    async with group(Limits()) as folders:
        assert folders == ()
