"""The other side of `controller.confined`: limits itself, calls one function, answers, and waits to be killed.

Run as a script, isolated. Arguments: the project's folder, the function, the limits. In on stdin: a length of 8 bytes
and the payload. Out on what was stdout: one byte for the kind of the answer, a length of 8 bytes, the answer. What the
function prints goes nowhere.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

OK, REFUSED, FAILED, NO_MEMORY, DEFECT = b"+", b"!", b"?", b"m", b"d"
HEADER = 9
MAX_FILES = 64  # open at once
MAX_WORDS = 300  # characters of an error that are told


class Limits(NamedTuple):
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int

    def words(self) -> str:
        return ",".join(str(one) for one in self)


def main(home: str, function: str, limits: Limits) -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # where errors go: to nobody
    _die_with_parent()
    _limit(limits)
    sys.path.insert(0, home)
    payload = _exactly(int.from_bytes(_exactly(8)))
    kind, answer = _called(function, payload)
    _write(answers, kind + len(answer).to_bytes(8) + answer)
    os.read(0, 1)  # alive until the reader has everything: it kills this group by its number


def _called(function: str, payload: bytes) -> tuple[bytes, bytes]:
    module, _, name = function.partition(":")
    try:
        called = getattr(import_module(module), name)
    except MemoryError:
        return NO_MEMORY, b""
    except Exception as wrong:  # noqa: BLE001 - told to the other side, which raises it
        return DEFECT, f"{function} cannot be imported: {_words(wrong)}".encode(errors="replace")
    return _outcome(called, payload)


def _outcome(called: Callable[[bytes], object], payload: bytes) -> tuple[bytes, bytes]:
    from controller.errors import ConfigError, FlyballError  # noqa: PLC0415 - the path to it is set above

    try:
        answer = called(payload)
    except MemoryError:
        return NO_MEMORY, b""
    except FlyballError as no:
        told = {"message": no.message, "way_out": no.way_out, "config": isinstance(no, ConfigError)}
        return REFUSED, _json(told)
    except RecursionError:
        return FAILED, _json({"message": "the text is nested too deep"})
    except BaseException as wrong:  # noqa: BLE001 - a panic is no Exception; whatever it was, the other side raises it
        return FAILED, _json({"message": _words(wrong)})
    if not isinstance(answer, bytes):
        return DEFECT, f"{called} answered with a {type(answer).__name__}".encode()
    return OK, answer


def _words(wrong: BaseException) -> str:
    return f"{type(wrong).__name__}: {wrong}"[:MAX_WORDS]


def _json(value: object) -> bytes:
    import json  # noqa: PLC0415 - an answer needs none

    return json.dumps(value).encode()


def _limit(limits: Limits) -> None:
    """Also what the start of this process was allowed only shrinks: no limit can be raised again."""
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: MAX_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # no child and no thread; root is not held to it
    }
    if sys.platform != "darwin":
        wanted[resource.RLIMIT_AS] = limits.memory_bytes
    for which, most in wanted.items():
        _soft, hard = resource.getrlimit(which)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (bound, bound))


def _die_with_parent() -> None:
    """Linux: the kernel ends this process with the one that asked. Elsewhere the limit on CPU time does."""
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - Linux only
    import signal  # noqa: PLC0415

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _exactly(length: int) -> bytes:
    read = bytearray()
    while len(read) < length:
        piece = os.read(0, min(length - len(read), 1 << 20))
        if not piece:
            sys.exit("the payload was cut off")
        read += piece
    return bytes(read)


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    home, function, words = sys.argv[1:]
    main(home, function, Limits(*(int(word) for word in words.split(","))))
