"""Small files that must be whole and durable, and locks that end with their process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import sync_folder


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Durable and all at once: a reader sees the old content or the new.

    Raises Unavailable when the disk says no.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error}", "Free space there and check its rights") from error


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that the kernel takes back however this process ends. False: somebody else holds it.

    Raises Permanent when there can be no lock.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise Permanent(f"{path} cannot be opened: {error}", "Make its folder writable for this user") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
