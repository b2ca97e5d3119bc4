"""Where commands that nobody has read run: tests, builds, instances, whatever an agent has written.

`Sandbox.best()` climbs down a ladder once (`sandbox_rungs`) and keeps the first rung that really starts here;
`isolation` says in words which one that is, and why none better. `chosen` is what a configuration asks for, and refuses
the plain rung unless the configuration accepts it by name. `start` begins what runs until it is ended
(`sandbox_running`). `run` starts `sandbox_enter`, reads what the command
prints up to a bound, and returns only when the command and everything it has started are dead: at its end, at the
time limit, when the caller is cancelled. When the caller is killed, the kernel (or, on the plain rung, a supervisor
holding a pipe) does the same.

The command's environment is built from nothing. What it reports through its results pipe is its own word: whoever
must be able to rely on it compares it with the exit code, and runs protected tests from a tree that the author could
not write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import IO

from controller.adapters import sandbox_cgroups
from controller.adapters.sandbox_disk import outgrown
from controller.adapters.sandbox_doors import DoorkeeperGone, Doors, Place, hosts_file
from controller.adapters.sandbox_enter import DID_NOT_START
from controller.adapters.sandbox_io import END_WITHIN_S, Clipped, attend, end, start
from controller.adapters.sandbox_rungs import INSIDE, OUT, Inside, Limits, Rung, bwrap_installed, plan_of
from controller.adapters.sandbox_running import Running
from controller.adapters.sandbox_seccomp import deny_list
from controller.adapters.sandbox_uids import lent_uid
from controller.errors import ConfigError, Unavailable

RESULTS_FD = "FLYBALL_RESULTS_FD"  # the command's variable naming the pipe that `on_result` reads
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
LAUNCHER = os.path.realpath(sys.executable)
ACCEPTED = "accepted by sandbox.unsafe_accept_plain"


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
    over: str = ""  # what it outgrew, and was ended for. Empty: nothing


@dataclass(frozen=True)
class Lent:
    """What a command has only while it runs."""

    home: str
    uid: int
    cgroups: tuple[str, ...]
    doors: Doors | None  # None: none were asked for, or there is no isolation that they could lead out of
    hosts: Path | None  # None: the system's

    @property
    def passed(self) -> tuple[int, ...]:
        """File descriptors that the launcher inherits."""
        return (self.doors.theirs.fileno(),) if self.doors else ()

    def given_to(self, inside: Inside) -> Inside:
        inside = replace(inside, uid=self.uid, cgroups=self.cgroups, hosts=self.hosts)
        return replace(inside, control=self.passed[0], doors=self.doors.inside) if self.doors else inside


@dataclass(frozen=True)
class Sandbox:
    """One rung of the ladder. `why` tells why it is not a better one; empty on the best."""

    rung: Rung
    why: str = ""

    @classmethod
    async def best(cls) -> Sandbox:
        """The best rung that starts on this machine, be it the plain one. Takes about 0.1 s; do it once."""
        return await anext(cls._starting())

    @classmethod
    async def available(cls) -> list[Sandbox]:
        """Every rung that starts here, best first. The plain one always does."""
        return [one async for one in cls._starting()]

    @classmethod
    async def _starting(cls) -> AsyncIterator[Sandbox]:
        why = ""
        for rung in Rung:
            sandbox = cls(rung, why)
            refusal = await sandbox.refusal()
            if not refusal:
                yield sandbox
            why = why if refusal in why else "; ".join(filter(None, (why, refusal)))

    @classmethod
    async def chosen(cls, rung: str, *, accept_plain: bool) -> Sandbox:
        """The best isolated rung, or exactly the one that is named. Raises ConfigError with what to install or to set.

        The plain rung only if it was accepted, and then it says so in its `isolation`.
        """
        best = await cls.best() if rung == "best" else cls(Rung(rung))
        refusal = await best.refusal() if rung != "best" else ""
        if refusal:
            raise ConfigError(f"sandbox.rung is {rung!r}, and {refusal}", _INSTALL)
        if best.rung is not Rung.PLAIN:
            return best
        why = best.why or "sandbox.rung is 'plain'"
        if not accept_plain:
            raise ConfigError(
                f"no sandbox runs the code that agents write: {why}",
                f"{_INSTALL}. Or accept that such code runs as you, with your files, keys and network: "
                "unsafe_accept_plain = true under [sandbox] in flyball.toml, or flyball demo --unsafe-accept-plain",
            )
        return cls(Rung.PLAIN, f"{ACCEPTED}; {why}")

    async def refusal(self) -> str:
        """Why this rung does not start here, in words. Empty: it does."""
        if self.rung is Rung.PLAIN:
            return ""
        if sys.platform != "linux":
            return "sandboxes need Linux"
        if self.rung is Rung.BUBBLEWRAP and not bwrap_installed():
            return "bubblewrap is not installed"
        with tempfile.TemporaryDirectory(prefix="flyball-probe-") as folder:
            try:
                ran = await self.run([sys.executable, "-c", "pass"], tree=Path(folder), limits=PROBE, reach=())
            except Unavailable as error:
                return f"{self.rung} does not start here: {error.message[-200:]}"
        return "" if ran.exit_code == 0 else f"{self.rung} does not start here: {ran.output.strip()[-200:]}"

    @property
    def isolated(self) -> bool:
        return self.rung is not Rung.PLAIN

    @property
    def isolation(self) -> str:
        return self.words("no network")

    def words(self, network: str) -> str:
        because = f" ({self.why})" if self.why else ""
        if self.rung is Rung.PLAIN:
            return f"process group only: no isolation{because}"
        user = "own user" if os.geteuid() == 0 else "own user namespace"
        calls = "" if deny_list() else ", no filter of system calls for this machine"
        bounds = sandbox_cgroups.found().words
        return f"{self.rung}: {user}, {network}, read-only system{calls}, {bounds}{because}"

    def inside(self, tree: Path) -> str:
        """Where a command finds its tree."""
        return str(tree) if self.rung is Rung.PLAIN else INSIDE

    def inside_out(self, out: Path) -> str:
        """Where a command finds the folder for what it makes."""
        return str(out) if self.rung is Rung.PLAIN else OUT

    async def run(
        self,
        command: Sequence[str],
        *,
        tree: Path,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,  # None: nothing besides the minimum
        readable: tuple[Path, ...] = (),
        out: Path | None = None,  # None: the command makes nothing besides what it writes into its tree
        limits: Limits | None = None,  # None: the defaults
        network: bool = False,
        reach: Sequence[Place] | None = None,  # None: nothing, and a loopback that nobody outside can use either
        on_result: Callable[[bytes], None] | None = None,  # None: nobody reads the results pipe
    ) -> Ran:
        """Run `command` in `tree`, with `python`'s environment first on PATH and `readable` folders at their own paths.

        Of the network it sees the places in `reach`; `network` is all of it. Run by root on an isolated rung, `tree`
        and `out` are given to the sandbox's uid and stay so. Raises `SandboxBroken`, and `Unavailable` when
        something that it needs cannot be had.
        """
        bounds = limits or Limits()
        output = Clipped(bounds.output_bytes)
        async with self._lent(tree, bounds, None if network else reach) as lent:
            with _pipe() as (receive, send):
                environment = _minimum(python, lent.home) | {RESULTS_FD: str(send.fileno())} | dict(env or {})
                inside = Inside(
                    command,
                    tree,
                    python,
                    environment,
                    lent.home,
                    readable,
                    out,
                    limits=bounds,
                    network=network,
                )
                started = monotonic()
                plan = plan_of(self.rung, lent.given_to(inside))
                process = await start(plan, LAUNCHER, (send.fileno(), *lent.passed))
                send.close()
                shut = await _opened(lent, process)
                folders = (tree, out) if out else (tree,)
                watch = outgrown(folders, bounds.folder_bytes)
                heard = on_result or _nobody
                timed_out, over = await attend(process, receive, output, heard, wall_s=bounds.wall_s, outgrown=watch)
        code, text = _exit_code(process.returncode), output.text()
        if code == DID_NOT_START and plan["no_start"] in text:
            way_out = "Look at what bubblewrap says here; without it on PATH the next weaker sandbox is used"
            raise SandboxBroken(text.replace(plan["no_start"], "sandbox did not start").strip()[-400:], way_out)
        if shut is not None:
            raise shut
        took = int((monotonic() - started) * 1000)
        said = f"{text}\n[ended by the sandbox: {over}]\n" if over else text
        return Ran(code, said, timed_out, took, self.words(_network(network, reach)), over)

    async def start(
        self,
        command: Sequence[str],
        *,
        tree: Path,
        on_output: Callable[[bytes], None],
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,  # None: nothing besides the minimum
        readable: tuple[Path, ...] = (),
        limits: Limits | None = None,  # None: the defaults
        reach: Sequence[Place] = (),
    ) -> Running:
        """Start `command` in `tree`, which it cannot write to, and leave it running until it ends or `end` is called.

        Raises what `run` raises.
        """
        bounds = limits or Limits()
        async with contextlib.AsyncExitStack() as held:
            lent = await held.enter_async_context(self._lent(tree, bounds, reach))
            environment = _minimum(python, lent.home) | dict(env or {})
            inside = Inside(
                command,
                tree,
                python,
                environment,
                lent.home,
                readable,
                tree_is_writable=False,
                limits=bounds,
                for_ever=True,
            )
            process = await start(plan_of(self.rung, lent.given_to(inside)), LAUNCHER, lent.passed)
            running = Running(process, lent.doors, on_output, held.pop_all())
        try:
            shut = await _opened(lent, process)
        except BaseException:
            await running.end()
            raise
        if shut is not None:
            await running.end()
            raise SandboxBroken(shut.message, shut.way_out)
        return running

    @contextlib.asynccontextmanager
    async def _lent(self, tree: Path, limits: Limits, reach: Sequence[Place] | None) -> AsyncIterator[Lent]:
        plain = self.rung is Rung.PLAIN
        async with contextlib.AsyncExitStack() as held:
            home = held.enter_context(_home(self.rung))
            cgroups = await held.enter_async_context(sandbox_cgroups.group(limits))
            uid = -1 if plain else held.enter_context(lent_uid(tree))
            doors = None if plain or reach is None else Doors(reach)
            if doors is not None:
                held.push_async_callback(doors.close)
            hosts = held.enter_context(_hosts(doors.names)) if doors and doors.names else None
            yield Lent(home, uid, cgroups, doors, hosts)


PROBE = Limits(wall_s=20)
_INSTALL = (
    "On Linux install bubblewrap and let users make user namespaces (sysctl user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); elsewhere run Flyball on Linux"
)


async def _opened(lent: Lent, process: Process) -> Unavailable | None:
    """None: the doors are open, or there are none, or the command has ended already. Otherwise it is dead."""
    try:
        if lent.doors is not None:
            await lent.doors.open()
    except DoorkeeperGone as error:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_WITHIN_S)  # a short command takes its network along
        if process.returncode is not None:
            return None
        await end(process)
        return error
    except Unavailable as error:
        await end(process)
        return error
    except BaseException:
        await end(process)
        raise
    return None


def _network(network: bool, reach: Sequence[Place] | None) -> str:
    if network:
        return "network"
    places = ", ".join(f"{place.host}:{place.port}" for place in reach or ())
    return f"network: {places} and nothing else" if places else "no network"


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
def _hosts(names: dict[str, str]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="flyball-hosts-"))
    try:
        (folder / "hosts").write_text(hosts_file(names))
        (folder / "hosts").chmod(0o644)
        yield folder / "hosts"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    receive, send = os.pipe()
    with os.fdopen(receive, "rb", buffering=0) as read_end, os.fdopen(send, "wb", buffering=0) as write_end:
        yield read_end, write_end
