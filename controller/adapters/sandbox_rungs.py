"""The ladder: three ways of shutting a command in, best first, and the plan that `sandbox_enter` carries out for each.

What a command sees on the first two rungs is the same and small: /usr and what it needs to link and resolve names,
the Python environment it runs on, the folders named as readable, a bounded /tmp, its tree at `INSIDE`, and a network
that is its own loopback.
"""

from __future__ import annotations

import functools
import os
import resource
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from controller.adapters.sandbox_enter import STAGE
from controller.adapters.sandbox_seccomp import deny_list

INSIDE, OUT = "/workspace", "/out"
LINKED = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
NEEDED: tuple[str, ...] = (
    "/usr",
    "/nix/store",
    "/etc/alternatives",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
NEEDED += ("/etc/mime.types", "/etc/nsswitch.conf", "/etc/passwd", "/etc/protocols", "/etc/services", "/etc/ssl")
DEVICE_LINKS: tuple[tuple[str, str], ...] = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
)
DEVICE_LINKS += (("/dev/stderr", "/proc/self/fd/2"), ("/dev/ptmx", "pts/ptmx"), ("/var/tmp", "/tmp"))  # noqa: S108
HOSTS = "/etc/hosts"


class Rung(StrEnum):
    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    PLAIN = "plain"


@dataclass(frozen=True)
class Limits:
    """What a command may use. Those of the sum hold where control groups can be had; the rest everywhere.

    Per process where the kernel counts per process (memory, CPU, file size, open files).
    """

    wall_s: float = 600.0  # of `Sandbox.run`; what `start` started runs until it is ended
    output_bytes: int = 256 * 1024
    memory_bytes: int = 4 << 30
    all_memory_bytes: int = 8 << 30  # the sum, with what lies in /tmp
    processes: int = 512  # not on the plain rung, where the count would include all of the user's other processes
    cpus: float | None = None  # the sum. None: all of them, at half of the controller's weight
    file_bytes: int = 1 << 30
    folder_bytes: int = 4 << 30  # the sum of all files in the folders that it may write to
    open_files: int = 1_024
    tmp_bytes: int = 256 << 20

    def as_rlimits(self, *, for_ever: bool) -> list[tuple[int, int]]:
        cpu_s = resource.RLIM_INFINITY if for_ever else int(self.wall_s + 1) * (os.cpu_count() or 1)
        pairs = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_FSIZE, self.file_bytes)]
        return [*pairs, (resource.RLIMIT_NOFILE, self.open_files), (resource.RLIMIT_AS, self.memory_bytes)]


@dataclass(frozen=True)
class Inside:
    """One command, as the caller wants it run."""

    command: Sequence[str]
    tree: Path
    python: str
    environment: Mapping[str, str]
    home: str  # on the plain rung a folder made for this command alone
    readable: tuple[Path, ...] = ()
    out: Path | None = None  # a folder for what the command makes, at `OUT`. None: it has none
    tree_is_writable: bool = True
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    for_ever: bool = False  # an instance, which no CPU time ends
    uid: int = -1  # lent for this command. -1: nobody's, we are not root
    cgroups: tuple[str, ...] = ()
    control: int = -1  # file descriptor that the doorkeeper speaks by. -1: there are no doors
    doors: tuple[tuple[str, int], ...] = ()  # address and port inside
    hosts: Path | None = None  # in the place of /etc/hosts. None: the system's


@functools.cache
def python_roots(python: str) -> tuple[str, ...]:
    """The folders that an interpreter needs besides /usr: its environment, and the installation beneath it."""
    if python == sys.executable:
        prefixes = [sys.prefix, sys.base_prefix]
    else:
        asked = [python, "-I", "-c", "import sys; print(sys.prefix); print(sys.base_prefix)"]
        prefixes = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    wanted = dict.fromkeys(os.path.realpath(prefix) for prefix in prefixes)
    return tuple(root for root in wanted if root != "/" and not Path(root).is_relative_to("/usr"))


def plan_of(rung: Rung, inside: Inside) -> dict[str, Any]:
    """What `sandbox_enter` must do, in types that `marshal` knows."""
    shut_in = rung is not Rung.PLAIN
    tree = inside.tree.absolute()
    written = [str(inside.out.absolute())] if inside.out else []
    read = [*python_roots(inside.python), *(str(path) for path in inside.readable)]
    hosts = [(str(inside.hosts), HOSTS)] if inside.hosts else []
    wanted = [(path, path, False) for path in read] + [(source, target, False) for source, target in hosts]
    wanted += [(path, OUT, True) for path in written] + [(str(tree), INSIDE, inside.tree_is_writable)]
    binds = [
        (f"{STAGE}/{number}" if inside.uid >= 0 else source, target, writable)
        for number, (source, target, writable) in enumerate(wanted)
    ]
    plan: dict[str, Any] = {
        "kind": str(rung),
        "parent": os.getpid(),
        "uid": inside.uid if shut_in else -1,
        "given": [*([str(tree)] if inside.tree_is_writable else []), *written],
        "stage": [source for source, _, _ in wanted],
        "rlimits": inside.limits.as_rlimits(for_ever=inside.for_ever),
        "cgroups": list(inside.cgroups),
        "control": inside.control if shut_in else -1,
        "doors": [list(door) for door in inside.doors],
        "argv": list(inside.command),
        "env": dict(inside.environment),
        "home": inside.home,
        "cwd": INSIDE if shut_in else str(tree),
        "network": inside.network or inside.control >= 0,
        "seccomp": deny_list() if shut_in else b"",
        "no_start": f"sandbox did not start ({secrets.token_hex(8)})",  # what the command cannot say in our place
    }
    if rung is Rung.NAMESPACES:
        plan |= _own_root(binds, inside)
    if rung is Rung.BUBBLEWRAP:
        command = _with_processes_bounded(inside)
        plan |= {"bwrap": _bwrap()[0], "options": _bwrap_options(binds, inside), "argv": command}
    return plan


def _system(inside: Inside) -> list[str]:
    return [path for path in NEEDED if path != HOSTS or inside.hosts is None]


def _own_root(binds: list[tuple[str, str, bool]], inside: Inside) -> dict[str, Any]:
    linked = [(path, str(Path(path).readlink())) for path in LINKED if Path(path).is_symlink()]
    system = [path for path in (*_system(inside), *LINKED) if Path(path).exists() and not Path(path).is_symlink()]
    return {
        "binds": [*((os.path.realpath(path), path, False) for path in system), *binds],
        "symlinks": [*linked, *DEVICE_LINKS],
        "tmp_bytes": inside.limits.tmp_bytes,
        "own_rlimits": [(resource.RLIMIT_NPROC, inside.limits.processes)],
    }


@functools.cache
def _bwrap() -> tuple[str, frozenset[str]]:
    """Where bubblewrap is ("": nowhere), and which options this version knows."""
    found = shutil.which("bwrap")
    if not found:
        return "", frozenset()
    shown = subprocess.run([found, "--help"], capture_output=True, text=True, timeout=30, check=False)
    return found, frozenset(word for word in (shown.stdout + shown.stderr).split() if word.startswith("--"))


def bwrap_installed() -> bool:
    return bool(_bwrap()[0])


def _bwrap_options(binds: list[tuple[str, str, bool]], inside: Inside) -> list[str]:
    known = _bwrap()[1]
    size = ["--size", str(inside.limits.tmp_bytes)] if "--size" in known else []
    words = ["--unshare-all", "--unshare-user", "--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
    words += ["--disable-userns"] if "--disable-userns" in known else []
    words += ["--share-net"] if inside.network or inside.control >= 0 else []
    words += ["--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):  # noqa: S108  inside the sandbox
        words += [*size, "--tmpfs", folder]
    words += ["--symlink", "/tmp", "/var/tmp", "--dir", "/run"]  # noqa: S108
    for needed in _system(inside):
        words += ["--ro-bind-try", needed, needed]
    for link in LINKED:
        linked = Path(link).is_symlink()
        words += ["--symlink", str(Path(link).readlink()), link] if linked else ["--ro-bind-try", link, link]
    for source, target, writable in binds:
        words += ["--bind" if writable else "--ro-bind", source, target]
    words += ["--chdir", INSIDE, "--remount-ro", "/"]
    for name, value in inside.environment.items():
        words += ["--setenv", name, value]
    return words + (["--seccomp", "{seccomp}"] if deny_list() else [])


def _with_processes_bounded(inside: Inside) -> list[str]:
    """RLIMIT_NPROC counts per user namespace only when set inside it (Linux 5.14): hence a word before the command."""
    bounded = shutil.which("prlimit", path="/usr/bin")
    return [*([bounded, f"--nproc={inside.limits.processes}"] if bounded else []), *inside.command]
