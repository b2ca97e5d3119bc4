"""Control groups: bounds on the sum of what all processes of a sandbox use, where this process may make such groups.

Version 1 has one tree a controller, version 2 one for all. Groups are made below our own, or below its parent where a
supervisor has delegated that (systemd: `Delegate=yes` and `DelegateSubgroup=`). A group is named after the process that
made it: whoever comes next removes what a killed one has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.sandbox_rungs import Limits

PREFIX = "flyball-"
CPU_PERIOD_US = 100_000
HALF_SHARES, HALF_WEIGHT = 512, 50  # of the default, 1024 in version 1 and 100 in version 2
OWN_PROCESSES = 8  # of the sandbox itself: launcher, doorkeeper, bubblewrap's two
REMOVED_WITHIN_S = 2.0
JOIN = ("/bin/sh", "-c", "echo $$ > cgroup.procs")
CONTROLLERS = ("memory", "pids", "cpu")
WORDS = {"memory": "memory", "pids": "processes", "cpu": "CPU"}


@dataclass(frozen=True)
class Groups:
    """Where groups can be made: one folder for each controller that can be had."""

    version: int
    below: Mapping[str, Path]
    why_not: str = ""  # what is missing, and why. Empty: nothing is

    @property
    def words(self) -> str:
        """What is bounded in sum, or why nothing is."""
        bounded = [WORDS[name] for name in CONTROLLERS if name in self.below]
        if not bounded:
            return f"bounds per process only ({self.why_not})"
        missing = f", not {self.why_not}" if self.why_not else ""
        return f"{', '.join(bounded)} bounded in sum (cgroup v{self.version}{missing})"


@functools.cache
def found() -> Groups:
    """Looked for once. Takes a few milliseconds, and tidies up what killed processes left."""
    mounts, own = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")
    if not (mounts.exists() and own.exists()):
        return Groups(0, {}, "this system has no control groups")
    groups = groups_in(mounts.read_text(), own.read_text())
    for folder in set(groups.below.values()):
        _tidy(folder)
    return groups


def groups_in(mountinfo: str, own: str) -> Groups:
    """`mountinfo` and `own` are the texts of the files in /proc/self that tell of mounts and of our own groups."""
    ours = {
        name: path for _, names, path in (line.split(":", 2) for line in own.splitlines()) for name in names.split(",")
    }
    first, second = _version_1(mountinfo, ours), _version_2(mountinfo, ours.get("", "/"))
    better = first if len(first) >= len(second) else second
    missing = [WORDS[name] for name in CONTROLLERS if name not in better]
    if not better:
        return Groups(0, {}, "no control group can be made here")
    return Groups(1 if better is first else 2, better, ", ".join(missing))


def _mounted(mountinfo: str, kind: str) -> Iterator[tuple[str, str, set[str]]]:
    """Mount point, the folder of the tree that it shows, and options."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == kind:
            shown, point = before.split(" ")[3:5]
            yield point, shown, set(after.rsplit(" ", 1)[-1].split(","))


def _candidates(point: str, shown: str, own: str) -> list[Path]:
    """Our own group, or the whole mount where the mount shows another part of the tree than ours."""
    ours = Path(point, own.removeprefix(shown.rstrip("/")).strip("/"))
    return [ours] if ours.is_dir() else [path for path in (Path(point),) if path.is_dir()]


def _version_1(mountinfo: str, ours: Mapping[str, str]) -> dict[str, Path]:
    below = {}
    for point, shown, options in _mounted(mountinfo, "cgroup"):
        for name in options & set(CONTROLLERS):
            places = _candidates(point, shown, ours.get(name, "/"))
            usable = [path for path in places if _works(path, 1, (name,))]
            if usable:
                below[name] = usable[0]
    return below


def _version_2(mountinfo: str, own: str) -> dict[str, Path]:
    for point, shown, _ in _mounted(mountinfo, "cgroup2"):
        for path in _candidates(point, shown, own)[:1]:
            for base in (path, path.parent):
                names = [name for name in CONTROLLERS if _enabled(base, name)]
                if names and base.is_relative_to(point) and _works(base, 2, names):
                    return dict.fromkeys(names, base)
    return {}


def _enabled(base: Path, name: str) -> bool:
    """Whether groups below `base` have the controller, after it was asked for."""
    switch = base / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        if name not in switch.read_text().split():
            switch.write_text(f"+{name}")
        return name in switch.read_text().split()
    return False


def _works(base: Path, version: int, names: Sequence[str]) -> bool:
    """Whether a group can be made, bounded, joined and removed there."""
    probe = base / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        probe.mkdir()
        try:
            _bound(probe, version, names, Limits())
            joined = subprocess.run(JOIN, stdin=subprocess.DEVNULL, cwd=probe, capture_output=True, check=False)
        finally:
            _gone(probe)
    except OSError:
        return False
    return joined.returncode == 0


def _gone(probe: Path) -> None:
    """Raises `OSError` if the kernel does not let it go in time."""
    deadline = time.monotonic() + REMOVED_WITHIN_S
    while True:
        try:
            return probe.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def _bound(folder: Path, version: int, controllers: Iterable[str], limits: Limits) -> None:
    """Files that this kernel does not have (swap accounting may be off) bound nothing."""
    for controller in controllers:
        for name, value in _settings(version, controller, limits):
            if (folder / name).exists():
                (folder / name).write_text(value)


def _tidy(base: Path) -> None:
    """Empty groups of processes that are no more. One that is not empty refuses to go."""
    for folder in base.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.asynccontextmanager
async def group(limits: Limits) -> AsyncIterator[tuple[str, ...]]:
    """The folders that a process joins to be bounded. Empty: none can be had here."""
    groups, name = found(), f"{PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    folders = sorted({below / name for below in groups.below.values()})
    try:
        for folder in folders:
            folder.mkdir()
        for controller, below in groups.below.items():
            _bound(below / name, groups.version, (controller,), limits)
        yield tuple(str(folder) for folder in folders)
    finally:
        for folder in folders:
            await _removed(folder)


def _settings(version: int, controller: str, limits: Limits) -> list[tuple[str, str]]:
    memory, processes = str(limits.all_memory_bytes), str(limits.processes + OWN_PROCESSES)
    quota = -1 if limits.cpus is None else max(1_000, int(limits.cpus * CPU_PERIOD_US))
    match version, controller:
        case 1, "memory":
            return [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)]
        case 1, "cpu":
            return [("cpu.shares", str(HALF_SHARES)), ("cpu.cfs_quota_us", str(quota))]
        case 2, "memory":
            return [("memory.max", memory), ("memory.swap.max", "0")]
        case 2, "cpu":
            most = "max" if limits.cpus is None else quota
            return [("cpu.weight", str(HALF_WEIGHT)), ("cpu.max", f"{most} {CPU_PERIOD_US}")]
        case _:
            return [("pids.max", processes)]


async def _removed(folder: Path) -> None:
    """The kernel lets a group go a moment after its last process. One that stays is found by `_tidy`."""
    deadline = asyncio.get_running_loop().time() + REMOVED_WITHIN_S
    while True:
        try:
            folder.rmdir()  # noqa: ASYNC240  a file system that waits for nothing
        except FileNotFoundError:
            return
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.005)
        else:
            return
