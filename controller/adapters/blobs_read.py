"""Blobs, for a process that may only read them: it knows no way to write one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from controller.domain.ids import Digest, digest_bytes
from controller.errors import Permanent, Unavailable

PLACE = re.compile(r"sha256:([0-9a-f]{2})([0-9a-f]{62})")
LARGEST_BYTES = 64 << 20


class ReadBlobs:
    """The port `Reader` over the folder that `controller.ledger.blobs.FileBlobs` keeps: `directory`/ab/cdef..."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def get(self, digest: Digest) -> bytes:
        return await asyncio.to_thread(self._get, digest)

    def _get(self, digest: Digest) -> bytes:
        found = PLACE.fullmatch(digest)
        if found is None:
            raise Permanent(f"{digest!r} is no digest", 'Name a blob as "sha256:" and 64 lower-case hex digits')
        path = self._directory / found[1] / found[2]
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_BYTES + 1)
        except FileNotFoundError as error:
            raise Permanent(f"blob {digest} is not in {self._directory}", "Restore it from a copy") from error
        except OSError as error:
            raise Unavailable(f"blob {digest} cannot be read: {error}", "Check the disk and its rights") from error
        if len(content) > LARGEST_BYTES:
            raise Permanent(f"blob {digest} exceeds {LARGEST_BYTES} bytes", "A segment's counts are far smaller")
        if digest_bytes(content) != digest:
            raise Permanent(f"blob {digest} has been altered: {path}", "Restore it from a copy of that folder")
        return content
