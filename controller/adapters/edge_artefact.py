"""What a build has left, taken over: looked at as other people's, made ours, stored under its digest.

Plain files, folders and links that stay inside; anything else (a pipe that would hold the reader up, a link to a file
of ours, a device) is refused, and so are names that are no text, and more than can be looked through in seconds. Files
get our owner and plain modes, so that no later command can write to what was built. The digest covers sorted paths,
kinds, execute bits, contents, and folders that hold nothing. Byte code in `__pycache__` is thrown away: it would be run
in its source's place, and the same source does not always compile to the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from controller.adapters.removal import remove
from controller.domain.ids import Digest
from controller.errors import Permanent

THROWN_AWAY = "__pycache__"
MOST_ENTRIES = 200_000
MOST_BYTES = 4 << 30  # as the files say, holes included: all of them are read
MOST_DEPTH = 64
LONGEST_NAME_BYTES = 1_024  # of a path within it
PIECE_BYTES = 1 << 20


def artefact_folder(store: Path, artefact: Digest) -> Path:
    return store / artefact.removeprefix("sha256:")


def stored(folder: Path, store: Path) -> Digest:
    """Raises `Permanent` for what is no artefact. Nothing may run in `folder` any more."""
    take_over(folder)
    artefact = digest_of_tree(folder)
    kept = artefact_folder(store, artefact)
    if not kept.exists():
        try:
            folder.rename(kept)
        except OSError:
            if not kept.exists():  # else another service's build of the same files came first
                raise
    return artefact


def take_over(folder: Path) -> None:
    """Ours, with modes 755 and 644, `folder` itself included."""
    ours = os.geteuid() == 0
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise Permanent("the build replaced the folder for its output", "Let it write into the folder")
    _own(folder, 0o755, ours=ours)
    size = 0
    for path in _entries(folder):
        name, found = path.relative_to(folder).as_posix(), path.lstat()
        if stat.S_ISLNK(found.st_mode):
            _must_stay_inside(path, folder)
            if ours:
                os.chown(path, 0, 0, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            size += found.st_size
            _own(path, 0o755 if found.st_mode & stat.S_IXUSR else 0o644, ours=ours)
        elif not stat.S_ISDIR(found.st_mode):
            raise Permanent(f"the artefact's {name!r} is no file, folder or link", "Let the build leave files")
        if size > MOST_BYTES:
            raise Permanent(f"the artefact has more than {MOST_BYTES:,} bytes", "Let the build leave less")


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
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in _leaves(folder)):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            kind, content = "link", os.fsencode(path.readlink())
            whole.update(f"{len(name)}:{name}:{kind}:{len(content)}:".encode() + content)
            continue
        if stat.S_ISDIR(found.st_mode):
            whole.update(f"{len(name)}:{name}:empty:0:".encode())
            continue
        kind = "run" if found.st_mode & stat.S_IXUSR else "file"
        whole.update(f"{len(name)}:{name}:{kind}:{found.st_size}:".encode())
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                whole.update(piece)
    return Digest("sha256:" + whole.hexdigest())


def _leaves(folder: Path) -> Iterator[Path]:
    """Files, links, and folders without anything in them, byte code left out."""
    left = [folder]
    while left:
        inner = left.pop()
        held = [path for path in inner.iterdir() if not _is_byte_code(path)]
        if not held and inner != folder:
            yield inner
        for path in held:
            if path.is_dir() and not path.is_symlink():
                left.append(path)
            else:
                yield path


def _is_byte_code(path: Path) -> bool:
    return path.name == THROWN_AWAY and path.is_dir() and not path.is_symlink()


def _entries(folder: Path) -> Iterator[Path]:
    """Everything below, a folder before what it holds: it is made readable first. Raises `Permanent` past a bound."""
    left, entries = [(folder, 0)], 0
    while left:
        inner, depth = left.pop()
        if depth > MOST_DEPTH:
            raise Permanent(f"the artefact has folders more than {MOST_DEPTH} deep", "Let the build leave fewer")
        for path in _held(inner):
            entries += 1
            if entries > MOST_ENTRIES:
                few = "Let the build leave fewer files"
                raise Permanent(f"the artefact has more than {MOST_ENTRIES:,} entries", few)
            _must_be_named(path, folder)
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
                if os.geteuid() == 0:
                    os.chown(path, 0, 0, follow_symlinks=False)
                left.append((path, depth + 1))
            yield path


def _held(folder: Path) -> Iterator[Path]:
    """Its byte code is gone then."""
    with os.scandir(folder) as found:
        for entry in found:
            path = Path(entry.path)
            if _is_byte_code(path):
                remove(path)
                continue
            yield path


def _must_be_named(path: Path, folder: Path) -> None:
    name = os.fsencode(path.relative_to(folder))
    if len(name) > LONGEST_NAME_BYTES:
        shown = name[:60].decode(errors="replace")
        raise Permanent(
            f"the artefact has a path of more than {LONGEST_NAME_BYTES:,} bytes, it begins with {shown!r}",
            "Let the build leave shorter ones",
        )
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise Permanent(f"the artefact's {name!r} is not UTF-8", "Let the build leave names that are text") from error
