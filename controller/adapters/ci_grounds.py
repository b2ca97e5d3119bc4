"""The ground that tests run on: what a session leaves running or lying about is gone before the next one begins.

Part of the parent of the tests: nothing but the standard library, and no pathlib.
"""

# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH112, PTH118, PTH123, PTH208

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
PATIENCE_S = 3.0  # for processes that are killed again and again until none is left
MOUNTED = (errno.ENOTEMPTY, errno.EBUSY, errno.EROFS)


def protect(*, dumpable: bool) -> None:
    """Linux: whether processes of this uid may look into this one and write to its memory. Elsewhere: no change."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  7 ms that macOS need not pay

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
        libc.prctl(PR_SET_CHILD_SUBREAPER, int(not dumpable), 0, 0, 0)


def end_all() -> bool:
    """Kill what the session has left running; orphans become ours. False: some of it cannot be ended."""
    give_up = time.monotonic() + PATIENCE_S
    while children := children_of(os.getpid()):
        if time.monotonic() > give_up:
            return False
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            continue
    return True


def children_of(pid: int) -> list[int]:
    """Empty where the system has no such list."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def lay_out(source: str, root: str) -> None:
    """Everything in `root` goes, and what `source` holds takes its place. Raises OSError: something resists."""
    empty(root)
    os.chmod(root, 0o755)  # noqa: S103  as any checkout
    shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)


def replace(source: str, root: str, names: list[str]) -> None:
    """These files of `root` become those of `source`, or go. Compiled code of theirs is gone."""
    for name in names:
        target = os.path.join(root, *name.split("/"))
        if os.path.lexists(target):
            os.unlink(target)
        folder, file = os.path.split(target)
        compiled = os.path.join(folder, "__pycache__")
        for entry in os.scandir(compiled) if os.path.isdir(compiled) else ():
            if entry.name.startswith(file.removesuffix(".py") + "."):
                os.unlink(entry.path)
        before = os.path.join(source, *name.split("/"))
        if os.path.lexists(before):
            os.makedirs(folder, exist_ok=True)
            shutil.copy2(before, target, follow_symlinks=False)


def empty(folder: str) -> None:
    """Files that tests have made unreadable included."""
    os.chmod(folder, 0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            empty(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def without_bytecode(root: str) -> None:
    """Compiled files that a commit brings would be executed in place of the sources beside them."""
    for base, folders, _ in os.walk(root):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            shutil.rmtree(os.path.join(base, "__pycache__"))


def clear_home() -> list[str]:
    """What one session has left in HOME and in shared memory must not meet the next one. What stayed, in words."""
    said = []
    for folder in {os.environ.get("HOME", ""), "/dev/shm"}:  # noqa: S108
        if os.path.isdir(folder) and (folder != "/dev/shm" or os.environ.get("HOME") == "/tmp"):  # noqa: S108
            left = sweep(folder, os.lstat(folder).st_dev)
            if left:
                said.append(f"{folder} still holds {left[0]}")
    return said


def sweep(folder: str, device: int) -> list[str]:
    """All that can go. What is mounted stays, and the folders that lead to it. What else stayed is told."""
    left = []
    for entry in list(os.scandir(folder)):
        try:
            if entry.stat(follow_symlinks=False).st_dev != device:
                continue
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                left += sweep(entry.path, device)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
        except OSError as wrong:
            if wrong.errno not in MOUNTED:
                left.append(f"{entry.name} ({wrong.strerror})")
    return left
