"""Removing a tree that somebody else has filled: with rm, which neither follows links nor recurses on a stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

from controller.errors import Unavailable

REMOVE_TIMEOUT_S = 60.0


def remove(place: Path) -> None:
    """Whatever is there, and whatever modes it has. Raises Unavailable when something is left."""
    if not place.parent.is_dir():
        return
    if _rm(place):
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(place)], capture_output=True, timeout=REMOVE_TIMEOUT_S)
        left = _rm(place)
        if left:
            raise Unavailable(f"the working copy {place} cannot be removed: {left}", "Remove it by hand")


def _rm(place: Path) -> str:
    """What rm complained about; empty: it is gone."""
    done = subprocess.run(["rm", "-rf", "--", str(place)], capture_output=True, text=True, timeout=REMOVE_TIMEOUT_S)
    return done.stderr.strip() if done.returncode else ""
