"""A uid for each sandbox that root starts: lent while it lives, and to nobody else on this machine meanwhile.

Two sandboxes under one uid could share what the kernel counts by uid. A lock file per uid, in a folder of root's, is
held by the process that started the sandbox; it goes when the sandbox does, or with that process.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import Unavailable

FIRST_UID, UIDS = 62_000, 3_000  # within 61184..65519, which systemd keeps for users without an account
FOLDER = Path("/run/flyball-uids")


@contextmanager
def lent_uid(tree: Path, folder: Path | None = None) -> Iterator[int]:
    """-1 where the caller is not root. A tree's first choice is the same each time: its files need no new owner then.

    `folder=None`: `FOLDER`. Raises `Unavailable` when all are lent.
    """
    folder = folder or FOLDER
    if os.geteuid() != 0:
        yield -1
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = zlib.crc32(os.fsencode(tree))
    for number in range(UIDS):
        uid = FIRST_UID + (first + number) % UIDS
        lock = _locked(folder / str(uid))
        if lock is not None:
            try:
                yield uid
            finally:
                (folder / str(uid)).unlink(missing_ok=True)
                os.close(lock)
            return
    raise Unavailable(f"all {UIDS} uids for sandboxes are lent", f"Wait for sandboxes to end; locks are in {folder}")


def _locked(path: Path) -> int | None:
    """None: somebody else holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):  # held, or removed by its last holder between the two
        pass
    os.close(lock)
    return None
