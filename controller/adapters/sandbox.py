"""Where commands that nobody has read run: tests, builds, whatever an agent has written.

`Sandbox.best()` climbs down a ladder once (`sandbox_rungs`) and keeps the first rung that really starts here;
`isolation` says in words which one that is, and why none better. `run` starts `sandbox_enter`, reads what the command
prints up to a bound, and returns only when the command and everything it has started are dead: at its end, at the
time limit, when the caller is cancelled. When the caller is killed, the kernel (or, on the plain rung, a supervisor
holding a pipe) does the same.

The command's environment is built from nothing. What it reports through its results pipe is its own word: whoever
must be able to rely on it compares it with the exit code, and runs protected tests from a tree that the author could
not write.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO

from controller.adapters.sandbox_enter import DID_NOT_START
from controller.adapters.sandbox_io import Clipped, attend, start
from controller.adapters.sandbox_rungs import Inside, Limits, Rung, bwrap_installed, plan_of
from controller.errors import Unavailable

RESULTS_FD = "FLYBALL_RESULTS_FD"  # the command's variable naming the pipe that `on_result` reads
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
LAUNCHER = os.path.realpath(sys.executable)


class SandboxBroken(Unavailable):
    """The sandbox itself did not start; the command never ran."""


@dataclass(frozen=True)
class Ran:
    """How a command ended. `exit_code` is 128 and the signal's number when a signal ended it."""

    exit_code: int
    output: str  # stdout and stderr as they came, cut in the middle with a note that says how much
    timed_out: bool
    duration_ms: int
    isolation: str


@dataclass(frozen=True)
class Sandbox:
    """One rung of the ladder. `why` tells why it is not a better one; empty on the best."""

    rung: Rung
    why: str = ""

    @classmethod
    async def best(cls) -> Sandbox:
        """The best rung that starts on this machine. Takes about 0.1 s; do it once."""
        return (await cls.available())[0]

    @classmethod
    async def available(cls) -> list[Sandbox]:
        """Every rung that starts here, best first. The plain one always does."""
        rungs, why = [], ""
        for rung in Rung:
            sandbox = cls(rung, why)
            refusal = await sandbox._refusal()
            if not refusal:
                rungs.append(sandbox)
            why = why or refusal
        return rungs

    async def _refusal(self) -> str:
        """Why this rung does not start here, in words. Empty: it does."""
        if self.rung is Rung.PLAIN:
            return ""
        if sys.platform != "linux":
            return "sandboxes need Linux"
        if self.rung is Rung.BUBBLEWRAP and not bwrap_installed():
            return "bubblewrap is not installed"
        with tempfile.TemporaryDirectory(prefix="flyball-probe-") as folder:
            try:
                ran = await self.run([sys.executable, "-c", "pass"], tree=Path(folder), limits=Limits(wall_s=20))
            except SandboxBroken as error:
                return f"{self.rung} does not start here: {error.message[-200:]}"
        return "" if ran.exit_code == 0 else f"{self.rung} does not start here: {ran.output.strip()[-200:]}"

    @property
    def isolation(self) -> str:
        return self._words(network=False)

    def _words(self, *, network: bool) -> str:
        because = f" ({self.why})" if self.why else ""
        if self.rung is Rung.PLAIN:
            return f"process group only: no isolation{because}"
        user = "own user" if os.geteuid() == 0 else "own user namespace"
        return f"{self.rung}: {user}, {'network' if network else 'no network'}, read-only system{because}"

    async def run(
        self,
        command: Sequence[str],
        *,
        tree: Path,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,  # None: nothing besides the minimum
        readable: tuple[Path, ...] = (),
        limits: Limits | None = None,  # None: the defaults
        network: bool = False,
        on_result: Callable[[bytes], None] | None = None,  # None: nobody reads the results pipe
    ) -> Ran:
        """Run `command` in `tree`, with `python`'s environment first on PATH and `readable` folders at their own paths.

        Run by root on an isolated rung, the tree is given to the sandbox's uid and stays so. Raises `SandboxBroken`.
        """
        bounds = limits or Limits()
        output = Clipped(bounds.output_bytes)
        with _home(self.rung) as home, _pipe() as (receive, send):
            environment = _minimum(python, home) | {RESULTS_FD: str(send.fileno())} | dict(env or {})
            inside = Inside(command, tree, python, environment, home, readable, bounds, network)
            started = monotonic()
            process = await start(plan_of(self.rung, inside), LAUNCHER, send.fileno())
            send.close()
            timed_out = await attend(process, receive, bounds.wall_s, output, on_result or _nobody)
        code, text = _exit_code(process.returncode), output.text()
        if code == DID_NOT_START and "sandbox did not start" in text:
            way_out = "Look at what bubblewrap says here; without it on PATH the next weaker sandbox is used"
            raise SandboxBroken(text.strip()[-400:], way_out)
        took = int((monotonic() - started) * 1000)
        return Ran(code, text, timed_out, took, self._words(network=network))


def _nobody(_: bytes) -> None:
    """Results that nobody asked for."""


def _exit_code(returncode: int | None) -> int:
    code = DID_NOT_START if returncode is None else returncode
    return code if code >= 0 else 128 - code


def _minimum(python: str, home: str) -> dict[str, str]:
    """All that a command is told. Nothing of the controller's own environment is copied."""
    return {
        "PATH": f"{Path(python).parent}:{SYSTEM_PATH}",
        "HOME": home,
        "TMPDIR": home,
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",  # two edits of one size within a second would run the first one's bytecode
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


@contextlib.contextmanager
def _home(rung: Rung) -> Iterator[str]:
    """HOME and TMPDIR: the sandbox's own /tmp where it has one, else a folder that lives as long as the command."""
    if rung is not Rung.PLAIN:
        yield "/tmp"  # noqa: S108  a tmpfs of its own
        return
    folder = tempfile.mkdtemp(prefix="flyball-home-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what the command made unremovable is left to the system's cleaner


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    receive, send = os.pipe()
    with os.fdopen(receive, "rb", buffering=0) as read_end, os.fdopen(send, "wb", buffering=0) as write_end:
        yield read_end, write_end
