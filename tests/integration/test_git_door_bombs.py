"""Packs that are small and stand for much: counted before they unfold, refused, and nothing is left."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from git_door_kit import (
    BLOB,
    HARMLESS,
    OFS_DELTA,
    OWN_REF,
    REF_DELTA,
    Site,
    chained_pack,
    commands,
    copies,
    entry_header,
    object_id,
    offset,
    packed,
    refused_push,
    serving,
    unchanged,
    whole,
)

MIB = 1024 * 1024
ZEROS = bytes(64 * 1024)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


def chain_of_612_mib() -> bytes:
    """Two deltas, each of which copies what is before it about a hundred times."""
    once = 100 * len(ZEROS)
    return chained_pack(ZEROS, [copies(100, len(ZEROS)), copies(98, once)])


def chain_of_5_gib() -> bytes:
    once = 250 * len(ZEROS)
    return chained_pack(ZEROS, [copies(250, len(ZEROS)), copies(330, once)])


def many_of_one_mib() -> bytes:
    """No object is large, but they are many: each another copy with a tail of its own."""
    body, count = whole(BLOB, ZEROS), 600
    for number in range(count):
        delta = copies(16, len(ZEROS), tail=number.to_bytes(2) + b"x")
        at = len(body)
        body += entry_header(OFS_DELTA, len(delta)) + offset(at) + deflated(delta)
    return packed(body, count + 1)


def by_name() -> bytes:
    """The base is named by its id and comes last."""
    delta = copies(4_000, len(ZEROS))
    body = entry_header(REF_DELTA, len(delta)) + bytes.fromhex(object_id(BLOB, ZEROS)) + deflated(delta)
    return packed(body + whole(BLOB, ZEROS), 2)


def that_says_it_is_small() -> bytes:
    """The delta claims to make 100 bytes, and copies gigabytes."""
    return chained_pack(ZEROS, [copies(80_000, len(ZEROS), says=100)])


def that_inflates_to_more_than_it_says() -> bytes:
    return packed(entry_header(BLOB, 100) + deflated(bytes(300 * MIB)), 1)


def that_says_it_is_huge() -> bytes:
    return packed(entry_header(BLOB, 1 << 50) + deflated(b"x"), 1)


def of_a_billion_objects() -> bytes:
    return packed(whole(BLOB, b"x"), 1_000_000_000)


def three_hundred_deep() -> bytes:
    return chained_pack(ZEROS[:1_000], [copies(1, 1_000 + n, tail=b"x") for n in range(300)])


def deflated(raw: bytes) -> bytes:
    return whole(BLOB, raw)[len(entry_header(BLOB, len(raw))) :]


BOMBS = [
    (chain_of_612_mib, b"it is too large"),
    (chain_of_5_gib, b"it is too large"),
    (many_of_one_mib, b"it is too large"),
    (by_name, b"it is too large"),
    (that_says_it_is_small, b"not whole or not well-formed"),
    (that_inflates_to_more_than_it_says, b"not whole or not well-formed"),
    (that_says_it_is_huge, b"it is too large"),
    (of_a_billion_objects, b"it has too many objects"),
    (three_hundred_deep, b"deep on each other"),
]


@pytest.mark.parametrize(("bomb", "told"), BOMBS, ids=lambda one: getattr(one, "__name__", ""))
async def test_a_bomb_is_refused_before_it_unfolds(site: Site, bomb: object, told: bytes) -> None:
    pack: bytes = bomb()  # type: ignore[operator]
    request = commands((None, "1" * 40, OWN_REF)) + pack
    cpu = _of_children()
    began = time.monotonic()
    await unchanged(site, partial(refused_push, site, request, told))
    assert site.left_over() == []
    assert _of_children() - cpu < 3.0, f"{len(pack)} bytes"
    assert time.monotonic() - began < 30.0


def _of_children() -> float:
    """CPU seconds of whatever this process has started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_bombs_are_as_small_as_the_ones_that_got_through() -> None:
    assert len(chain_of_612_mib()) < 782
    assert len(chain_of_5_gib()) < 852


async def test_the_twin_a_large_file_that_many_commits_change_is_let_in(site: Site) -> None:
    """Its deltas make some 50 MiB of a pack of some hundred kilobytes."""
    clone = await site.clone()
    lines = [f"line {number} of a file that is long\n" for number in range(50_000)]
    for number in range(25):
        lines[number * 1_000] = f"changed for the {number}. time\n"
        (clone / "src/table.txt").write_text("".join(lines))
        new = await site.commit(clone, f"change {number}")
    said = await site.push(clone)
    assert said.code == 0, said.text
    assert site.refs()[OWN_REF] == new


async def test_the_twin_with_deltas_as_deep_as_git_makes_them_is_let_in(site: Site) -> None:
    clone = await site.clone()
    lines = [f"{number * number}\n" for number in range(2_000)]
    for number in range(120):
        lines.append(f"more {number}\n")
        (clone / "src/table.txt").write_text("".join(lines))
        await site.commit(clone, f"change {number}")
    said = await site.git("-c", "pack.depth=100", "push", "--porcelain", "origin", f"HEAD:{OWN_REF}", at=clone)
    assert said.code == 0, said.text
