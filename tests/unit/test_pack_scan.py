"""What a pack is counted to unfold to, entry by entry, and what is refused before it is unfolded."""

from __future__ import annotations

import zlib
from dataclasses import replace
from io import BytesIO

import pytest

from controller.adapters.git_scan import OFS_DELTA, REF_DELTA, Bounds, Scan, Verdict

BLOB = 3
BOUNDS = Bounds(pack_bytes=10_000, objects=10, object_bytes=1_000, total_bytes=3_000, free_bytes=3_000, times=10)


def header(kind: int, size: int) -> bytes:
    first, size = kind << 4 | size & 15, size >> 4
    rest = b""
    while size:
        rest += bytes([size & 127 | (128 if size >> 7 else 0)])
        size >>= 7
    return bytes([first | (128 if rest else 0)]) + rest


def entry(content: bytes, *, kind: int = BLOB, says: int | None = None, before: bytes = b"") -> bytes:
    return header(kind, len(content) if says is None else says) + before + zlib.compress(content)


def pack(*entries: bytes, says: int | None = None, after: bytes = b"") -> bytes:
    count = (len(entries) if says is None else says).to_bytes(4)
    return b"PACK" + (2).to_bytes(4) + count + b"".join(entries) + bytes(20) + after


def scanned(content: bytes, bounds: Bounds = BOUNDS) -> Verdict:
    return Scan(BytesIO(content).read, BytesIO().write, bounds).verdict()


def number(value: int) -> bytes:
    """As a delta begins; below 2^14."""
    return bytes([value & 127 | 128, value >> 7])


def test_objects_of_the_size_that_they_say_are_added_up() -> None:
    found = scanned(pack(entry(bytes(1_000)), entry(b"")))
    assert (found.fault, found.unfolded, found.name) == ("", 1_000, "00" * 20)


@pytest.mark.parametrize("kind", [OFS_DELTA, REF_DELTA])
def test_a_delta_counts_for_itself_and_for_what_it_makes(kind: int) -> None:
    delta = number(5) + number(900) + b"x"
    before = b"\x01" if kind == OFS_DELTA else bytes(20)
    assert scanned(pack(entry(delta, kind=kind, before=before))).unfolded == len(delta) + 900


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (pack(entry(bytes(1_001))), "excess_bytes"),
        (pack(entry(number(5) + number(1_001), kind=REF_DELTA, before=bytes(20))), "excess_bytes"),
        (pack(*[entry(bytes(1_000))] * 3, entry(b"x")), "excess_bytes"),
        (pack(*[entry(b"")] * 11), "excess_objects"),
        (pack(entry(bytes(999), says=1_000)), "broken_packs"),
        (pack(entry(bytes(1_000), says=999)), "broken_packs"),
        (pack(entry(b"x"), says=2), "broken_packs"),
        (pack(entry(b"x"), after=b"more"), "broken_packs"),
        (pack(entry(b"x", kind=5)), "broken_packs"),
        (pack(entry(b"\x85", kind=REF_DELTA, before=bytes(20))), "broken_packs"),
        (b"KCAP" + pack()[4:], "broken_packs"),
        (pack()[:-1], "broken_packs"),
    ],
    ids=lambda one: one if isinstance(one, str) else f"{len(one)} bytes",
)
def test_what_is_more_than_may_be_or_other_than_it_says_is_refused(content: bytes, fault: str) -> None:
    assert scanned(content).fault == fault


def test_something_behind_a_pack_that_comes_later_is_refused_all_the_same() -> None:
    pieces = iter([pack(entry(b"x")), b"more", b""])
    assert Scan(lambda _: next(pieces), BytesIO().write, BOUNDS).verdict().complaint == "something follows the pack"


def test_a_pack_may_unfold_to_so_many_times_its_bytes_and_a_share_that_is_free() -> None:
    content = pack(entry(bytes(1_000)))
    most = 1_000 - 2 * len(content)
    assert scanned(content, replace(BOUNDS, free_bytes=most, times=2)).fault == ""
    assert scanned(content, replace(BOUNDS, free_bytes=most - 1, times=2)).fault == "excess_bytes"
