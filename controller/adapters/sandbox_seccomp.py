"""The system calls that a sandbox refuses, as a classic BPF program for the kernel's seccomp filter.

A deny list: everything that reaches beyond the process (mounts, namespaces, other processes' memory, the kernel's own
machinery) is refused with EPERM, `clone3` with ENOSYS so that the C library falls back to `clone`, whose flags can be
read, and sockets other than unix and IP with EAFNOSUPPORT (vsock is not bound to a network namespace; netlink, packet
and alg sockets are how kernels were broken into). Numbers: asm/unistd_64.h for x86-64, asm-generic/unistd.h for
aarch64.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # typing into the caller's terminal
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
X32_BIT = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data, low halves

SAME_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 442)  # io_uring_*, open_tree .. fspick, mount_setattr
CLONE3 = 435
# ptrace mount umount2 pivot_root chroot setns unshare bpf keyctl add_key request_key userfaultfd perf_event_open
# name_to_handle_at open_by_handle_at kexec_load init_module finit_module delete_module process_vm_readv
# process_vm_writev swapon reboot quotactl acct
X86_64 = "101 165 166 155 161 308 272 321 250 248 249 323 298 303 304 246 175 313 176 310 311 167 169 179 163"
AARCH64 = "117 40 39 41 51 268 97 280 219 217 218 282 241 264 265 104 105 273 106 270 271 224 142 60 89"


@dataclass(frozen=True)
class Machine:
    audit_arch: int  # linux/audit.h
    denied: str  # system call numbers
    clone: int
    socket: int
    ioctl: int


MACHINES = {
    "x86_64": Machine(0xC000003E, X86_64, clone=56, socket=41, ioctl=16),
    "aarch64": Machine(0xC00000B7, AARCH64, clone=220, socket=198, ioctl=29),
}


def deny_list(machine: str = "") -> bytes:
    """The program for a machine, by default this one. Empty bytes: there is none for it."""
    known = MACHINES.get(machine or platform.machine())
    if known is None:
        return b""
    lines = [op(LOAD, ARCHITECTURE), op(EQUAL, known.audit_arch, 1, 0), op(RETURN, KILL), op(LOAD, NUMBER)]
    lines += [op(AT_LEAST, X32_BIT, 0, 1), fail(EPERM)]
    for number in (*map(int, known.denied.split()), *SAME_EVERYWHERE):
        lines += [op(EQUAL, number, 0, 1), fail(EPERM)]
    lines += [op(EQUAL, CLONE3, 0, 1), fail(ENOSYS)]
    lines += only_for(known.clone, FIRST_ARGUMENT, [op(ANY_BIT, NAMESPACE_FLAGS, 0, 1), fail(EPERM)])
    lines += only_for(known.ioctl, SECOND_ARGUMENT, [op(EQUAL, TIOCSTI, 1, 0), op(EQUAL, TIOCLINUX, 0, 1), fail(EPERM)])
    families = [op(EQUAL, AF_UNIX, 3, 0), op(EQUAL, AF_INET, 2, 0), op(EQUAL, AF_INET6, 1, 0), fail(EAFNOSUPPORT)]
    lines += only_for(known.socket, FIRST_ARGUMENT, families)
    return b"".join([*lines, op(RETURN, ALLOW)])


def only_for(number: int, argument: int, tests: list[bytes]) -> list[bytes]:
    """`tests` see the low half of one argument of one system call; what they let through is allowed."""
    return [op(EQUAL, number, 0, len(tests) + 2), op(LOAD, argument), *tests, op(RETURN, ALLOW)]


def fail(errno: int) -> bytes:
    return op(RETURN, ERRNO | errno)


def op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
