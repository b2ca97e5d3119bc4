"""Removing a tree that somebody else has filled: with rm, which neither follows links nor recurses on a stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

from controller.errors import Unavailable

REMOVE_TIMEOUT_S = 120.0


def remove(place: Path) -> None:
    """Whatever is there, and whatever modes it has. Raises Unavailable when something is left."""
    if not place.parent.is_dir():
        return
    if _rm(place):
        _said(["chmod", "-R", "u+rwX", "--", str(place)])
        left = _rm(place)
        if left:
            raise Unavailable(f"the folder {place} cannot be removed: {left[-500:]}", "Remove it by hand")


def _rm(place: Path) -> str:
    """What rm complained about; empty: it is gone."""
    return _said(["rm", "-rf", "--", str(place)])


def _said(words: list[str]) -> str:
    """Empty: it went well. Names in there are somebody else's, and need not be text."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=REMOVE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{words[0]} took longer than {REMOVE_TIMEOUT_S:g} s"
    return ascii(done.stderr.decode(errors="replace").strip()) if done.returncode else ""
