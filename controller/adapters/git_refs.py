"""Several refs move together, or none: across processes, and across a kill at any instant.

git checks and locks all refs of a transaction before it changes one, but it then renames its lock files one after
another: a kill between two renames leaves some refs moved, and lock files that nobody will remove. So a writer first
takes an flock on the repository and writes what it is about to do into a journal. The kernel drops the lock when its
last holder dies, git included (it inherits the descriptor). Whoever takes the lock next settles the journal: nothing
moved yet, it is dropped; something moved, the rest is moved too. Readers take no lock.

The refs keep git's own compare-and-swap, so somebody who pushes with plain git past this lock is noticed and not
overwritten.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pygit2

from controller.adapters.git_store import ref_value, run_git
from controller.domain.ids import Commit
from controller.errors import Permanent, Unavailable

LOCK_WAIT_S = 2.0  # with a journal to settle and a move, 3 s each, still inside the verbs' deadline of 10 s
LOCK_POLL_S = 0.005
JOURNAL = "flyball-journal"
LOCK = "flyball-lock"


@dataclass(frozen=True, slots=True)
class RefMove:
    """From exactly `old` to `new`. The same value twice: it must be there, and stay."""

    ref: str
    old: Commit | None  # None: it must not exist
    new: Commit

    def command(self) -> str:
        if self.old is None:
            return f"create {self.ref} {self.new}\n"
        if self.old == self.new:
            return f"verify {self.ref} {self.old}\n"
        return f"update {self.ref} {self.new} {self.old}\n"


@dataclass(frozen=True, slots=True)
class RefWriter:
    """Held by the one process that may move refs of a repository now. Only `writing` makes one."""

    path: Path
    lock: int

    def move(self, moves: Sequence[RefMove]) -> None:
        """All of them in this order, durable when it returns. Raises Unavailable if somebody outside was faster."""
        self._write_journal(moves)
        try:
            self._update(moves)
        except Permanent as no:
            self._settle()
            raise Unavailable(f"refs of {self.path.name} moved while they were being moved: {no.message}") from no
        self._close_journal(moves)

    def take_over(self) -> None:
        """Finish or drop what a killed writer left. Its lock files are stale: if it lived it would hold our lock."""
        if (self.path / JOURNAL).exists():
            for ref in (
                "HEAD",
                *(move.ref for move in self._read_journal()),
            ):  # git locks HEAD with the branch it names
                (self.path / f"{ref}.lock").unlink(missing_ok=True)
            self._settle()

    def _settle(self) -> None:
        """A branch moves before what is said about it: what can be left to do names refs that nobody else writes."""
        moves = self._read_journal()
        repository = pygit2.Repository(str(self.path))
        now = {move.ref: ref_value(repository, move.ref) for move in moves}
        begun = any(now[move.ref] == move.new != move.old for move in moves)
        rest = [move for move in moves if now[move.ref] == move.old != move.new]
        if begun and rest:
            self._finish(rest)
        self._close_journal(moves if begun else ())

    def _finish(self, rest: Sequence[RefMove]) -> None:
        try:
            self._update(rest)
        except Permanent as no:
            raise Unavailable(
                f"a move of refs in {self.path} was cut off, and its rest cannot be done: {no.message}",
                f"Compare the refs with {self.path / JOURNAL}, set them by hand, and delete that file",
            ) from no

    def _update(self, moves: Sequence[RefMove]) -> None:
        commands = "".join(move.command() for move in moves)
        run_git("--git-dir", str(self.path), "update-ref", "--stdin", stdin=commands, keep_open=(self.lock,))

    def _write_journal(self, moves: Sequence[RefMove]) -> None:
        journal, draft = self.path / JOURNAL, self.path / f"{JOURNAL}.new"
        with draft.open("w") as file:
            json.dump([asdict(move) for move in moves], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(journal)
        sync_folder(self.path)

    def _read_journal(self) -> list[RefMove]:
        return [RefMove(**move) for move in json.loads((self.path / JOURNAL).read_text())]

    def _close_journal(self, moved: Sequence[RefMove]) -> None:
        """A ref's content is synced by git, the folder that names it is not; the journal may only go after both."""
        for folder in sorted({(self.path / move.ref).parent for move in moved}):
            sync_folder(folder)
        (self.path / JOURNAL).unlink()


@contextmanager
def writing(path: Path) -> Iterator[RefWriter]:
    """The right to move refs of the bare repository at `path`. Raises Unavailable after `LOCK_WAIT_S`."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, path)
        writer = RefWriter(path, lock)
        writer.take_over()
        yield writer
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    give_up = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise Unavailable(f"refs of {path.name} have been locked for {LOCK_WAIT_S:g} s") from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
