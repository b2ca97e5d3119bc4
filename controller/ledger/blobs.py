"""Blobs: what an entry commits to by digest, one file each, named after its own SHA-256.

A blob is durable before the entry that names it: written beside its place, synced, renamed into it, and the folder
synced. A reader never trusts the name: what does not hash to it is not that blob.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from controller.domain.ids import Digest, digest_bytes
from controller.errors import Permanent, Unavailable

_DIGEST = re.compile(r"sha256:([0-9a-f]{2})([0-9a-f]{62})")
_UNFINISHED = ".unfinished-"


class FileBlobs:
    """The port `Blobs`: `directory`/ab/cdef...

    `durable=False` neither syncs nor leaves the calling coroutine (simulation).
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory
        self._durable = durable

    async def put(self, content: bytes) -> Digest:
        """Durable when it returns. Same content, same digest. A damaged file of that name is mended.

        Raises Unavailable when the disk says no.
        """
        return await asyncio.to_thread(self._put, content) if self._durable else self._put(content)

    async def get(self, digest: Digest) -> bytes:
        """Raises Permanent if it is not there or does not match its digest."""
        return await asyncio.to_thread(self.content_of, digest) if self._durable else self.content_of(digest)

    def path_of(self, digest: Digest) -> Path:
        found = _DIGEST.fullmatch(digest)
        if found is None:
            raise Permanent(f"{digest!r} is no digest", 'Name a blob as "sha256:" and 64 lower-case hex digits')
        return self._directory / found[1] / found[2]

    def _put(self, content: bytes) -> Digest:
        digest = digest_bytes(content)
        path = self.path_of(digest)
        try:
            self._make_folder(path.parent)
            if not path.is_file() or path.read_bytes() != content:
                self._write(path, content)
            self._sync(path.parent)  # also for a file that is there already: another process may have just renamed it
        except OSError as error:
            raise Unavailable(
                f"blob {digest} cannot be written: {error}", "Free space on this disk and check its rights"
            ) from error
        return digest

    def content_of(self, digest: Digest) -> bytes:
        """`get`, in the calling thread."""
        path = self.path_of(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise Permanent(
                f"blob {digest} is not in {self._directory}", "Restore it from a copy of that folder"
            ) from error
        except OSError as error:
            raise Unavailable(f"blob {digest} cannot be read: {error}", "Check the disk and its rights") from error
        if digest_bytes(content) != digest:
            raise Permanent(f"blob {digest} has been altered: {path}", "Restore it from a copy of that folder")
        return content

    def _write(self, path: Path, content: bytes) -> None:
        handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_folder(self, folder: Path) -> None:
        """Transcripts are nobody else's business: the folders are their owner's alone."""
        if folder.is_dir():
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._sync(self._directory)
        self._sync(self._directory.parent)

    def _sync(self, folder: Path) -> None:
        if self._durable:
            sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename or a new file is not, until its folder is synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stored_digests(directory: Path) -> Iterator[Digest]:
    """The names of all blobs in a folder, unfinished ones left out."""
    for path in sorted(directory.glob("??/*")):
        digest = Digest(f"sha256:{path.parent.name}{path.name}")
        if _DIGEST.fullmatch(digest):
            yield digest
