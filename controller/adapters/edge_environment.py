"""What a child of ours gets of this process's environment: nothing that could be a secret."""

from __future__ import annotations

import os

INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME")


def plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}
