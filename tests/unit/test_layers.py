"""The rules about who may import what: they hold, they bite, and they name every room and every dependency."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+)", re.MULTILINE)
HASHED = re.compile(r"^[a-z0-9][a-z0-9._-]*==.* \\\n    --hash=sha256:[0-9a-f]{64}", re.MULTILINE)
TRESPASSES = {
    "layers": ("controller/steps/merge.py", "import controller.wiring"),
    "facts": ("controller/facts/owners.py", "import controller.ports"),
    "steps": ("controller/steps/merge.py", "import controller.steps.deploy"),
    "judging": ("controller/service/judging.py", "import controller.ledger.keyring"),
    "cedar": ("controller/steps/clear.py", "import cedarpy"),
    "mcp": ("controller/gate.py", "import mcp"),
    "jwt": ("controller/desk.py", "import jwt"),
    "psycopg": ("controller/intake.py", "import psycopg"),
    "langgraph": ("controller/steps/author.py", "import langgraph.graph"),
    "cryptography": ("controller/domain/ids.py", "import cryptography.hazmat"),
    "anthropic": ("controller/agents/nodes.py", "import anthropic"),
    "pygit2": ("controller/queue/line.py", "import pygit2"),
    "opentelemetry": ("controller/canary/judge.py", "import google.protobuf"),
    "grpc": ("controller/adapters/otlp_intake.py", "import grpc"),
    "click": ("controller/wiring.py", "import click"),
    "rich": ("controller/domain/delivery.py", "import rich"),
}


def lint(folder: Path) -> str:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)
    return ran.stdout + ran.stderr


def test_every_rule_holds_in_the_house() -> None:
    said = lint(ROOT)
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in said, said


def test_a_trespass_breaks_exactly_the_rule_against_it(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for file, line in TRESPASSES.values():
        with (tmp_path / file).open("a") as module:
            module.write(f"\n{line}\n")
    said = lint(tmp_path)
    assert {contract["id"] for contract in CONTRACTS} == set(TRESPASSES), "give the new rule a trespass"
    for contract in CONTRACTS:
        assert f"{contract['name']} BROKEN" in said, said


def test_every_room_has_its_place_in_the_layers() -> None:
    layers = next(contract for contract in CONTRACTS if contract["id"] == "layers")["layers"]
    placed = set(re.findall(r"[a-z_][a-z_.]*", " ".join(layers)))
    found = {f"controller.{path.stem}" for path in (ROOT / "controller").iterdir() if is_module(path)}
    assert found - placed == set(), "put it into the layers of pyproject.toml"


def is_module(path: Path) -> bool:
    return (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")


@pytest.mark.parametrize("package", [*PACKAGES, "examples"])
def test_every_library_that_the_code_imports_is_named_as_a_dependency(package: str) -> None:
    named = {re.split(r"[=<>\[; ]", line, maxsplit=1)[0] for line in PROJECT["project"]["dependencies"]}
    homes = packages_distributions()
    for path in sorted((ROOT / package).rglob("*.py")):
        for module in libraries_of(path):
            candidates = {name.lower().replace("_", "-") for name in homes.get(module, [])}
            where = f"{path.relative_to(ROOT)} imports {module}"
            assert candidates & named or stands_beside(path, module), f"{where}: {candidates or 'unknown'}"


def stands_beside(path: Path, module: str) -> bool:
    """Whether an example imports a module of its own."""
    folders = [folder for folder in path.parents if folder.is_relative_to(ROOT / "examples")]
    return any((folder / module).is_dir() or (folder / f"{module}.py").exists() for folder in folders)


def libraries_of(path: Path) -> set[str]:
    """The top-level names that a file imports, which are neither Python's own nor ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES)


def test_the_bootstrap_needs_nothing_but_python() -> None:
    assert libraries_of(ROOT / "bootstrap.py") == set()


def test_both_locks_pin_the_same_versions_and_name_no_registry() -> None:
    texts = [(ROOT / name).read_text() for name in ("requirements.lock", "requirements-dev.lock")]
    runtime, development = (dict(PIN.findall(text)) for text in texts)
    assert runtime.items() <= development.items()
    assert not any("://" in text or "--index" in text for text in texts)
    assert all(len(PIN.findall(text)) == len(HASHED.findall(text)) for text in texts)


def test_every_dependency_is_in_its_lock() -> None:
    runtime = dict(PIN.findall((ROOT / "requirements.lock").read_text()))
    development = dict(PIN.findall((ROOT / "requirements-dev.lock").read_text()))
    for line in PROJECT["project"]["dependencies"]:
        assert_locked(line, runtime)
    for line in PROJECT["dependency-groups"]["dev"]:
        assert_locked(line, development)


def assert_locked(line: str, lock: dict[str, str]) -> None:
    name, _, exact = line.partition("==")
    name = re.split(r"[<>=]", name, maxsplit=1)[0]
    assert lock.get(name), f"{name} is in no lock; compile it again as docs/development.md says"
    assert exact in {"", lock[name]}, f"{name} is locked at {lock[name]}, not {exact}"
