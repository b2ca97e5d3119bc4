"""Runs outside, as root or as an ordinary user: a world worth escaping into, and the escapes tried against it.

    python escape_world.py FOLDER VEHICLE RUNG

VEHICLE is `test`, `build`, `instance` or `bare`. Prints one line of JSON: results, and what was noticed out here.
"""

# ruff: noqa: S104, S108, T201, ASYNC110, ASYNC221
# Listening everywhere and lying in shared folders is what is tried for; it waits for one process alone.

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from controller.adapters import sandbox_rungs, sandbox_seccomp
from controller.adapters.edge_artefact import artefact_folder
from controller.adapters.edge_build import build
from controller.adapters.edge_config import ServiceSettings
from controller.adapters.edge_processes import Instance, Life, StartPlan
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Limits, Rung
from controller.domain.ids import Commit

HERE = Path(__file__).parent
SEEDED = {
    "keys/master.key": 0o600,
    "signer/key.pem": 0o600,
    "log.db": 0o600,
    "edge/token": 0o600,
    "edge/artefacts/seeded/app.py": 0o644,
    "forge/shop.git/objects/seeded": 0o644,
    "workspaces/other/secret.py": 0o644,
    "ci/runs/other/progress.json": 0o644,
}
VICTIM = """
import ctypes, sys, time
kept = ctypes.create_string_buffer(b"in memory")
print(ctypes.addressof(kept), flush=True)
time.sleep(600)
"""
ANSWER = b"answer"
IPC_CREAT, SHM_KEY = 0o1000, 0x0F1B_A110
PYTHON = os.environ.get("ESCAPES_PYTHON", sys.executable)


def seeded(folder: Path) -> dict[str, Any]:
    state, home = folder / "state", folder / "home"
    for name, mode in SEEDED.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("seeded")
        (state / name).chmod(mode)
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text("seeded")
    (folder / "secret_file").write_text("seeded-secret")
    return {"state": str(state), "home": str(home), "secret_file": str(folder / "secret_file")}


@contextmanager
def victim(folder: Path) -> Iterator[dict[str, Any]]:
    environment = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "sk-ant-seeded"}
    words = [PYTHON, "-c", VICTIM, "seeded-argument"]
    with subprocess.Popen(words, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = int(process.stdout.readline())
        try:
            yield {"victim": process.pid, "victim_address": address}
            assert process.poll() is None, "the victim was killed"
        finally:
            process.kill()


class Listeners:
    """What answers whoever gets here. `reached` names them."""

    def __init__(self, folder: Path) -> None:
        self.reached: list[str] = []
        self.abstract = f"flyball-escape-{os.getpid()}"
        self.unix_path = str(folder / "docker.sock")
        self.open: list[socket.socket] = []
        self.ports = {name: self._tcp(name, "127.0.0.1") for name in ("admin", "gateway", "otlp")}
        self.ports |= {"everywhere": self._tcp("everywhere", "0.0.0.0"), "six": self._six(), "udp": self._udp()}
        self._unix("abstract", "\0" + self.abstract)
        self._unix("unix", self.unix_path)

    def _tcp(self, name: str, host: str) -> int:
        one = socket.create_server((host, 0))
        self._answer(name, one)
        return int(one.getsockname()[1])

    def _six(self) -> int:
        one = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self._answer("six", one)
        return int(one.getsockname()[1])

    def _unix(self, name: str, address: str) -> None:
        one = socket.socket(socket.AF_UNIX)
        one.bind(address)
        one.listen()
        self._answer(name, one)

    def _udp(self) -> int:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        self.open.append(one)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    _, peer = one.recvfrom(100)
                    self.reached.append("udp")
                    one.sendto(ANSWER, peer)

        threading.Thread(target=answer, daemon=True).start()
        return int(one.getsockname()[1])

    def _answer(self, name: str, listening: socket.socket) -> None:
        self.open.append(listening)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    asked, _ = listening.accept()
                    self.reached.append(name)
                    with asked:
                        asked.sendall(ANSWER)

        threading.Thread(target=answer, daemon=True).start()


@contextmanager
def shared(folder: Path) -> Iterator[dict[str, Any]]:
    """Things that processes share without asking: memory by name and by number, a folder for all, an open file."""
    libc = ctypes.CDLL(None, use_errno=True)
    named = Path(f"/dev/shm/flyball-escape-{os.getpid()}")
    common = Path(f"/tmp/flyball-escape-{os.getpid()}")
    key = SHM_KEY + os.getpid()
    segment = libc.shmget(key, 4096, IPC_CREAT | 0o600)
    for path in (named, common):
        path.write_text("seeded")
    (folder / "open").write_text("left open")
    left_open = os.open(folder / "open", os.O_RDONLY)
    os.set_inheritable(left_open, True)
    try:
        yield {"shared_memory": str(named), "shared_tmp": str(common), "shared_memory_key": key}
    finally:
        os.close(left_open)
        libc.shmctl(segment, 0, None)
        for path in (named, common):
            path.unlink(missing_ok=True)


def laid_out(tree: Path, world: dict[str, Any]) -> None:
    tree.mkdir(exist_ok=True)
    shutil.copy(HERE / "try_escapes.py", tree)
    shutil.copy(Path(os.environ["ESCAPES"]), tree / "escapes.json")
    (tree / "world.json").write_text(json.dumps(world))


async def from_a_test(box: Sandbox, folder: Path, world: dict[str, Any]) -> str:
    laid_out(folder / "tree", world)
    command = [PYTHON, "try_escapes.py", ""]
    ran = await box.run(command, tree=folder / "tree", python=PYTHON, limits=Limits(wall_s=100))
    return ran.output.rpartition("RESULTS ")[2] if "RESULTS " in ran.output else json.dumps({"broken": ran.output})


async def from_a_build(box: Sandbox, folder: Path, world: dict[str, Any]) -> str:
    laid_out(folder / "tree", world)
    commit = Commit(committed(folder / "tree"))
    settings = ServiceSettings(
        name="shop",
        repository="shop",
        git_dir=folder / "tree" / ".git",
        build=("{python}", "try_escapes.py", "{out}"),
        start=("{python}",),
        python=PYTHON,
    )
    made = await build(settings, commit, folder / "state" / "edge" / "artefacts", box)
    return (artefact_folder(folder / "state" / "edge" / "artefacts", made.artefact) / "results.json").read_text()


async def from_an_instance(box: Sandbox, folder: Path, world: dict[str, Any]) -> str:
    laid_out(folder / "tree", world)
    plan = StartPlan(
        sandbox=box,
        python=PYTHON,
        command=lambda port: [PYTHON, "try_escapes.py", "", "serve", str(port)],
        environment={},
        secrets={},
        folder=folder / "tree",
        reads=(),
        reach=(),
        health="/health",
        ready_seconds=100,
    )
    instance = Instance("escapes", plan)
    await instance.start()
    try:
        async with asyncio.timeout(100):
            while instance.life is Life.STARTING:
                await asyncio.sleep(0.05)
        if not instance.serving:
            return json.dumps({"broken": instance.reason})
        reader, writer = await instance.connect()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
        writer.close()
        return answer
    finally:
        await instance.stop()


async def from_nothing(_: Sandbox, folder: Path, world: dict[str, Any]) -> str:
    """No sandbox at all: what a plain child process inherits."""
    laid_out(folder / "tree", world)
    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-seeded"
    words = [PYTHON, "try_escapes.py", ""]
    ran = subprocess.run(words, cwd=folder / "tree", capture_output=True, text=True, close_fds=False, check=False)
    return ran.stdout.rpartition("RESULTS ")[2]


def committed(tree: Path) -> str:
    who = {f"GIT_{role}_{what}": "t@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree), "GIT_CONFIG_NOSYSTEM": "1", **who}

    def git(*words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=tree, env=environment, check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "escapes")
    return git("rev-parse", "HEAD")


VEHICLES = {"test": from_a_test, "build": from_a_build, "instance": from_an_instance, "bare": from_nothing}


def unharmed(folder: Path) -> list[str]:
    """What of the seeded state is no longer as it was."""
    state = folder / "state"
    changed = [name for name in SEEDED if (state / name).read_text() != "seeded"]
    changed += [name for name, mode in SEEDED.items() if stat.S_IMODE((state / name).stat().st_mode) != mode]
    return changed + [f"{name} has another owner" for name in SEEDED if (state / name).stat().st_uid != os.geteuid()]


def without_filter() -> None:
    """The rung as it is, with a filter of system calls that lets everything through."""
    allowing = sandbox_seccomp.op(sandbox_seccomp.RETURN, sandbox_seccomp.ALLOW)
    vars(sandbox_rungs)["deny_list"] = lambda: allowing


def main(folder: Path, vehicle: str, rung: str) -> None:
    if os.environ.get("ESCAPES_UNFILTERED"):
        without_filter()
    box = Sandbox(Rung(rung))
    disk = Path("/").stat().st_dev
    world = seeded(folder)
    world |= {"disk": [os.major(disk), os.minor(disk)], "prefix": sys.prefix}
    world["controller"] = str(Path(sys.modules["controller"].__path__[0]))
    with ExitStack() as held:
        world |= held.enter_context(victim(folder)) | held.enter_context(shared(folder))
        listeners = Listeners(folder)
        world |= {"ports": listeners.ports, "abstract": listeners.abstract, "unix_path": listeners.unix_path}
        said = json.loads(asyncio.run(VEHICLES[vehicle](box, folder, world)))
        print(json.dumps({**said, "reached": sorted(set(listeners.reached)), "changed": unharmed(folder)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
