"""What a build has left, taken over: looked at as other people's, made ours, stored under its digest.

Plain files, folders and links that stay inside; anything else (a pipe that would hold the reader up, a link to a file
of ours, a device) is refused. Files get our owner and plain modes, so that no later command can write to what was
built. The digest covers sorted paths, kinds, execute bits and contents; `__pycache__` is left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from controller.domain.ids import Digest
from controller.errors import Permanent

SKIPPED = "__pycache__"
MOST_ENTRIES = 200_000
PIECE_BYTES = 1 << 20


def artefact_folder(store: Path, artefact: Digest) -> Path:
    return store / artefact.removeprefix("sha256:")


def stored(folder: Path, store: Path) -> Digest:
    """Raises `Permanent` for what is no artefact. Nothing may run in `folder` any more."""
    take_over(folder)
    artefact = digest_of_tree(folder)
    kept = artefact_folder(store, artefact)
    if not kept.exists():
        shutil.move(folder, kept)
    return artefact


def take_over(folder: Path) -> None:
    """Ours, with modes 755 and 644, `folder` itself included."""
    ours = os.geteuid() == 0
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise Permanent("the build replaced the folder for its output", "Let it write into the folder")
    _own(folder, 0o755, ours=ours)
    for number, path in enumerate(_entries(folder), 1):
        if number > MOST_ENTRIES:
            raise Permanent(f"the artefact has more than {MOST_ENTRIES:,} entries", "Let the build leave fewer files")
        name, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            _must_stay_inside(path, folder)
            if ours:
                os.chown(path, 0, 0, follow_symlinks=False)
        elif stat.S_ISREG(mode):
            _own(path, 0o755 if mode & stat.S_IXUSR else 0o644, ours=ours)
        elif not stat.S_ISDIR(mode):
            raise Permanent(f"the artefact's {name!r} is no file, folder or link", "Let the build leave files")


def _own(path: Path, mode: int, *, ours: bool) -> None:
    """The owner first: it clears set-uid bits, and whoever owns a file may change its mode."""
    if ours:
        os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(mode)


def _must_stay_inside(path: Path, folder: Path) -> None:
    """By where the kernel would lead: a link to a link may leave though neither says so."""
    target, root = path.readlink(), os.path.realpath(folder)
    if target.is_absolute() or not Path(os.path.realpath(path)).is_relative_to(root):
        name = path.relative_to(folder).as_posix()
        raise Permanent(f"the artefact's link {name!r} leads out of it, to {str(target)!r}", "Let it stay inside")


def digest_of_tree(folder: Path) -> Digest:
    """The same for the same files on every machine: times and owners are no part of it."""
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in _files(folder)):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            kind, content = "link", os.fsencode(path.readlink())
            whole.update(f"{len(name)}:{name}:{kind}:{len(content)}:".encode() + content)
            continue
        kind = "run" if found.st_mode & stat.S_IXUSR else "file"
        whole.update(f"{len(name)}:{name}:{kind}:{found.st_size}:".encode())
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                whole.update(piece)
    return Digest("sha256:" + whole.hexdigest())


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name == SKIPPED:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        else:
            yield path


def _entries(folder: Path) -> Iterator[Path]:
    """Everything below, a folder before what it holds: it is made readable first."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            yield path
            continue
        path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, 0, 0, follow_symlinks=False)
        yield path
        yield from _entries(path)
