"""The objects of a push as a graph: what came, what of it the new commit reaches, and what it names that did not come.

Only the quarantine is read here, never the repository: what is hidden there must not show in what is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pygit2

from controller.adapters.git_process import git_environment, git_output, once
from controller.adapters.git_trees import Kind, parsed
from controller.errors import Permanent

BOUNDARIES = 64  # commits whose folders are listed in one look
LISTING_BYTES = 64 * 1024 * 1024
NO_BASE = b"0" * 40
_WALKED = frozenset({b"commit", b"tree"})


@dataclass(frozen=True)
class Came:
    """By id in hex: kind, size in bytes, and the object that it is stored as a delta on (none: `NO_BASE`)."""

    objects: Mapping[bytes, tuple[bytes, int, bytes]]

    @cached_property
    def ids(self) -> frozenset[bytes]:
        return frozenset(self.objects)

    @property
    def tree_bytes(self) -> int:
        return sum(size for kind, size, _ in self.objects.values() if kind == b"tree")

    def deepest_delta(self) -> int:
        """How many deltas stand on each other, at most."""
        depths: dict[bytes, int] = {NO_BASE: 0}
        for each in self.objects:
            chain, base = [], each
            while base not in depths:
                chain.append(base)
                base = self.objects[base][2] if base in self.objects else NO_BASE
            for number, link in enumerate(reversed(chain)):
                depths[link] = depths[base] + number + 1
        return max(depths.values()) - 1 if len(depths) > 1 else 0


def came_of(listed: bytes) -> Came:
    """From `cat-file --batch-check` with name, kind, size and delta base."""
    rows = [line.split() for line in listed.splitlines()]
    return Came({name: (kind, int(size), base) for name, kind, size, base in rows})


@dataclass(frozen=True)
class Reached:
    """From one commit on, through what came."""

    inside: frozenset[bytes]  # came, and is reached
    named: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)  # did not come: the kinds it is named as

    @cached_property
    def outside(self) -> frozenset[bytes]:
        return frozenset(self.named)

    async def of_another_kind(self, environment: Mapping[str, str], seconds: float) -> int:
        """How many of those outside are something else in the repository than what they are named as."""
        if not self.named:
            return 0
        asked = b"".join(name + b"\n" for name in self.named)
        listed = await git_output(
            "cat-file",
            "--batch-check=%(objectname) %(objecttype)",
            environment=environment,
            feed=once(asked),
            seconds=seconds,
            limit_bytes=LISTING_BYTES,
        )
        rows = (line.split() for line in listed.splitlines())
        return sum({kind} != self.named[name] for name, kind in rows)


def reached(quarantine: Path, new: bytes, came: Came) -> Reached:
    """Raises Permanent for an object that is malformed, or not of the kind that it is named as."""
    odb = pygit2.Odb(str(quarantine))
    inside: set[bytes] = set()
    named: dict[bytes, set[bytes]] = {}
    ahead = [(new, b"commit")]
    while ahead:
        name, kind = ahead.pop()
        if name not in came.objects:
            named.setdefault(name, set()).add(kind)
            continue
        if came.objects[name][0] != kind:
            raise Permanent(f"{name.decode()} is named as a {kind.decode()} and is none")
        if name not in inside:
            inside.add(name)
            if kind in _WALKED:
                ahead += _links(kind, odb.read(pygit2.Oid(hex=name.decode()))[1])
    return Reached(frozenset(inside), {name: frozenset(kinds) for name, kinds in named.items()})


def _links(kind: bytes, raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    if kind == b"tree":
        for entry in parsed(raw):
            if entry.kind is not Kind.SUBMODULE:
                yield entry.id.hex().encode(), b"tree" if entry.kind is Kind.FOLDER else b"blob"
        return
    for line in raw.partition(b"\n\n")[0].split(b"\n"):
        word, _, name = line.partition(b" ")
        if word in {b"tree", b"parent"}:
            yield name, b"tree" if word == b"tree" else b"commit"


async def objects_under(bare: Path, commits: frozenset[bytes], seconds: float) -> frozenset[bytes]:
    """Ids in hex of all files and folders of these commits, which are in the repository. Of a few only."""
    few = sorted(commits)[:BOUNDARIES]
    if not few:
        return frozenset()
    listed = await git_output(
        "rev-list",
        "--objects",
        "--no-object-names",
        "--no-walk",
        "--stdin",
        environment=git_environment(bare),
        feed=once(b"".join(name + b"\n" for name in few)),
        seconds=seconds,
        limit_bytes=LISTING_BYTES,
    )
    return await asyncio.to_thread(lambda: frozenset(listed.split()))
