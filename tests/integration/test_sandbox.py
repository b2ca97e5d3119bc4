"""What holds inside every sandbox, and what holds only where there is isolation, on every rung that starts here."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.adapters import sandbox_rungs
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_disk import outgrown
from controller.adapters.sandbox_rungs import Limits, Rung
from controller.errors import FlyballError

AVAILABLE = asyncio.run(Sandbox.available())
ISOLATED = [sandbox for sandbox in AVAILABLE if sandbox.rung is not Rung.PLAIN]
QUICK = Limits(wall_s=30)
HOLD_LOCK = """
import fcntl, os, sys, time
open("home", "w").write(os.environ["HOME"])
held = open("held", "w")
fcntl.flock(held, fcntl.LOCK_EX)
os.write(int(os.environ["FLYBALL_RESULTS_FD"]), b"locked\\n")
print("holding", flush=True)
time.sleep(120)
"""
DETACHED = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "hold.py"])
    os._exit(0)
os.wait()
import fcntl, time
for _ in range(3000):
    with open("held", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("the daemon holds it")
            break
    time.sleep(0.01)
"""


@pytest.fixture(params=AVAILABLE, ids=lambda sandbox: str(sandbox.rung))
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    found: Sandbox = request.param
    return found


@pytest.fixture(params=ISOLATED, ids=lambda sandbox: str(sandbox.rung))
def isolated(request: pytest.FixtureRequest) -> Sandbox:
    found: Sandbox = request.param
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "hold.py").write_text(HOLD_LOCK)
    return folder


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def nobody_holds(path: Path) -> None:
    """Every process that had the file open is gone; the kernel says so by handing us the lock."""

    def lock() -> None:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    await asyncio.wait_for(asyncio.to_thread(lock), 10)


async def gone(folder: Path) -> None:
    async with asyncio.timeout(10):
        while folder.exists():  # noqa: ASYNC110, ASYNC240  another process removes it; nothing tells us when
            await asyncio.sleep(0.01)


def is_held(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def test_command_works_in_its_tree_and_its_exit_code_comes_back(sandbox: Sandbox, tree: Path) -> None:
    (tree / "given.txt").write_text("from outside")
    code = "print(open('given.txt').read()); open('made.txt', 'w').write('from inside'); raise SystemExit(7)"
    ran = await sandbox.run(python(code), tree=tree, limits=QUICK)
    assert (ran.exit_code, ran.output, ran.timed_out) == (7, "from outside\n", False)
    assert (tree / "made.txt").read_text() == "from inside"


async def test_controllers_secrets_are_not_in_the_commands_environment(
    sandbox: Sandbox, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-the-secret")
    ran = await sandbox.run(python("import os; print(dict(os.environ))"), tree=tree, limits=QUICK)
    assert ran.exit_code == 0
    assert "ANTHROPIC" not in ran.output
    assert "the-secret" not in ran.output


def test_no_process_that_the_command_can_see_shows_the_controllers_environment(isolated: Sandbox, tree: Path) -> None:
    look = """
import glob, os
print(dict(os.environ))
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        print(open(path, "rb").read())
    except OSError:
        print("unreadable")
"""
    parent = f"""
import asyncio, os
from pathlib import Path
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_disk import outgrown
from controller.adapters.sandbox_rungs import Rung
box = Sandbox(Rung({str(isolated.rung)!r}))
print(asyncio.run(box.run([{sys.executable!r}, "-c", {look!r}], tree=Path({str(tree)!r}))).output)
"""
    environment = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-the-secret", "PYTHONPATH": str(Path.cwd())}
    ran = subprocess.run(python(parent), capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert "PYTHONDONTWRITEBYTECODE" in ran.stdout
    assert "the-secret" not in ran.stdout


async def test_host_files_and_processes_are_out_of_sight_and_the_system_is_read_only(
    isolated: Sandbox, tree: Path
) -> None:
    secret = tree.parent / "secret.txt"
    secret.write_text("host only")
    code = f"""
import os
def tried(path, mode):
    try:
        open(path, mode).close()
        return "ALLOWED"
    except OSError as error:
        return error.strerror
for path, mode in [({str(secret)!r}, "r"), ("/etc/shadow", "r"), ("/usr/planted", "w"), ("/planted", "w"),
                   ("/proc/sys/kernel/core_pattern", "w"), ("/proc/sysrq-trigger", "w"), ("/etc/planted", "w")]:
    print(path, tried(path, mode))
print(len([name for name in os.listdir("/proc") if name.isdigit()]) < 5, os.getuid() != 0)
"""
    ran = await isolated.run(python(code), tree=tree, limits=QUICK)
    assert "ALLOWED" not in ran.output
    assert ran.output.endswith("True True\n")


async def test_network_is_the_sandboxs_own_loopback_and_nothing_else(isolated: Sandbox, tree: Path) -> None:
    code = """
import socket, sys
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(("localhost", own.getsockname()[1]), timeout=5).close()
for host, port in [("127.0.0.1", int(sys.argv[1])), ("198.51.100.1", 80)]:
    try:
        socket.create_connection((host, port), timeout=5)
        print("ALLOWED", host)
    except OSError as error:
        print("refused", error)
"""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        command = [*python(code), str(outside.getsockname()[1])]
        ran = await isolated.run(command, tree=tree, limits=QUICK)
    assert ran.exit_code == 0, ran.output
    assert "ALLOWED" not in ran.output
    assert len(ran.output.splitlines()) == 2


async def test_network_is_there_when_it_is_asked_for_and_the_words_say_so(isolated: Sandbox, tree: Path) -> None:
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5); print('reached')"
    with socket.create_server(("127.0.0.1", 0)) as outside:
        command = [*python(code), str(outside.getsockname()[1])]
        ran = await isolated.run(command, tree=tree, limits=QUICK, network=True)
    assert ran.output == "reached\n"
    assert "no network" not in ran.isolation


async def test_kernel_machinery_is_refused(isolated: Sandbox, tree: Path) -> None:
    code = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
calls = {"unshare user": lambda: libc.unshare(0x10000000), "unshare mount": lambda: libc.unshare(0x20000),
         "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), "ptrace": lambda: libc.ptrace(0, 0, 0, 0),
         "chroot": lambda: libc.chroot(b"/tmp"), "setuid": lambda: libc.setuid(0),
         "bpf": lambda: libc.syscall(321, 0, 0, 0), "io_uring": lambda: libc.syscall(425, 1, 0),
         "keyctl": lambda: libc.syscall(250, 0, -3, 0), "clone3": lambda: libc.syscall(435, 0, 0)}
for name, call in calls.items():
    print(name, "ALLOWED" if call() >= 0 else ctypes.get_errno())
for family in (16, 17, 38, 40):  # netlink, packet, alg, vsock
    try:
        socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_DGRAM)
        print(family, "ALLOWED")
    except OSError as error:
        print(family, error.errno)
"""
    ran = await isolated.run(python(code), tree=tree, limits=QUICK)
    assert ran.exit_code == 0, ran.output
    assert "ALLOWED" not in ran.output


async def test_fork_bomb_meets_its_bound(isolated: Sandbox, tree: Path) -> None:
    code = """
import os, time
made = 0
try:
    while made < 400:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    print("stopped at", made)
"""
    ran = await isolated.run(python(code), tree=tree, limits=Limits(wall_s=30, processes=100))
    assert ran.output.startswith("stopped at ")
    assert 50 < int(ran.output.split()[-1]) <= 100


async def test_memory_core_and_file_size_meet_their_bounds(sandbox: Sandbox, tree: Path) -> None:
    code = """
import resource
try:
    bytearray(2 << 30)
except MemoryError:
    print("no memory")
try:
    open("big", "wb").truncate(1 << 20)
except OSError as error:
    print(error.strerror)
print(resource.getrlimit(resource.RLIMIT_CORE)[0])
"""
    limits = Limits(wall_s=30, memory_bytes=1 << 30, file_bytes=1 << 16)
    ran = await sandbox.run(
        python("import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + code), tree=tree, limits=limits
    )
    assert ran.output.splitlines() == ["no memory", "File too large", "0"]


async def test_scratch_space_is_bounded(isolated: Sandbox, tree: Path) -> None:
    code = "open('/tmp/fill', 'wb').write(bytes(3 << 20))"
    ran = await isolated.run(python(code), tree=tree, limits=Limits(wall_s=30, tmp_bytes=1 << 20))
    assert "No space left on device" in ran.output


async def test_daemon_that_detached_itself_is_dead_when_the_call_returns(sandbox: Sandbox, tree: Path) -> None:
    ran = await sandbox.run(python(DETACHED), tree=tree, limits=QUICK)
    assert "the daemon holds it" in ran.output
    await nobody_holds(tree / "held")


async def test_time_limit_ends_the_whole_tree_and_keeps_what_was_printed(sandbox: Sandbox, tree: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, 'hold.py'], close_fds=False)"
    ran = await sandbox.run(python(code), tree=tree, limits=Limits(wall_s=3))
    assert ran.timed_out
    assert ran.output == "holding\n"
    assert 3_000 <= ran.duration_ms < 9_000
    await nobody_holds(tree / "held")


async def test_cancelled_caller_takes_the_command_along(sandbox: Sandbox, tree: Path) -> None:
    locked = asyncio.Event()
    run = sandbox.run([sys.executable, "hold.py"], tree=tree, limits=QUICK, on_result=lambda _: locked.set())
    task = asyncio.create_task(run)
    await asyncio.wait_for(locked.wait(), 20)
    assert is_held(tree / "held")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_held(tree / "held")


async def test_killed_controller_takes_the_command_along(sandbox: Sandbox, tree: Path) -> None:
    parent = f"""
import asyncio
from pathlib import Path
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_disk import outgrown
from controller.adapters.sandbox_rungs import Rung
box = Sandbox(Rung({str(sandbox.rung)!r}))
def tell(line):
    print(line, flush=True)
asyncio.run(box.run([{sys.executable!r}, "hold.py"], tree=Path({str(tree)!r}), on_result=tell))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    controller = await asyncio.create_subprocess_exec(*python(parent), stdout=asyncio.subprocess.PIPE, env=environment)
    assert controller.stdout is not None
    assert await asyncio.wait_for(controller.stdout.readline(), 30) == b"b'locked'\n"
    assert is_held(tree / "held")
    controller.kill()
    await controller.wait()
    await nobody_holds(tree / "held")
    if sandbox.rung is Rung.PLAIN:
        await gone(Path((tree / "home").read_text()))


async def test_command_cannot_say_that_its_sandbox_did_not_start(sandbox: Sandbox, tree: Path) -> None:
    ran = await sandbox.run(python("print('sandbox did not start: no'); exit(125)"), tree=tree, limits=QUICK)
    assert (ran.exit_code, ran.output) == (125, "sandbox did not start: no\n")


DEEP = "import os, time; [(os.mkdir('d'), os.chdir('d')) for _ in range(2500)]; time.sleep(60)"
EMPTY = "import os, time; [os.close(os.open(str(n), os.O_CREAT)) for n in range(3000)]; time.sleep(60)"


async def test_folders_without_end_end_the_command(sandbox: Sandbox, tree: Path) -> None:
    ran = await sandbox.run(python(DEEP), tree=tree, limits=QUICK)
    remove(tree)
    assert ran.over.startswith("it had made folders more than 200 deep")
    assert not ran.timed_out


async def test_files_without_a_byte_end_the_command(tree: Path) -> None:
    watch = asyncio.create_task(outgrown([tree], most_bytes=1 << 30, most_entries=2_000))
    async with asyncio.timeout(30):
        writer = await asyncio.create_subprocess_exec(*python(EMPTY), cwd=tree)
        assert (await watch).endswith("files, the bound is 2,000")
    writer.kill()
    await writer.wait()


async def test_endless_output_is_cut_in_the_middle_with_a_note(sandbox: Sandbox, tree: Path) -> None:
    code = "print('first'); print('x' * 5_000_000); print('last')"
    ran = await sandbox.run(python(code), tree=tree, limits=Limits(wall_s=30, output_bytes=10_000))
    assert ran.output.startswith("first\n")
    assert ran.output.endswith("last\n")
    assert "4,990,012 bytes of output cut here" in ran.output
    assert len(ran.output) < 10_100


async def test_results_come_line_by_line_and_an_endless_line_is_dropped(sandbox: Sandbox, tree: Path) -> None:
    heard: list[bytes] = []
    code = """
import os
with open(int(os.environ["FLYBALL_RESULTS_FD"]), "wb") as pipe:
    pipe.write(b"one\\n" + b"x" * 300_000 + b"\\ntwo\\nhalf")
"""
    await sandbox.run(python(code), tree=tree, limits=QUICK, on_result=heard.append)
    assert heard == [b"one", b"two"]


async def test_command_that_does_not_exist_is_code_127(sandbox: Sandbox, tree: Path) -> None:
    ran = await sandbox.run(["no-such-command"], tree=tree, limits=QUICK)
    assert ran.exit_code == 127
    assert "no-such-command" in ran.output


async def test_signal_that_ended_the_command_is_in_its_exit_code(sandbox: Sandbox, tree: Path) -> None:
    ran = await sandbox.run(python("import os; os.abort()"), tree=tree, limits=QUICK)
    assert ran.exit_code == 128 + 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_file_that_is_also_elsewhere_stays_its_owners(isolated: Sandbox, tree: Path) -> None:
    outside = tree.parent / "outside.txt"
    outside.write_text("shared")
    (tree / "hard.txt").hardlink_to(outside)
    (tree / "soft.txt").symlink_to(outside)
    (tree / "own.txt").write_text("own")
    await isolated.run(["true"], tree=tree, limits=QUICK)
    assert outside.stat().st_uid == 0
    assert (tree / "own.txt").stat().st_uid != 0


async def test_best_rung_is_taken_and_named(tree: Path) -> None:
    best = await Sandbox.best()
    assert best == AVAILABLE[0]
    ran = await best.run(["true"], tree=tree, limits=QUICK)
    assert ran.isolation == best.isolation


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
async def test_missing_bubblewrap_is_named_in_what_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox_rungs._bwrap.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    found = await Sandbox.available()
    sandbox_rungs._bwrap.cache_clear()
    assert Rung.BUBBLEWRAP not in {sandbox.rung for sandbox in found}
    assert all(sandbox.isolation.endswith("(bubblewrap is not installed)") for sandbox in found)
    assert found[-1].isolation == "process group only: no isolation (bubblewrap is not installed)"


async def test_tree_that_is_not_there_is_the_sandboxs_error_with_a_way_out(isolated: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(FlyballError, match=r"did not start.*bubblewrap"):
        await isolated.run(["true"], tree=tmp_path / "nowhere", limits=QUICK)


async def test_starting_costs_less_than_a_second(sandbox: Sandbox, tree: Path) -> None:
    started = time.monotonic()
    await sandbox.run(["true"], tree=tree, limits=QUICK)
    assert time.monotonic() - started < 1
