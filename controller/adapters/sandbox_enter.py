"""The door of a sandbox: a stand-alone script that shuts itself in and then becomes, or watches over, the command.

It runs as `python -I -S sandbox_enter.py` with nothing but the standard library, because it starts before every
command and its start-up is part of the sandbox's. The plan (see `sandbox_rungs.plan_of`) comes marshalled on stdin,
which stays open as the lifeline: when it closes, the caller is dead. Two ways in:

- `bubblewrap`: private mount namespace, unprivileged uid, then exec of bubblewrap with an empty environment.
- `namespaces`: the same first half, then user, pid, network, ipc, uts and mount namespaces by system call, a root
  directory of bind mounts, no capabilities, a seccomp filter, and a pid 1 that reaps.

The plain rung has no isolation: `sandbox_watch` is its door.

A plan with doors gets its network namespace first, from outside the sandbox proper, and leaves a `doorkeeper` in it: a
process that the command can neither see nor signal, and that hands sockets of that network to the caller (SCM_RIGHTS).
A socket belongs to the namespace that it was made in, so the caller listens and connects *inside* without a byte being
copied, and the command cannot reach out by any of them.

Started by root, both drop to another uid *before* any sandbox exists: a sandbox built by root shows the
caller's environment in /proc/1/environ and lets /proc/sys/kernel/core_pattern be written. What that uid may not reach
by path (the tree, an interpreter below /root) is bind-mounted under `STAGE` first, in a mount namespace that nobody
else sees. Nothing may be imported after the drop: the standard library itself may be out of reach.
"""

# ruff: noqa: PTH103, PTH112, PTH120, PTH123, PTH211, S606, PLC0415
# This script starts before every command: it does without pathlib, and imports only what it uses.

from __future__ import annotations

import marshal
import os
import resource
import sys
from typing import Any

DID_NOT_START = 125
STAGE = "/mnt"  # FHS: present everywhere, and covered only inside our own mount namespace
NEW_ROOT = "/tmp"  # noqa: S108  likewise covered; sources below it are open by then
# linux/sched.h, linux/mount.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID_IPC_UTS = 0x20000, 0x10000000, 0x40000000, 0x2C000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MNT_DETACH = 442, -100, 0x8000, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 22, 38
LAST_CAPABILITY = 63
SIGKILL = 9
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class Kernel:
    """System calls that `os` has no name for in Python 3.11. Each raises OSError with the call's name."""

    def __init__(self) -> None:
        import ctypes  # 7 ms that the plain way on macOS neither needs nor has

        self.c = ctypes
        self.libc: Any = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: Any) -> int:
        result = int(getattr(self.libc, name)(*arguments))
        if result < 0:
            code = self.c.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")
        return result

    def mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        arguments = [text.encode() for text in (source, target, kind)]
        self.call("mount", *arguments, self.c.c_ulong(flags), options.encode())

    def seal(self, path: str, *, read_only: bool, recursive: bool = True) -> None:
        """No set-uid programs and no devices below `path`, and no writing; mounts inside it included (Linux 5.12)."""
        attributes = (self.c.c_uint64 * 4)(MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0), 0, 0, 0)
        flags = AT_RECURSIVE if recursive else 0
        self.call("syscall", MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, self.c.byref(attributes), 32)

    def prctl(self, option: int, value: int, extra: Any = 0) -> None:
        self.call("prctl", option, self.c.c_ulong(value), extra, 0, 0)

    def drop_bounding_set(self) -> None:
        for capability in range(LAST_CAPABILITY + 1):
            self.libc.prctl(
                PR_CAPBSET_DROP, capability, 0, 0, 0
            )  # fails past the kernel's last one, and without CAP_SETPCAP

    def drop_capabilities(self) -> None:
        header = (self.c.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        self.call("capset", header, (self.c.c_uint32 * 6)())

    def filter_calls(self, program: bytes) -> None:
        code = self.c.create_string_buffer(program, len(program))

        class Program(self.c.Structure):  # type: ignore[misc, name-defined]  # ctypes is imported late
            _fields_ = (("length", self.c.c_ushort), ("code", self.c.c_void_p))

        fprog = Program(len(program) // 8, self.c.cast(code, self.c.c_void_p))
        self.prctl(PR_SET_SECCOMP, 2, self.c.byref(fprog))


def die_with(kernel: Kernel, parent: int, signal: int) -> None:
    """The kernel sends `signal` when the caller's thread ends; a change of uid clears this."""
    kernel.prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        os._exit(DID_NOT_START)


def limit(pairs: list[tuple[int, int]]) -> None:
    for which, value in pairs:
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(which, (bound, bound))
        except (OSError, ValueError):
            if sys.platform != "darwin":  # which knows RLIMIT_AS but does not let it be set
                raise


def give_away(folder: int, uid: int) -> None:
    """Everything below an open folder belongs to `uid`.

    Never follows a link, never leaves the folder, and leaves alone what has a second name (an object that a clone
    shares with its origin).
    """
    os.fchown(folder, uid, uid)
    for entry in os.scandir(folder):
        found = entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            below = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            give_away(below, uid)
            os.close(below)
        elif found.st_uid != uid and found.st_nlink == 1:
            os.chown(entry.name, uid, uid, dir_fd=folder, follow_symlinks=False)


def become_nobody(kernel: Kernel, plan: dict[str, Any]) -> None:
    """Root only: stage what the uid could not reach, hand it the tree, and be that uid from here on."""
    uid: int = plan["uid"]
    for given in plan["given"]:
        folder = os.open(given, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        give_away(folder, uid)
        os.close(folder)
    stage(kernel, plan["stage"])
    kernel.drop_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(PR_SET_DUMPABLE, 1)  # else /proc/self stays root's, and no uid map could be written


def stage(kernel: Kernel, paths: list[str]) -> None:
    kernel.call("unshare", CLONE_NEWNS)
    kernel.mount("none", "/", "none", MS_REC | MS_PRIVATE)
    opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    kernel.mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for number, source in enumerate(opened):
        bind(kernel, source, f"{STAGE}/{number}")
        os.close(source)


def bind(kernel: Kernel, source: int, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(f"/proc/self/fd/{source}"):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
    kernel.mount(f"/proc/self/fd/{source}", target, "none", MS_BIND | MS_REC)


def own_user_namespace(kernel: Kernel, others: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    kernel.call("unshare", CLONE_NEWUSER | others)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, line.encode())
        os.close(file)


def open_doors(kernel: Kernel, plan: dict[str, Any], sockets: Any) -> None:
    """A network of its own, with a doorkeeper in it. What comes after shares this network."""
    own_user_namespace(kernel, CLONE_NEWNET)
    loopback_up(kernel)
    launcher = os.getpid()
    if os.fork() == 0:
        try:
            die_with(kernel, launcher, SIGKILL)
            doorkeeper(plan, sockets)
        finally:
            os._exit(0)
    os.close(plan["control"])


def doorkeeper(plan: dict[str, Any], sockets: Any) -> None:
    """Hands out one listening socket a door, then an unconnected socket for each byte, until the caller is gone."""
    for inherited in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), inherited)
    os.closerange(3, plan["control"])
    os.closerange(plan["control"] + 1, 1 << 20)
    control = sockets.socket(fileno=plan["control"])
    for address, port in plan["doors"]:
        listening = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
        try:
            listening.bind((address, port))
        except OSError as error:
            control.send(f"{address}:{port}: {error.strerror}".encode())
            return
        listening.listen(64)
        hand_over(control, listening, sockets)
    while control.recv(1):
        hand_over(control, sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM), sockets)


def hand_over(control: Any, given: Any, sockets: Any) -> None:
    number = given.fileno().to_bytes(4, sys.byteorder)
    control.sendmsg([b"s"], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, number)])
    given.close()


def enter_bubblewrap(kernel: Kernel, plan: dict[str, Any]) -> None:
    """Its arguments go through memory: a command line can be read by every user of the machine."""
    seccomp = in_memory(plan["seccomp"])
    words = [str(seccomp) if word == "{seccomp}" else word for word in plan["options"]]
    told = in_memory(b"".join(os.fsencode(word) + b"\0" for word in words))
    limit(plan["rlimits"])
    die_with(kernel, plan["parent"], SIGKILL)
    os.execve(plan["bwrap"], [plan["bwrap"], "--args", str(told), "--", *plan["argv"]], {})


def in_memory(content: bytes) -> int:
    memory = os.memfd_create("flyball")
    os.write(memory, content)
    os.lseek(memory, 0, os.SEEK_SET)
    os.set_inheritable(memory, True)
    return memory


def enter_namespaces(kernel: Kernel, plan: dict[str, Any]) -> None:
    own_user_namespace(kernel, CLONE_NEWNS | CLONE_NEWPID_IPC_UTS | (0 if plan["network"] else CLONE_NEWNET))
    die_with(kernel, plan["parent"], SIGKILL)
    parent_alive, alive = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(alive)
        first_process(kernel, plan, parent_alive)
    os._exit(exit_code(os.waitpid(first, 0)[1]))


def first_process(kernel: Kernel, plan: dict[str, Any], parent_alive: int) -> None:
    """Pid 1 of the sandbox: when it ends, for whatever reason, the kernel ends every other process in there."""
    kernel.prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.set_blocking(parent_alive, False)
    try:
        if os.read(parent_alive, 1) == b"":
            os._exit(DID_NOT_START)  # the parent ended before the line above
    except BlockingIOError:
        os.close(parent_alive)
    build_root(kernel, plan)
    if not plan["network"]:
        loopback_up(kernel)
    limit([*plan["rlimits"], *plan["own_rlimits"]])
    kernel.drop_bounding_set()
    kernel.drop_capabilities()
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
    kernel.filter_calls(plan["seccomp"])
    command = os.fork()
    if command == 0:
        os.setsid()
        become(plan)
    while True:
        ended, status = os.wait()
        if ended == command:
            os._exit(exit_code(status))


def build_root(kernel: Kernel, plan: dict[str, Any]) -> None:
    sources = [(os.open(source, os.O_RDONLY), target, writable) for source, target, writable in plan["binds"]]
    devices = [
        (os.open(f"/dev/{name}", os.O_RDONLY | getattr(os, "O_PATH", 0)), f"{NEW_ROOT}/dev/{name}") for name in DEVICES
    ]
    kernel.mount("none", "/", "none", MS_REC | MS_PRIVATE)
    kernel.mount("tmpfs", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    fill_root(kernel, plan)
    for source, target, writable in sources:
        bind(kernel, source, NEW_ROOT + target)
        kernel.seal(NEW_ROOT + target, read_only=not writable)
        os.close(source)
    for source, target in devices:
        bind(kernel, source, target)
        os.close(source)
    os.chdir(NEW_ROOT)
    kernel.call("pivot_root", b".", b".")
    kernel.call("umount2", b".", MNT_DETACH)
    kernel.seal("/", read_only=True, recursive=False)


def fill_root(kernel: Kernel, plan: dict[str, Any]) -> None:
    for name in ("proc", "tmp", "dev/shm", "dev/pts", "run", "var"):
        os.makedirs(f"{NEW_ROOT}/{name}", exist_ok=True)
    for target, link in plan["symlinks"]:
        os.symlink(link, NEW_ROOT + target)
    kernel.mount("proc", f"{NEW_ROOT}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in ("tmp", "dev/shm"):
        kernel.mount(
            "tmpfs", f"{NEW_ROOT}/{name}", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={plan['tmp_bytes']}"
        )
    kernel.mount("devpts", f"{NEW_ROOT}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")


def loopback_up(kernel: Kernel) -> None:
    any_socket = kernel.call("socket", 2, 2, 0)  # AF_INET, SOCK_DGRAM
    up_and_running = b"lo".ljust(16, b"\0") + b"\x41\0" + bytes(22)  # struct ifreq: IFF_UP | IFF_RUNNING
    kernel.call("ioctl", any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS
    os.close(any_socket)


def become(plan: dict[str, Any]) -> None:
    try:
        os.chdir(plan["cwd"])
        os.execvpe(plan["argv"][0], plan["argv"], plan["env"])
    except OSError as error:
        os.write(2, f"{plan['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127)


def exit_code(status: int) -> int:
    """As a shell says it: 128 and the signal's number for a process that a signal ended."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def children_of(pid: int) -> list[int]:
    """Empty where the system has no such list."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def join(cgroups: list[str]) -> None:
    """Put this process into control groups, and with it all that come after it."""
    for folder in cgroups:
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def told() -> tuple[dict[str, Any], int]:
    """The plan, and the lifeline: a copy of stdin, in whose place the command gets nothing."""
    lifeline = os.dup(0)
    with open(lifeline, "rb", closefd=False) as file:
        plan = marshal.loads(file.read(int.from_bytes(file.read(4), "big")))  # noqa: S302  written by our own parent
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    join(plan["cgroups"])
    return plan, lifeline


def main() -> None:
    plan, lifeline = told()
    os.close(lifeline)
    try:
        kernel = Kernel()
        die_with(kernel, plan["parent"], SIGKILL)
        enter(kernel, plan)
    except OSError as error:
        os.write(2, f"{plan['no_start']}: {error}\n".encode())
    os._exit(DID_NOT_START)


def enter(kernel: Kernel, plan: dict[str, Any]) -> None:
    if plan["control"] >= 0:
        import _socket as sockets  # now: after the drop the standard library may be out of reach
    if plan["uid"] >= 0:
        become_nobody(kernel, plan)
    if plan["control"] >= 0:
        open_doors(kernel, plan, sockets)
    {"bubblewrap": enter_bubblewrap, "namespaces": enter_namespaces}[plan["kind"]](kernel, plan)


if __name__ == "__main__":
    main()
