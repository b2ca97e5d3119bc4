"""Three changes that once landed alone, through the public command: a person or the author gets each, and main none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit import State, begun, flyball, git, kill, repository, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BASE = {
    "flyball.toml": '[repository]\nname = "shop"\n',
    "app.py": "def price(): return 1\n",
    "tests/test_app.py": "from app import price\n\ndef test_price():\n    assert price() == 1\n",
    "tests/test_other.py": "def test_other():\n    assert 1 + 1 == 2\n",
    "conftest.py": "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n",
}
TASK = "Double the price of everything in the shop"
DOUBLED = {"tool": "edit_file", "arguments": {"path": "app.py", "old": "return 1", "new": "return 2"}}
FORGED = {
    "the failing test is deleted": (
        [DOUBLED, {"tool": "delete_file", "arguments": {"path": "tests/test_app.py"}}],
        "yellow/tests-weakened",
    ),
    "the failing test is not collected any more": (
        [
            DOUBLED,
            {
                "tool": "write_file",
                "arguments": {"path": "tests/conftest.py", "content": "collect_ignore = ['test_app.py']\n"},
            },
        ],
        "red/tests-vanished",
    ),
    "a stranger's package comes in": (
        [
            {
                "tool": "write_file",
                "arguments": {"path": "requirements.txt", "content": "left-pad-of-a-stranger==6.6.6\n"},
            }
        ],
        "yellow/dependency",
    ),
}


@pytest.mark.parametrize("how", FORGED)
def test_what_would_forge_green_does_not_land_alone_and_says_why(how: str, tmp_path: Path) -> None:
    calls, rule = FORGED[how]
    repo = tmp_path / "shop"
    for path, text in BASE.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(text)
    repository(repo)
    script = tmp_path / "script.yaml"
    book = {"match": TASK, "turns": [{"text": "So.", "calls": calls}], "summary": "Done."}
    script.write_text(f"- {json.dumps(book)}\n")
    running = begun("run", TASK, "--repo", repo, "--script", script, cwd=repo, out=tmp_path / "said.txt")
    state = State(repo / ".flyball")
    try:
        until(lambda: state.of_kind("RiskClassified", "Abandoned"), 200, "it has a colour")
        classified = state.of_kind("RiskClassified")
        assert classified, (tmp_path / "said.txt").read_text()
        until(lambda: state.of_kind("ApprovalRequested", "SentBack"), 60, "people are asked, or the author")
    finally:
        kill(running)
    assert rule in classified[0].body["verdict"]["rules"]
    assert classified[0].body["verdict"]["colour"] != "green"
    assert not state.of_kind("Merged", "Cleared")
    assert git(state.forge("shop"), "rev-parse", "main") == git(repo, "rev-parse", "HEAD")
    delivery = classified[0].stream.removeprefix("delivery/")
    said = flyball("explain", delivery, "--repo", repo)
    assert said.returncode == 0, said.stderr
    assert rule in said.stdout.splitlines()[0]
    assert (
        json.loads(flyball("explain", delivery, "--repo", repo, "--json").stdout)["rules"]
        == classified[0].body["verdict"]["rules"]
    )
