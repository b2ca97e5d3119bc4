"""What an instance of a service gets in its sandbox, and what it does not: network, folders, secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import ENVIRONMENT, SERVICE, WELL, EdgeKit, until

from controller.adapters.edge_processes import Instance, Life, StartPlan
from controller.adapters.edge_secrets import SecretSource
from controller.adapters.edge_start import tail
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
from controller.errors import Permanent

SECRET = "postgres://shop:tr0ub4dor@db.internal/shop"  # noqa: S105  made up
# Answers every request with what it finds when it does as the query says.
LOOKS = """
import json, os, socket, sys, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def reached(port):
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=3).close()
        return True
    except OSError:
        return False

def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return error.strerror

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if "die" in asked:
            print("cannot connect with", os.environ["DATABASE_URL"], flush=True)
            os._exit(3)
        said = {"ports": [port for port in asked.get("ports", "").split(",") if port and reached(port)],
                "read": read(asked["read"]) if "read" in asked else None,
                "env": os.environ.get(asked.get("env", ""))}
        body = json.dumps(said).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
BUILD = "import json, os, pathlib, shutil, sys; shutil.copytree('.', sys.argv[1], dirs_exist_ok=True); "
BUILD += "pathlib.Path(sys.argv[1], 'seen.json').write_text(json.dumps(dict(os.environ)))"
pytestmark = pytest.mark.skipif(asyncio.run(Sandbox.best()).rung is Rung.PLAIN, reason="no isolated rung starts here")


@asynccontextmanager
async def deployed(folder: Path, **settings: Any) -> AsyncIterator[EdgeKit]:
    start = ("{python}", "looks.py")
    kit = EdgeKit(folder, start=start, **settings)
    await kit.up()
    try:
        await kit.release(1, kit.commit(WELL, {"looks.py": LOOKS}))
        await kit.serving()
        yield kit
    finally:
        await kit.down()


async def look(kit: EdgeKit, **asked: str) -> Mapping[str, Any]:
    answer = await kit.client.get(kit.url(), params=asked)
    found: Mapping[str, Any] = answer.json()
    return found


async def test_instance_reaches_the_receiver_of_its_telemetry_and_no_other_port_of_ours(tmp_path: Path) -> None:
    async with deployed(tmp_path) as kit:
        assert kit.handle is not None
        told = json.loads((kit.folder / "ports.json").read_text())
        async with kit_listener() as stranger:
            ports = [told["admin"], told["otlp"], told["otlp_grpc"], told["services"]["shop"], stranger]
            found = await look(kit, ports=",".join(map(str, ports)))
    assert found["ports"] == [str(told["otlp"])]


@asynccontextmanager
async def kit_listener() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_instance_reaches_what_its_service_declares(tmp_path: Path) -> None:
    async with (
        kit_listener() as database,
        kit_listener() as other,
        deployed(tmp_path, network=(f"127.0.0.1:{database}",)) as kit,
    ):
        found = await look(kit, ports=f"{database},{other}")
    assert found["ports"] == [str(database)]


async def test_instance_reads_declared_folders_and_nothing_beside_them(tmp_path: Path) -> None:
    for name in ("declared", "beside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    async with deployed(tmp_path / "own", reads=(tmp_path / "declared",)) as kit:
        declared = await look(kit, read=str(tmp_path / "declared" / "file"))
        beside = await look(kit, read=str(tmp_path / "beside" / "file"))
        token = await look(kit, read=str(kit.folder / "token"))
    assert (declared["read"], beside["read"], token["read"]) == (
        "declared",
        "No such file or directory",
        "No such file or directory",
    )


async def test_secret_is_told_to_the_instance_and_to_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "database_url").write_text(SECRET + "\n")
    secrets = {"DATABASE_URL": {"file": tmp_path / "database_url"}}
    build = ("{python}", "-c", BUILD, "{out}")
    async with deployed(tmp_path / "own", secrets=secrets, build=build) as kit:
        assert (await look(kit, env="DATABASE_URL"))["env"] == SECRET
        await kit.client.get(kit.url("/?die=1"))

        async def told() -> str:
            found = await kit.platform.details(SERVICE, ENVIRONMENT)
            return next((one["reason"] for one in found["instances"] if "exit code 3" in one["reason"]), "")

        reason = await until(told, "its last words are told")
        assert "cannot connect with [secret DATABASE_URL]" in reason
        state = b"".join(path.read_bytes() for path in kit.folder.rglob("*") if path.is_file())
        log, seen = tail(kit.folder), list(kit.folder.rglob("seen.json"))
        assert len(seen) == 1
    for text in (state.decode(errors="replace"), log, reason):
        assert "tr0ub4dor" not in text
    assert "DATABASE_URL" not in json.loads(seen[0].read_text())


def command_lines() -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines.append(path.read_bytes())
    return lines


async def test_secret_is_on_nobodys_command_line(tmp_path: Path) -> None:
    (tmp_path / "database_url").write_text(SECRET)
    async with deployed(tmp_path / "own", secrets={"DATABASE_URL": {"file": tmp_path / "database_url"}}):
        lines = await asyncio.to_thread(command_lines)
    assert any(b"looks.py" in line for line in lines)
    assert not any(b"tr0ub4dor" in line for line in lines)


async def test_instance_whose_secret_is_missing_is_not_started_and_says_which(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path, secrets={"DATABASE_URL": {"file": tmp_path / "nowhere"}})
    await kit.up()
    with pytest.raises(Permanent, match=r"service\.secrets\.DATABASE_URL: .*/nowhere cannot be read"):
        await kit.start(1, kit.commit(WELL))
    await kit.down()


async def test_secret_that_changed_is_read_again_by_the_next_instance(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first-token")
    async with deployed(tmp_path / "own", secrets={"TOKEN": {"file": tmp_path / "token"}}) as kit:
        assert (await look(kit, env="TOKEN"))["env"] == "first-token"
        (tmp_path / "token").write_text("second-token")
        await kit.release(2, kit.commit(WELL, {"looks.py": LOOKS, "new": ""}))
        assert (await look(kit, env="TOKEN"))["env"] == "second-token"


GIVEN_ONCE = """
import pathlib, sys
given = pathlib.Path(sys.argv[1])
if given.exists():
    sys.exit(1)
given.touch()
print("first-token")
"""


async def test_instance_whose_port_is_taken_and_whose_secret_has_gone_is_down_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    store = SecretSource(command=(sys.executable, "-c", GIVEN_ONCE, str(tmp_path / "given")))
    plan = StartPlan(
        sandbox=await Sandbox.best(),
        python=sys.executable,
        command=lambda _: [sys.executable, "-c", "print('Address already in use'); exit(1)"],
        environment={},
        secrets={"TOKEN": store},
        folder=tmp_path / "tree",
        reads=(),
        reach=(),
        health="/health",
        ready_seconds=5,
    )
    instance = Instance("shop-1-0", plan)
    await instance.start()

    async def down() -> bool:
        return instance.life is Life.DOWN

    await until(down, "the instance is down")
    reason = instance.reason
    await instance.stop()
    assert "could not be started on another port: service.secrets.TOKEN" in reason
