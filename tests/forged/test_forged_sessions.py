"""What an agent's session leaves behind beside its change never reaches main: through the public command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from forged_kit import CASES, GIT, commit, git, tree_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = CASES.parents[1]
TASK = "Give a discount of 5 % from 100 euros."
SHOP = yaml.safe_load((CASES / "bases.yaml").read_text())["shop"]
WAYS = {
    f"{way['name']} ({key})": way[key]
    for way in yaml.safe_load((CASES / "sessions.yaml").read_text())
    for key in ("forged", "twin")
}


def calls(way: dict[str, Any]) -> list[dict[str, Any]]:
    """`@change`: what the honest change writes there."""
    return [
        {"tool": turn["tool"], "arguments": {name: _text(turn, value) for name, value in turn["arguments"].items()}}
        for turn in way["turns"]
    ]


def _text(turn: dict[str, Any], value: str) -> str:
    return str(SHOP["change"][turn["arguments"]["path"]]) if value == "@change" else value


def book(way: dict[str, Any], place: Path) -> Path:
    turns = [{"text": "So.", "calls": [call]} for call in calls(way)]
    place.write_text(f"- {json.dumps({'match': TASK, 'turns': turns, 'summary': 'A discount.'})}\n")
    return place


def flyball(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "controller.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**GIT, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("name", WAYS)
def test_nothing_but_what_the_agent_wrote_lands(name: str, tmp_path: Path) -> None:
    repo = tmp_path / "shop"
    repo.mkdir()
    git(repo, "init", "--quiet", "--initial-branch=main")
    commit(repo, SHOP["files"], "First")
    git(repo, "checkout", "--quiet", "--force", "main")
    (repo / "flyball.toml").write_text('[repository]\nname = "shop"\n\n[test]\nplugins = false\n')
    before = tree_of(repo, "main")

    script = book(WAYS[name], tmp_path / "script.yaml")
    done = flyball("run", "--repo", repo, TASK, "--script", script, home=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    after = tree_of(repo, "flyball/main")
    assert {path for path in {*before, *after} if before.get(path) != after.get(path)} == set(WAYS[name]["lands"])
    wrote = {
        call["arguments"]["path"]: call["arguments"]["content"]
        for call in calls(WAYS[name])
        if "path" in call["arguments"]
    }
    for path in WAYS[name]["lands"]:
        assert git(repo, "show", f"flyball/main:{path}") == wrote[path].strip()
