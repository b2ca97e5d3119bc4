"""Which controllers of this machine are dead for certain: what the kernel knows, and nobody has to guess from silence.

Every controller holds a lock on a file of its own in the state folder for as long as it lives; the kernel lets go of it
however the process ends. Whoever finds such a lock free knows that its owner will never act again, and need not wait
for a lease or for an intent's deadline to pass. A name without a file, or of another machine, is not known to be dead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import socket
from pathlib import Path

MOST_FILES = 200  # of former controllers; older ones are forgotten, and then only their deadlines count


class LocalWorkers:
    """The controllers that share one state folder on one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: int | None = None  # None: has not enlisted

    def enlist(self) -> str:
        """A name that no other controller has, held until `leave` or until this process ends."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._forget_old()
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._mine = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return name

    def leave(self) -> None:
        """Its file stays: what it had begun may still have to be taken over."""
        if self._mine is not None:
            os.close(self._mine)
            self._mine = None

    def gone(self, name: str) -> bool:
        """True: it ran here and has ended. False: it lives, or nobody can tell."""
        if name.partition(":")[0] != socket.gethostname():
            return False
        try:
            seen = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return os.fstat(seen).st_nlink > 0
        finally:
            os.close(seen)

    def _path(self, name: str) -> Path:
        return self._folder / hashlib.sha256(name.encode()).hexdigest()[:32]

    def _forget_old(self) -> None:
        with os.scandir(self._folder) as entries:
            known = [(entry.stat().st_mtime, Path(entry.path)) for entry in entries]
        for _, path in sorted(known)[: max(0, len(known) - MOST_FILES)]:
            self._forget(path)

    def _forget(self, path: Path) -> None:
        """Only one whose owner has ended."""
        try:
            seen = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # somebody else has just forgotten it
        try:
            fcntl.flock(seen, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            return
        finally:
            os.close(seen)
