from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from served_here import SERVED

from rbac.decide import Authority
from rbac.load import SHIPPED


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority(SERVED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped rules, to be spoilt."""
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, tmp_path / part)
    return tmp_path
