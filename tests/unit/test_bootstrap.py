"""The launcher on machines of many kinds: real shells, real environments, real installs (from a folder, not a network).

Most machines have a `uv` that copies an environment made once and lets pip fill it, because making one takes seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
TOOLS = ("sh", "cmp", "readlink")  # what the launcher itself may use
SETTING_UP = "Setting up Flyball's environment"
COMMAND = """
import os, sys
import flyball_part
def main():
    print(os.getcwd(), sys.argv, flyball_part.VERSION)
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ensurepip") is None, reason=f"{BASE} lacks ensurepip, which real environments need"
)


@dataclass(frozen=True)
class Machine:
    """A checkout, a PATH of its own, and a pip whose owner has pointed it at a folder of wheels."""

    checkout: Path
    path: Path
    wheels: Path

    def environment(self, **more: str) -> dict[str, str]:
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_NO_CACHE_DIR": "1"}
        return {"PATH": str(self.path), "HOME": str(self.path), **pip, **more}

    def start(self, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "flyball", *words],
            cwd=cwd or self.checkout,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=100,
        )

    def put(self, name: str, script: str) -> None:
        """A command on this machine's PATH."""
        file = self.path / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def lock(self, version: str, digest: str = "") -> None:
        digest = digest or self.wheel(version)
        text = f"flyball-part=={version} \\\n    --hash=sha256:{digest}\n"
        (self.checkout / "requirements.lock").write_text(text)
        (self.checkout / "requirements-dev.lock").write_text(f"# and the tools\n{text}")

    def wheel(self, version: str) -> str:
        """Make a wheel that pip can install, and return its digest."""
        file = self.wheels / f"flyball_part-{version}-py3-none-any.whl"
        about = f"flyball_part-{version}.dist-info"
        files = {
            "flyball_part.py": f'VERSION = "{version}"\n',
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: flyball-part\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in {**files, f"{about}/RECORD": record}.items():
                archive.writestr(name, text)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    @property
    def leftovers(self) -> set[str]:
        return {path.name for path in self.checkout.iterdir() if path.name.startswith(".venv")}


@pytest.fixture(scope="session")
def uv_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Knows the two command lines that bootstrap.py uses, and fails on any other."""
    empty = tmp_path_factory.mktemp("environment")
    subprocess.run([BASE, "-m", "venv", empty], check=True, timeout=100)
    return f"""
case "$1 $5 $2" in
    "venv "*) {shutil.which("cp")} -R "{empty}/." "$6" ;;
    "pip --python install") inside=$6; shift 6; exec "$inside" -m pip install --quiet --no-compile "$@" ;;
    *) exit 2 ;;
esac"""


@pytest.fixture
def machine(tmp_path: Path, uv_script: str) -> Machine:
    made = Machine(tmp_path / "check out", tmp_path / "bin", tmp_path / "wheels")
    for folder in (made.checkout, made.path, made.wheels, made.checkout / "controller"):
        folder.mkdir()
    for file in ("flyball", "bootstrap.py"):
        shutil.copy(ROOT / file, made.checkout)
    (made.checkout / "controller" / "__init__.py").touch()
    (made.checkout / "controller" / "cli.py").write_text(COMMAND)
    for tool in TOOLS:
        (made.path / tool).symlink_to(str(shutil.which(tool)))
    made.put("python3", f'exec "{BASE}" "$@"')
    made.put("uv", uv_script)
    made.lock("1.0")
    return made


def test_first_start_makes_the_environment_and_later_ones_need_no_python_on_path(
    machine: Machine, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "a repository"
    (elsewhere / "controller").mkdir(parents=True)
    (elsewhere / "controller" / "__init__.py").write_text("raise SystemExit('this is not Flyball')")
    link = tmp_path / "linked"
    link.symlink_to(machine.checkout / "flyball")
    (machine.path / "uv").unlink()

    first = machine.start("run", "two words", cwd=elsewhere)
    (machine.path / "python3").unlink()
    second = subprocess.run([link, "x"], cwd=elsewhere, env=machine.environment(), capture_output=True, text=True)

    assert first.stdout.strip() == f"{elsewhere} ['flyball', 'run', 'two words'] 1.0"
    assert first.stderr.count(SETTING_UP) == 1
    assert first.stderr.count("\n") == 1
    assert (second.stdout.strip(), second.stderr) == (f"{elsewhere} ['flyball', 'x'] 1.0", "")
    assert machine.leftovers == {".venv"}


@pytest.mark.e2e
def test_changed_lock_is_installed_and_a_wrong_hash_leaves_the_old_environment(machine: Machine) -> None:
    machine.start()
    machine.lock("2.0", digest="0" * 64)
    machine.wheel("2.0")
    forged = machine.start()
    assert forged.returncode == 1
    assert "hash" in forged.stderr.lower()
    assert (machine.checkout / ".venv" / "requirements.lock").read_text().startswith("flyball-part==1.0")
    assert machine.leftovers == {".venv"}

    machine.lock("2.0")
    assert machine.start().stdout.endswith("2.0\n")
    assert machine.leftovers == {".venv"}


@pytest.mark.e2e
def test_nothing_to_download_from_is_told_with_a_way_out_and_nothing_is_half_done(machine: Machine) -> None:
    shutil.rmtree(machine.wheels)
    failed = machine.start()
    assert failed.returncode == 1
    assert "Check the network, and pip's or uv's own settings" in failed.stderr
    assert machine.leftovers == set()


def test_killed_bootstrap_is_made_anew(machine: Machine) -> None:
    launcher = subprocess.Popen(
        [machine.checkout / "flyball"],
        env=machine.environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until_there(machine.checkout / ".venv" / "pyvenv.cfg")
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert not (machine.checkout / ".venv" / "requirements.lock").exists()
    assert machine.start().stdout.endswith("1.0\n")
    assert machine.leftovers == {".venv"}


def wait_until_there(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"


def test_two_first_starts_at_once_make_one_environment(machine: Machine) -> None:
    both = [
        subprocess.Popen(
            [machine.checkout / "flyball"],
            env=machine.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [starter.communicate(timeout=100) for starter in both]
    assert [out.endswith("1.0\n") for out, _ in said] == [True, True], said
    assert sum(errors.count(SETTING_UP) for _, errors in said) == 1


def test_environment_of_somebody_else_is_kept(machine: Machine) -> None:
    (machine.checkout / ".venv").mkdir()
    (machine.checkout / ".venv" / "precious").touch()
    assert machine.start().stdout.endswith("1.0\n")
    assert (machine.checkout / ".venv.before-flyball" / "precious").exists()


@pytest.mark.e2e
def test_development_tools_stay_when_the_lock_changes_and_uv_that_fails_is_no_obstacle(machine: Machine) -> None:
    machine.put("uv", "echo uv cannot reach its index; exit 2")
    assert machine.start("--bootstrap-dev").returncode == 0
    machine.lock("2.0")
    assert machine.start().stdout.endswith("2.0\n")
    assert (machine.checkout / ".venv" / "requirements-dev.lock").read_text().startswith("# and the tools")


def test_python_that_is_too_old_is_named_with_what_to_install(machine: Machine) -> None:
    (machine.path / "uv").unlink()
    machine.put("python3", 'case "$2" in *print*) echo 3.10.12 ;; *) exit 1 ;; esac')
    machine.put("apt-get", "exit 1")
    refused = machine.start()
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed; python3 is 3.10.12, which will not do." in refused.stderr
    assert "sudo apt-get install -y python3.11-venv" in refused.stderr
    assert machine.leftovers == set()


def test_newer_python_is_found_beside_one_that_is_too_old(machine: Machine) -> None:
    machine.put("python3", 'case "$2" in *print*) echo 3.10.12 ;; *) exit 1 ;; esac')
    machine.put(f"python3.{sys.version_info.minor}", f'exec "{BASE}" "$@"')
    assert machine.start().stdout.endswith("1.0\n")


def test_no_python_at_all_is_told(machine: Machine) -> None:
    (machine.path / "uv").unlink()
    (machine.path / "python3").unlink()
    refused = machine.start()
    assert refused.returncode == 1
    assert "no Python is on PATH" in refused.stderr
    assert "Install Python 3.11 or newer, or uv" in refused.stderr


def test_python_without_ensurepip_names_the_one_package(machine: Machine, tmp_path: Path) -> None:
    (machine.path / "uv").unlink()
    hide_from_python(machine, tmp_path, "ensurepip", "virtualenv", "pip")
    machine.put("apt-get", "exit 1")
    refused = machine.start()
    assert refused.returncode == 1
    assert f"sudo apt-get install -y python3.{sys.version_info.minor}-venv" in refused.stderr
    assert machine.leftovers == set()


def hide_from_python(machine: Machine, folder: Path, *modules: str) -> None:
    """Give the machine a Python like a bare Debian's, which has been split into packages."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({modules!r}))\n")
    machine.put("python3", f'PYTHONPATH="{folder}/hidden" exec "{BASE}" "$@"')
