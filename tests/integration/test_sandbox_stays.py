"""What runs until it is ended: reached only through its doors, bounded in sum, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.adapters import sandbox_cgroups, sandbox_uids
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_cgroups import PREFIX
from controller.adapters.sandbox_doors import Place
from controller.adapters.sandbox_enter import children_of
from controller.adapters.sandbox_rungs import Limits, Rung
from controller.adapters.sandbox_running import Running
from controller.adapters.sandbox_uids import lent_uid
from controller.errors import Unavailable

AVAILABLE = asyncio.run(Sandbox.available())
ISOLATED = [box for box in AVAILABLE if box.rung is not Rung.PLAIN]
QUICK = Limits(wall_s=60)
PORT = 8_000
SERVE = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), sys.exit(0)))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = os.environ.get("SAID", "well").encode()
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ASK = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as asked:
            print(place, asked.recv(100).decode())
    except OSError as error:
        print(place, "refused")
"""
needs_groups = pytest.mark.skipif(not sandbox_cgroups.found().below, reason="no control group can be made here")


@pytest.fixture(params=ISOLATED, ids=lambda box: str(box.rung))
def isolated(request: pytest.FixtureRequest) -> Sandbox:
    found: Sandbox = request.param
    return found


@pytest.fixture(params=AVAILABLE, ids=lambda box: str(box.rung))
def box(request: pytest.FixtureRequest) -> Sandbox:
    found: Sandbox = request.param
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def asked(running: Running, port: int) -> bytes:
    """The body of its answer, once it listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await running.connect(port, 1 << 15)
                break
            except OSError:
                await asyncio.sleep(0.02)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def answering(says: str) -> AsyncIterator[int]:
    async def answer(_: StreamReader, writer: StreamWriter) -> None:
        writer.write(says.encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def serving(box: Sandbox, tree: Path, port: int, **more: object) -> AsyncIterator[tuple[Running, list[bytes]]]:
    heard: list[bytes] = []
    command = python(SERVE, str(port))
    running = await box.start(command, tree=tree, on_output=heard.append, limits=QUICK, **more)  # type: ignore[arg-type]
    try:
        yield running, heard
    finally:
        await running.end()


def traces(tree: Path) -> dict[str, object]:
    """Everything that a sandbox could leave behind on this machine."""
    groups = {folder: sorted(folder.glob(f"{PREFIX}*")) for folder in sandbox_cgroups.found().below.values()}
    lent = sorted(sandbox_uids.FOLDER.glob("*")) if os.geteuid() == 0 else []
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    mounts = Path("/proc/self/mountinfo").read_text().count("\n")
    temporary = sorted(Path(tempfile.gettempdir()).glob("flyball-h*"))
    below = children_of(os.getpid())
    own = [group for found in groups.values() for group in found if f"{PREFIX}{os.getpid()}-" in group.name]
    return {
        "groups": own,
        "lent": lent,
        "fds": descriptors,
        "mounts": mounts,
        "tmp": temporary,
        "processes": below,
        "tree": sorted(tree.rglob("*")),
    }


async def test_it_is_reached_by_its_port_and_told_to_end(box: Sandbox, tree: Path) -> None:
    port = free_port()
    async with serving(box, tree, port, env={"SAID": "hello"}) as (running, heard):
        assert await asked(running, port) == b"hello"
        running.ask_to_end()
        await asyncio.wait_for(running.wait(), 10)
        await running.end()
        assert running.exit_code == 0
        assert b"told to end" in b"".join(heard)


async def test_nobody_else_reaches_it(isolated: Sandbox, tree: Path) -> None:
    async with serving(isolated, tree, PORT) as (running, _), serving(isolated, tree, PORT) as (other, _):
        assert await asked(running, PORT) == b"well"
        assert await asked(other, PORT) == b"well", "two have the same port, each on a loopback of its own"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", PORT), timeout=2).close()


async def test_its_tree_cannot_be_written_to(isolated: Sandbox, tree: Path) -> None:
    (tree / "app.py").write_text("built")
    (tree / "app.py").chmod(0o666)
    heard: list[bytes] = []
    running = await isolated.start(python("open('app.py', 'a')"), tree=tree, on_output=heard.append, limits=QUICK)
    await asyncio.wait_for(running.wait(), 20)
    await running.end()
    assert b"Read-only file system" in b"".join(heard)
    assert (tree / "app.py").stat().st_uid == os.geteuid()


async def test_after_its_end_nothing_connects_any_more(isolated: Sandbox, tree: Path) -> None:
    async with serving(isolated, tree, PORT) as (running, _):
        assert await asked(running, PORT) == b"well"
    for _ in range(20):  # sockets that were at hand are of a network that nobody listens in
        with pytest.raises(OSError, match=r"ended|refused|descriptor"):
            await running.connect(PORT, 1 << 15)


async def test_command_that_does_not_exist_ends_with_its_code(box: Sandbox, tree: Path) -> None:
    running = await box.start(["no-such-command"], tree=tree, on_output=lambda _: None, limits=QUICK)
    await asyncio.wait_for(running.wait(), 20)
    await running.end()
    assert running.exit_code == 127


@pytest.mark.usefixtures("alone")
async def test_tree_that_is_not_there_is_the_sandboxs_error(isolated: Sandbox, tmp_path: Path) -> None:
    before, heard = traces(tmp_path), list[bytes]()
    running = await isolated.start(["true"], tree=tmp_path / "nowhere", on_output=heard.append, limits=QUICK)
    await asyncio.wait_for(running.wait(), 20)
    await running.end()
    assert (running.exit_code, b"did not start" in b"".join(heard)) == (125, True)
    assert traces(tmp_path) == before


# --- what it may reach


async def test_named_places_are_reached_and_no_other(isolated: Sandbox, tree: Path) -> None:
    async with answering("named") as named, answering("other") as other:
        words = [f"127.0.0.1:{named}", f"localhost:{named}", f"127.0.0.1:{other}", "198.51.100.1:80"]
        ran = await isolated.run(python(ASK, *words), tree=tree, limits=QUICK, reach=(Place("127.0.0.1", named),))
    said = dict(line.split(" ", 1) for line in ran.output.splitlines())
    assert said == {words[0]: "named", words[1]: "named", words[2]: "refused", words[3]: "refused"}
    assert f"network: 127.0.0.1:{named} and nothing else" in ran.isolation


async def test_host_by_name_is_reached_by_that_name_at_that_port(
    isolated: Sandbox, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out here the name leads to this machine: the name is resolved out here."""
    resolve = asyncio.get_running_loop().getaddrinfo

    async def elsewhere(host: str | None, *more: object, **named: object) -> object:
        return await resolve("127.0.0.1" if host == "db.internal" else host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", elsewhere)
    async with answering("the database") as port, answering("other") as other:
        words = [f"db.internal:{port}", f"db.internal:{other}", f"127.0.0.1:{port}"]
        ran = await isolated.run(python(ASK, *words), tree=tree, limits=QUICK, reach=(Place("db.internal", port),))
    said = dict(line.split(" ", 1) for line in ran.output.splitlines())
    assert said == {words[0]: "the database", words[1]: "refused", words[2]: "refused"}


async def test_place_named_twice_is_refused_in_words(isolated: Sandbox, tree: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9: Address already in use.*Name each place once"):
        await isolated.run(["true"], tree=tree, limits=QUICK, reach=(Place("127.0.0.1", 9), Place("localhost", 9)))


# --- bounds on the sum


@needs_groups
async def test_memory_is_bounded_in_sum(box: Sandbox, tree: Path) -> None:
    """Eight processes below their own bound, and together above the group's."""
    code = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(64 << 20)
        for at in range(0, len(kept), 4096):
            kept[at] = 1
        os.write(1, b"whole\\n")
        time.sleep(3)
        os._exit(0)
ended = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(8)]
print("killed", sum(code != 0 for code in ended))
"""
    ran = await box.run(python(code), tree=tree, limits=Limits(wall_s=60, all_memory_bytes=256 << 20))
    assert "killed 0" not in ran.output, ran.output


@needs_groups
async def test_processes_are_bounded_in_sum_on_every_rung(box: Sandbox, tree: Path) -> None:
    code = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    print("stopped at", made)
"""
    ran = await box.run(python(code), tree=tree, limits=Limits(wall_s=30, processes=60))
    assert ran.output.startswith("stopped at "), ran.output


async def test_tree_that_outgrows_its_bound_is_the_end_and_said(box: Sandbox, tree: Path) -> None:
    code = """
import os
for number in range(10_000):
    with open(f"fill-{number}", "wb") as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
"""
    ran = await box.run(python(code), tree=tree, limits=Limits(wall_s=60, folder_bytes=20 << 20))
    assert "the bound is 20,971,520" in ran.over
    assert "[ended by the sandbox: it had written" in ran.output
    assert not ran.timed_out
    assert ran.exit_code != 0


def test_bounds_are_said_or_their_lack_is() -> None:
    words = sandbox_cgroups.found().words
    assert ("bounded in sum" in words) == bool(sandbox_cgroups.found().below)
    assert ("per process only" in words) != bool(sandbox_cgroups.found().below)
    assert all(words in box.isolation for box in ISOLATED)


# --- a uid for each


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends uids")
def test_two_at_a_time_never_have_the_same_uid(tmp_path: Path) -> None:
    with lent_uid(tmp_path) as one, lent_uid(tmp_path) as two, lent_uid(tmp_path) as three:
        assert len({one, two, three}) == 3
    with lent_uid(tmp_path) as again:
        assert again == one, "a tree's first choice is the same each time"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends uids")
def test_when_all_uids_are_lent_the_next_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_uids, "UIDS", 2)
    with lent_uid(tmp_path, tmp_path), lent_uid(tmp_path, tmp_path):
        third = lent_uid(tmp_path, tmp_path)
        with pytest.raises(Unavailable, match="all 2 uids"):
            third.__enter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends uids")
async def test_live_sandboxes_of_colliding_trees_have_uids_of_their_own(
    isolated: Sandbox, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.adapters.sandbox_uids.zlib.crc32", lambda _: 7)
    code = "import os, time; print(os.getuid(), flush=True); time.sleep(1)"
    trees = [tree / name for name in "abc"]
    for one in trees:
        one.mkdir()
    ran = await asyncio.gather(*(isolated.run(python(code), tree=one, limits=QUICK) for one in trees))
    assert len({one.output for one in ran}) == 3


# --- nothing is left


async def nothing_left(box: Sandbox, tree: Path, number: int, one: Callable[[int], object]) -> None:
    await one(0)  # type: ignore[misc]
    before = traces(tree)
    for count in range(number):
        await one(count)  # type: ignore[misc]
    assert traces(tree) == before


async def in_a_row(box: Sandbox, tree: Path, number: int) -> None:
    """Commands that try to stay, by turns ended by themselves and by us, and instances."""
    stay = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"

    async def one(count: int) -> None:
        if count % 10 == 9:
            async with serving(box, tree, free_port()):
                return
        ran = await box.run(python(stay), tree=tree, limits=QUICK, reach=() if count % 2 else None)
        assert ran.exit_code == 0, ran.output

    await nothing_left(box, tree, number, one)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others on this machine have sandboxes too: ours keep their uids and temporary folders apart from theirs."""
    for name in ("uids", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr(sandbox_uids, "FOLDER", tmp_path / "uids")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.mark.usefixtures("alone")
async def test_fifty_in_a_row_leave_nothing(isolated: Sandbox, tree: Path) -> None:
    await in_a_row(isolated, tree, 50 if isolated is ISOLATED[0] else 10)


@pytest.mark.usefixtures("alone")
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_thousand_in_a_row_leave_nothing(tree: Path) -> None:
    await in_a_row(ISOLATED[0], tree, 1_000)


@needs_groups
async def test_group_that_a_killed_controller_left_is_tidied_up(tree: Path) -> None:
    below = next(iter(sandbox_cgroups.found().below.values()))
    left = below / f"{PREFIX}999999999-left"
    left.mkdir()
    sandbox_cgroups.found.cache_clear()
    sandbox_cgroups.found()
    assert not left.exists()
