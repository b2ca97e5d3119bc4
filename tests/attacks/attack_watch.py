"""What an attack must leave as it was: trees, refs, files outside, effects, tests that were run."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belt_kit import World

ACTS = ("EffectIntended", "EffectDone", "EffectFailed", "EffectUnknown")


@dataclass(frozen=True)
class Seen:
    files: dict[str, str]  # beneath the forge, every workspace and the folder outside: path -> kind, mode, digest
    effects: int
    runs: int
    entries: int

    def differs_from(self, before: Seen, *, runs: bool = False) -> list[str]:
        """What has changed since, in words; entries of the log apart. `runs`: one run is what was asked for."""
        paths = sorted(self.files.keys() | before.files.keys())
        changed = [f"{path} changed" for path in paths if self.files.get(path) != before.files.get(path)]
        if self.effects != before.effects:
            changed.append("an effect was recorded")
        if self.runs != before.runs + runs:
            changed.append(f"{self.runs - before.runs} times tests were run")
        return changed


async def look(world: World, folder: Path, *, but: Path | None = None) -> Seen:
    """`but` is a folder that may change. None: nothing may."""
    kinds = await world.kinds()
    files = dict(_files(folder, ("forge", "workspaces", "outside"), but))
    return Seen(files, sum(kinds.count(kind) for kind in ACTS), len(world.ran), len(kinds))


def _files(folder: Path, parts: tuple[str, ...], but: Path | None) -> Iterator[tuple[str, str]]:
    for part in parts:
        for place, folders, names in os.walk(folder / part):
            folders[:] = [name for name in folders if Path(place, name) != but]
            for name in (*folders, *names):
                path = Path(place, name)
                yield path.relative_to(folder).as_posix(), _told(path)


def _told(path: Path) -> str:
    found = path.lstat()
    what = stat.filemode(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return f"{what} -> {path.readlink()}"
    if stat.S_ISREG(found.st_mode):
        return f"{what} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return what
