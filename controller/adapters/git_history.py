"""Every path that a history has ever had, because whoever clones a branch gets all of it.

`git rev-list --objects` names each object once, so a secret that has the same content as a harmless file would hide
behind it. What names every path is the list of changes: a path that is in some commit's tree came in with a commit that
differs there from all of its parents, or with the first one. The protected branch only grows, so its paths are kept and
only what has landed since is listed again; other branches are short.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from controller.adapters.git_process import git_environment, git_output, once
from controller.domain.ids import Commit
from controller.errors import Permanent

_K = TypeVar("_K")
_V = TypeVar("_V")

LISTING_S = 60.0  # git listed 20,000 commits of three files each in 2.7 s
LISTING_BYTES = 256 * 1024 * 1024  # six million ids
MAX_PATHS = 200_000  # twice the files of the largest trees that are worked on
KEPT = 64  # listings
KEPT_HISTORIES = 4  # of ids, each about 100 bytes in memory: 20,000 commits are 2 MB


class GitHistory:
    """Remembers what it has listed. Lives in one event loop."""

    def __init__(self) -> None:
        self._trunks: OrderedDict[Path, tuple[Commit, frozenset[str]]] = OrderedDict()
        self._listings: OrderedDict[tuple[Path, frozenset[Commit]], frozenset[str]] = OrderedDict()
        self._histories: OrderedDict[tuple[Path, frozenset[Commit]], frozenset[bytes]] = OrderedDict()
        self._one_at_a_time: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def paths(self, bare: Path, tips: Mapping[str, Commit], trunk_ref: str) -> frozenset[str]:
        """Names that are not UTF-8 come with surrogates. Raises Permanent for more than `MAX_PATHS`."""
        key = (bare, frozenset(tips.values()))
        if not tips:
            return frozenset()
        async with self._one_at_a_time[bare]:
            if key not in self._listings:
                trunk = tips.get(trunk_ref)
                known = frozenset[str]() if trunk is None else await self._of_trunk(bare, trunk)
                others = await _changed(bare, key[1], () if trunk is None else (trunk,))
                _keep(self._listings, key, _bounded(known | others))
            return self._listings[key]

    async def commits(self, bare: Path, tips: Iterable[Commit]) -> frozenset[bytes]:
        """Ids in hex of all commits in the tips' histories."""
        known = frozenset(tips)
        key = (bare, known)
        if not known:
            return frozenset()
        async with self._one_at_a_time[bare]:
            if key not in self._histories:
                _keep(self._histories, key, await _listed(bare, known), KEPT_HISTORIES)
            self._histories.move_to_end(key)
            return self._histories[key]

    async def _of_trunk(self, bare: Path, trunk: Commit) -> frozenset[str]:
        before = self._trunks.get(bare)
        if before is None or await unreached(bare, (trunk,), (before[0],)):
            found = await _changed(bare, (trunk,), ())
        else:
            found = before[1] | await _changed(bare, (trunk,), (before[0],))
        _keep(self._trunks, bare, (trunk, _bounded(found)))
        return found


async def unreached(bare: Path, tips: Iterable[Commit], wanted: Sequence[Commit]) -> tuple[Commit, ...]:
    """Those that are no commits in the history of any tip, whether there are such objects or not."""
    known = frozenset(tips)
    rest = [commit for commit in wanted if commit not in known]
    if not rest:
        return ()
    history = await _listed(bare, known)
    return tuple(commit for commit in rest if commit.encode() not in history)


async def objects_of(bare: Path, tips: Iterable[Commit]) -> frozenset[bytes]:
    """Ids, in hex, of everything that the tips' histories hold."""
    return await _listed(bare, tips, "--objects", "--no-object-names")


async def _listed(bare: Path, tips: Iterable[Commit], *options: str) -> frozenset[bytes]:
    listed = await git_output(
        "rev-list",
        *options,
        "--stdin",
        environment=git_environment(bare),
        feed=once(_lines(tips)),
        seconds=LISTING_S,
        limit_bytes=LISTING_BYTES,
    )
    return frozenset(listed.split())


async def _changed(bare: Path, tips: Iterable[Commit], known: Iterable[Commit]) -> frozenset[str]:
    """Paths that differ from all parents in some commit that `tips` have and `known` have not."""
    listed = await git_output(
        "log",
        "--stdin",
        "--format=",
        "--name-only",
        "-z",
        "-c",
        "--root",
        "--no-renames",
        "--no-show-signature",
        environment=git_environment(bare),
        feed=once(_lines(tips, known)),
        seconds=LISTING_S,
        limit_bytes=LISTING_BYTES,
    )
    return frozenset(os.fsdecode(path) for path in set(listed.split(b"\0")) if path)


def _lines(tips: Iterable[Commit], known: Iterable[Commit] = ()) -> bytes:
    """As `--stdin` reads them. At least one tip, or git takes HEAD for what is meant."""
    return "".join([*(f"{tip}\n" for tip in tips), *(f"^{commit}\n" for commit in known)]).encode()


def _bounded(paths: frozenset[str]) -> frozenset[str]:
    if len(paths) > MAX_PATHS:
        raise Permanent(f"this history has had more than {MAX_PATHS} paths", "Read files with the workspace's tools")
    return paths


def _keep(kept: OrderedDict[_K, _V], key: _K, value: _V, most: int = KEPT) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
