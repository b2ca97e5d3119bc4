"""One suite a port: every world registered beside this file goes through it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from worlds import CHATS, FORGES, WORKSPACES, ChatWorld, ForgeWorld, WorkspaceWorld

for registration in sorted(Path(__file__).parent.glob("world_*.py")):
    importlib.import_module(registration.stem)


@pytest.fixture(params=sorted(FORGES))
def forge_world(request: pytest.FixtureRequest, tmp_path: Path) -> ForgeWorld:
    return FORGES[request.param](tmp_path)


@pytest.fixture(params=sorted(WORKSPACES))
def workspace_world(request: pytest.FixtureRequest, tmp_path: Path) -> WorkspaceWorld:
    return WORKSPACES[request.param](tmp_path)


@pytest.fixture(params=sorted(CHATS))
def chat_world(request: pytest.FixtureRequest, tmp_path: Path) -> ChatWorld:
    return CHATS[request.param](tmp_path)
