"""Counts what a pack would unfold to while it comes in, in a child process with limits, before git unfolds any of it.

Each entry of a pack declares its size, and a delta begins with the size of what it makes: their sum is what git would
have to hold, hash and check. So a pack of some hundred bytes that stands for gigabytes ends at the entry that goes over
the bound. What is declared is held against what comes: an entry that inflates to more than it says is refused as it
does. The pack is written to its file meanwhile and synced; whether its objects are well-formed is for git to say.

`python -I -S git_scan.py FILE PACK OBJECTS OBJECT TOTAL FREE TIMES` reads the pack from standard input and writes one
line of JSON. It knows nothing of Flyball: the standard library is enough.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

CHUNK = 16 * 1024
MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 60
TYPES = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
OFS_DELTA, REF_DELTA = 6, 7
NAME_BYTES = 20
SIZES_OF_A_DELTA = 20  # bytes, at most: two numbers of 64 bits


@dataclass(frozen=True)
class Bounds:
    pack_bytes: int
    objects: int
    object_bytes: int  # of one object, unfolded
    total_bytes: int  # of all of them
    free_bytes: int  # a pack of whatever size may unfold to as much as this,
    times: int  # and to this many times its own bytes more


@dataclass(frozen=True)
class Verdict:
    """`fault` "": none. `name`: the pack's own digest, in hex."""

    fault: str = ""
    count: int = 0
    complaint: str = ""
    name: str = ""
    unfolded: int = 0


class FaultyError(Exception):
    def __init__(self, fault: str, count: int = 1, complaint: str = "") -> None:
        super().__init__(fault)
        self.verdict = Verdict(fault, count, complaint)


class Scan:
    """`read` gives up to that many bytes, and none at the end; `write` keeps what has been read."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[bytes], object], bounds: Bounds) -> None:
        self._read = read
        self._write = write
        self._bounds = bounds
        self._unread = b""
        self._taken = 0  # of the pack, and looked at
        self._come = 0  # of the pack
        self._unfolded = 0

    def verdict(self) -> Verdict:
        try:
            return self._whole()
        except FaultyError as no:
            return no.verdict

    def _whole(self) -> Verdict:
        if self._bytes(4) != b"PACK" or int.from_bytes(self._bytes(4)) not in {2, 3}:
            raise _broken("it does not begin as a pack")
        objects = int.from_bytes(self._bytes(4))
        if objects > self._bounds.objects:
            raise FaultyError("excess_objects", objects)
        for _ in range(objects):
            self._object()
        name = self._bytes(NAME_BYTES).hex()
        if self._unread or self._more():
            raise _broken("something follows the pack")
        return Verdict(name=name, unfolded=self._unfolded)

    def _object(self) -> None:
        kind, size = self._header()
        self._counted(size)
        if kind == OFS_DELTA:
            self._skip_number()
        elif kind == REF_DELTA:
            self._bytes(NAME_BYTES)
        elif kind not in TYPES:
            raise _broken(f"it has an object of kind {kind}")
        begins = self._inflated(size)
        if kind in {OFS_DELTA, REF_DELTA}:
            _, after = _number(begins, 0)
            makes, _ = _number(begins, after)
            self._counted(makes)

    def _counted(self, size: int) -> None:
        """Before a byte of it is unfolded."""
        self._unfolded += size
        bounds = self._bounds
        most = min(bounds.total_bytes, bounds.free_bytes + bounds.times * self._come)
        if size > bounds.object_bytes or self._unfolded > most:
            raise FaultyError("excess_bytes", self._unfolded)

    def _header(self) -> tuple[int, int]:
        byte = self._bytes(1)[0]
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128:
            if shift > 57:  # noqa: PLR2004 - 64 bits
                raise _broken("an object has a size without end")
            byte = self._bytes(1)[0]
            size |= (byte & 127) << shift
            shift += 7
        return kind, size

    def _skip_number(self) -> None:
        for _ in range(10):
            if not self._bytes(1)[0] & 128:
                return
        raise _broken("a delta has an offset without end")

    def _inflated(self, size: int) -> bytes:
        """Its first bytes. Raises for an object that is not exactly as long as it says."""
        inflating, begins, came = zlib.decompressobj(), b"", 0
        while not inflating.eof:
            if not self._unread and not self._more():
                raise _broken("it is cut off")
            before = self._unread
            try:
                piece = inflating.decompress(before, CHUNK)
            except zlib.error as no:
                raise _broken("an object cannot be inflated") from no
            self._unread = inflating.unconsumed_tail or inflating.unused_data
            self._taken += len(before) - len(self._unread)
            begins = (begins + piece)[:SIZES_OF_A_DELTA] if len(begins) < SIZES_OF_A_DELTA else begins
            came += len(piece)
            if came > size:
                raise _broken("an object is longer than it says")
        if came != size:
            raise _broken("an object is shorter than it says")
        return begins

    def _bytes(self, size: int) -> bytes:
        while len(self._unread) < size:
            if not self._more():
                raise _broken("it is cut off")
        found, self._unread = self._unread[:size], self._unread[size:]
        self._taken += size
        return found

    def _more(self) -> bool:
        """False: there is no more."""
        chunk = self._read(CHUNK)
        self._come += len(chunk)
        if self._come > self._bounds.pack_bytes:
            raise FaultyError("excess_bytes", self._come)
        self._write(chunk)
        self._unread += chunk
        return bool(chunk)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
    raise _broken("a delta does not say how large it is")


def _broken(why: str) -> FaultyError:
    return FaultyError("broken_packs", complaint=why)


def limited(file_bytes: int) -> None:
    """Of this process, for good: what it may hold, write and compute."""
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, file_bytes + CHUNK),
        (resource.RLIMIT_CORE, 0),
        *(((resource.RLIMIT_AS, MEMORY_BYTES),) if sys.platform == "linux" else ()),
    ):
        resource.setrlimit(kind, (most, most))


def main(file: str, *numbers: str) -> int:
    bounds = Bounds(*map(int, numbers))
    limited(bounds.pack_bytes)
    with open(file, "xb") as out:  # noqa: PTH123 - as little as possible is loaded
        found = Scan(lambda size: os.read(0, size), out.write, bounds).verdict()
        out.flush()
        os.fsync(out.fileno())
    sys.stdout.write(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
