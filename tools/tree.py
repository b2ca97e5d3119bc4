"""Files beneath one folder, and no others, whatever the tree and whoever changes it meanwhile.

A path is walked one component at a time, each opened relative to the last with O_NOFOLLOW: a symbolic link anywhere on
the way is an error, and swapping a folder for a link between check and use changes nothing, because what was opened is
what is used. Only regular files are read, without waiting on pipes; files are replaced by rename, so a reader sees the
old text or the new.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools.belt import NotPossible

MAX_FILE_BYTES = 1024 * 1024
MOST_DEPTH = 128  # folders within folders, as deep as a push may be; code under test makes them until a stack is full
MAX_FILES = 20_000  # looked at in one walk
NOISE = frozenset({".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".venv", "node_modules"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a walk came across."""

    path: str
    is_link: bool


class Tree:
    """`root` itself is trusted; nothing beneath it is. Every method raises NotPossible with words for the agent."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        with self._folder_of(path) as (folder, name), _words(path), _opened(name, folder) as handle:
            return _content(handle, path)

    def exists(self, path: str) -> bool:
        try:
            with self._folder_of(path) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotPossible):
            return False
        return True

    def write(self, path: str, content: bytes) -> None:
        """Makes missing folders. An existing file keeps its mode; anything else that is there is left alone."""
        if len(content) > MAX_FILE_BYTES:
            raise NotPossible(f"{path} would have {len(content)} bytes, the bound is {MAX_FILE_BYTES}")
        with self._folder_of(path, make=True) as (folder, name), _words(path):
            mode = _mode(name, folder, path)
            unfinished = f".{secrets.token_hex(8)}.new"
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    os.fchmod(handle, mode)
                os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(unfinished, dir_fd=folder)
                raise

    def delete(self, path: str) -> None:
        with self._folder_of(path) as (folder, name), _words(path):
            _must_be_file(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
            os.unlink(name, dir_fd=folder)

    def walk(self, beneath: str = "") -> Iterator[Found]:
        """Files and links beneath a folder (or the one file), never through a link. Noise is left out."""
        if not beneath:
            yield from self._walk("")
            return
        with self._folder_of(beneath) as (folder, name), _words(beneath):
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            yield from self._walk(f"{beneath}/")
        else:
            yield Found(beneath, stat.S_ISLNK(kind))

    def _walk(self, prefix: str) -> Iterator[Found]:
        with self._folder_of(f"{prefix}.") as (start, _):
            seen = 0
            for place, folders, files, handle in os.fwalk(".", dir_fd=start, follow_symlinks=False):
                deep = place.count("/") >= MOST_DEPTH
                folders[:] = [] if deep else sorted(name for name in folders if name.lower() not in NOISE)
                links = {name for name in (*folders, *files) if _is_link(name, handle)}
                for name in sorted({*files, *links}):
                    seen += 1
                    if seen > MAX_FILES:
                        return
                    path = PurePosixPath(place, name).as_posix()
                    yield Found(prefix + path, name in links)

    @contextmanager
    def _folder_of(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder that a path's last component is in, open, and that component."""
        *folders, name = path.split("/")
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                with _words(path):
                    inner = _enter(folder, handle, make=make)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)


def _enter(folder: str, handle: int, *, make: bool) -> int:
    if folder in {"", ".", ".."}:  # the desk has refused these already; a tree trusts nobody
        raise NotPossible("a path has no empty or dot segments")
    if make:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o755, dir_fd=handle)
    return os.open(folder, _FOLDER, dir_fd=handle)


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    handle = os.open(name, _FILE, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _content(handle: int, path: str) -> bytes:
    found = os.fstat(handle)
    _must_be_file(found, path)
    if found.st_size > MAX_FILE_BYTES:
        raise NotPossible(f"{path} has {found.st_size} bytes, the bound is {MAX_FILE_BYTES}")
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read(MAX_FILE_BYTES)


def _mode(name: str, folder: int, path: str) -> int:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    _must_be_file(found, path)
    return stat.S_IMODE(found.st_mode) & 0o777


def _must_be_file(found: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NotPossible(f"{path} is a symbolic link, and links are not followed")
    if stat.S_ISDIR(found.st_mode):
        raise NotPossible(f"{path} is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise NotPossible(f"{path} is no regular file")


def _is_link(name: str, handle: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _words(path: str) -> Iterator[None]:
    """The system's errors in words for the agent, without the machine's own paths."""
    try:
        yield
    except FileNotFoundError:
        raise NotPossible(f"there is no file {path}") from None
    except IsADirectoryError:
        raise NotPossible(f"{path} is a folder") from None
    except OSError as error:
        # O_NOFOLLOW on a link says ELOOP, O_DIRECTORY with it ENOTDIR: neither tells which component it was
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            raise NotPossible(f"{path} leads through a symbolic link or a file, and links are not followed") from None
        raise NotPossible(f"{path} cannot be used: {os.strerror(error.errno or 0)}") from None
