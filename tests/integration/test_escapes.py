"""No way out of the sandbox, from a test, a build or an instance; and every way is one where the sandbox is not.

`tests/escapes/escapes.yaml` is the list. Each run is a process of its own that builds a world worth escaping into.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung

ESCAPES = Path(__file__).parents[1] / "escapes"
LIST: list[dict[str, Any]] = yaml.safe_load((ESCAPES / "escapes.yaml").read_text())
RUNGS = [str(box.rung) for box in asyncio.run(Sandbox.available()) if box.rung is not Rung.PLAIN]
BEST_FIRST = [*RUNGS[:1], *(pytest.param(rung, marks=pytest.mark.slow) for rung in RUNGS[1:])]
VEHICLES = ("test", "build", "instance")
ORDINARY_UID = 61_000
WITHIN_S = 110
CHECKOUT = Path(__file__).parents[2]
USERS = ["root", "user"] if os.geteuid() == 0 else ["user"]
pytestmark = pytest.mark.skipif(not RUNGS, reason="no isolated rung starts here")


@cache
def ordinary_python() -> str:
    """An interpreter that an ordinary user can run with our libraries. Empty: there is none."""
    libraries = sysconfig.get_paths()["purelib"]
    for python in (sys.executable, "/usr/bin/python3"):
        words, environment = [python, "-c", "import pydantic"], {"PYTHONPATH": libraries}
        try:
            ran = subprocess.run(words, env=environment, user=ORDINARY_UID, group=ORDINARY_UID, check=False, cwd="/")
        except OSError:
            continue
        if ran.returncode == 0:
            return python
    return ""


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest) -> str:
    if request.param == "user" and os.geteuid() == 0 and not ordinary_python():
        pytest.skip("no interpreter with our libraries can be run by an ordinary user here")
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: an ordinary user could not enter that."""
    made = Path(tempfile.mkdtemp(prefix="flyball-escapes-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def tried(folder: Path, user: str, vehicle: str, rung: str, *, unfiltered: bool = False) -> dict[str, Any]:
    drop: dict[str, Any] = {}
    python = sys.executable
    if user == "user" and os.geteuid() == 0:
        python = ordinary_python()
        os.chown(folder, ORDINARY_UID, ORDINARY_UID)
        drop = {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
    for name in ("controller", "escapes"):
        source = CHECKOUT / "controller" if name == "controller" else ESCAPES
        shutil.copytree(source, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "code" / "escapes.json").write_text(json.dumps(LIST))
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "PYTHONPATH": f"{folder / 'code'}:{sysconfig.get_paths()['purelib']}",
        "ESCAPES": str(folder / "code" / "escapes.json"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ESCAPES_UNFILTERED": "1" if unfiltered else "",
    }
    words = [python, str(folder / "code" / "escapes" / "escape_world.py"), str(folder), vehicle, rung]
    ran = subprocess.run(
        words, cwd="/", env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False, **drop
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert set(said["results"]) == {escape["name"] for escape in LIST}, said
    return said


@pytest.mark.parametrize("rung", BEST_FIRST)
@pytest.mark.parametrize("vehicle", VEHICLES)
def test_nothing_gets_out(folder: Path, user: str, vehicle: str, rung: str) -> None:
    said = tried(folder, user, vehicle, rung)
    assert {name: how for name, how in said["results"].items() if how == "escaped"} == {}
    assert said["reached"] == [], "a listener out here was reached"
    assert said["changed"] == [], "what was seeded out here has changed"
    assert said["uid"] != 0


def shown(escape: dict[str, Any], user: str) -> str:
    without = str(escape.get("without", "plain"))
    return str(escape.get("user", without)) if user == "user" else without


@pytest.mark.parametrize("where", ["plain", "bare"])
def test_every_way_out_is_one_without_its_defence(folder: Path, user: str, where: str) -> None:
    said = tried(folder, user, "bare" if where == "bare" else "test", "plain")
    claimed = {escape["name"] for escape in LIST if shown(escape, user) == where}
    assert claimed, "nothing is claimed, so nothing was shown"
    held = {name: said["results"][name] for name in claimed if said["results"][name] != "escaped"}
    assert held == {}


@pytest.mark.skipif(str(Rung.NAMESPACES) not in RUNGS, reason="namespaces do not start here")
def test_without_the_filter_of_system_calls_some_get_further(folder: Path, user: str) -> None:
    said = tried(folder, user, "test", str(Rung.NAMESPACES), unfiltered=True)
    claimed = [escape["name"] for escape in LIST if escape.get("filtered")]
    assert claimed
    assert {said["results"][name] for name in claimed} == {"escaped"}
    assert said["reached"] == [], "the other defences hold"


def test_the_list_is_long_and_says_where_each_succeeds() -> None:
    assert len({escape["name"] for escape in LIST}) == len(LIST) >= 30
    for escape in LIST:
        assert {shown(escape, "root"), shown(escape, "user")} <= {"plain", "bare", "system", "machine"}
    assert sum(shown(escape, "root") in {"plain", "bare"} for escape in LIST) >= 50
    assert sum(shown(escape, "user") in {"plain", "bare"} for escape in LIST) >= 30
