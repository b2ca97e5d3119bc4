"""The rules as they stood at a git revision, or as they lie in a folder: either way a folder to load from."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from controller.errors import ConfigError

MAX_FILES = 200
SECONDS = 30
RULES = "rbac"  # the folder of a checkout that holds grants/ and policy/
_LISTED = re.compile(r"100(?:644|755) blob (?P<blob>[0-9a-f]{40,64})\t(?P<path>.+)")
_FILE = re.compile(r"rbac/(?:grants|policy)/[A-Za-z0-9][A-Za-z0-9._-]*")


def rules_folder(place: Path) -> Path | None:
    """The folder itself if it holds grants/, or its rbac/. None: neither."""
    return next((folder for folder in (place, place / RULES) if (folder / "grants").is_dir()), None)


@contextmanager
def rules_at(name: str, repository: Path) -> Iterator[Path]:
    """`name` is a folder, or a git revision of the checkout at `repository`. Raises ConfigError."""
    if Path(name).is_dir():
        found = rules_folder(Path(name))
        if found is None:
            raise ConfigError(f"{name} holds no grants/, nor rbac/grants/", "Name a folder of rules, or a git revision")
        yield found
        return
    commit = _commit(name, repository)
    with TemporaryDirectory() as folder:
        _take_out(commit, repository, Path(folder))
        yield Path(folder) / RULES


def _commit(revision: str, repository: Path) -> str:
    asked = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    found = _git(repository, *asked)
    if found.returncode:
        raise ConfigError(
            f"{revision!r} is neither a folder nor a revision of the git checkout at {repository}",
            "Name a folder with grants/ and policy/, a commit, a branch or a tag; --repo names another checkout",
        )
    return found.stdout.decode().strip()


def _take_out(commit: str, repository: Path, folder: Path) -> None:
    """Only plain files in the two folders of rules, each under a plain name; nothing that git runs or unpacks."""
    listed = _git(repository, "ls-tree", "-r", "-z", commit, f"{RULES}/grants", f"{RULES}/policy")
    lines = [line for line in listed.stdout.decode(errors="replace").split("\0") if line]
    if listed.returncode or not lines:
        raise ConfigError(f"{commit[:12]} holds no rbac/grants in {repository}", "Name the checkout with --repo")
    if len(lines) > MAX_FILES:
        raise ConfigError(f"{commit[:12]} holds more than {MAX_FILES} files of rules", "Compare folders instead")
    for line in lines:
        entry = _LISTED.fullmatch(line)
        if entry is None or not _FILE.fullmatch(entry["path"]):
            raise ConfigError(
                f"{commit[:12]}: {line.partition(chr(9))[2]} is no plain file of rules", "Remove it there"
            )
        file = folder / entry["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_git(repository, "cat-file", "blob", entry["blob"]).stdout)


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as broken:
        raise ConfigError(f"git does not answer in {repository}: {type(broken).__name__}", "Try it by hand") from broken
