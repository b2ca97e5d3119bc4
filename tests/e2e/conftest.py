"""One undisturbed demo, shared by all who compare something with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit import Demo, flyball


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`flyball demo --json`, once, undisturbed."""
    folder = Path(tmp_path_factory.mktemp("demo")) / "state"
    done = flyball("demo", "--fresh", "--json", "--dir", folder, within_s=400)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Demo(folder, done.returncode, lines, done.stderr)
