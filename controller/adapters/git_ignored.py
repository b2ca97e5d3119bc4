"""Which new files does a repository's own .gitignore name? git says, from the ignore files of one commit alone.

The working copy's ignore files are the session's to write, so they are not asked: a folder is laid out with those of
the base and nothing else, and git is asked there, with no configuration of this machine.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from controller.adapters.git_process import BOUNDED, git_environment
from controller.errors import Permanent

SECONDS = 30.0
IGNORE = ".gitignore"
MAX_IGNORE_BYTES = 256 * 1024  # of one ignore file; a longer one is nobody's


def ignored(bare: Path, paths: Sequence[str], read: Callable[[str], bytes | None]) -> frozenset[str]:
    """`read` gives a file of the base, or None where it has none. Raises Permanent when git cannot tell."""
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    found = {folder: content for folder in sorted(folders) if (content := read(_in(folder))) is not None}
    if not paths or not found:
        return frozenset()
    with tempfile.TemporaryDirectory(prefix="flyball-ignored-") as name:
        place = Path(name)
        for folder, content in found.items():
            _laid_out(place / folder / IGNORE, content)
        return _asked(bare, place, paths)


def _in(folder: str) -> str:
    return IGNORE if folder == "." else f"{folder}/{IGNORE}"


def _laid_out(file: Path, content: bytes) -> None:
    if len(content) > MAX_IGNORE_BYTES:
        raise Permanent(f"{file.name} has {len(content)} bytes", f"Keep it below {MAX_IGNORE_BYTES}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _asked(bare: Path, place: Path, paths: Sequence[str]) -> frozenset[str]:
    environment = git_environment(
        bare, (("core.excludesFile", "/dev/null"), ("core.bare", "false")), GIT_WORK_TREE=str(place)
    )
    done = subprocess.run(
        (*BOUNDED, "git", "check-ignore", "--no-index", "--stdin", "-z"),
        input=b"\0".join(path.encode(errors="surrogateescape") for path in paths),
        env=environment,
        cwd=place,
        capture_output=True,
        timeout=SECONDS,
    )
    if done.returncode not in (0, 1):  # 1: none of them
        raise Permanent(f"git cannot tell what is ignored: {done.stderr.decode(errors='replace')[-300:]}")
    return frozenset(part.decode(errors="surrogateescape") for part in done.stdout.split(b"\0") if part)
