"""Bare repositories in a folder, kept so that what is in them stays in them and nothing in them is ever run.

Three things make a store safe to hold a forge. Its configuration forbids collection of garbage, because merges made
in memory hang on no ref until they land. Every object is synced to disk when it is written, so a ref never points at
something that a power cut can take away. And neither library nor command looks at the machine's or the user's git
configuration: the same inputs give the same commit on every machine, and no hook, filter or monitor that somebody
configured is started.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pygit2
from pygit2.enums import ConfigLevel

from controller.domain.ids import NAME, Branch, Commit, Repository
from controller.errors import ConfigError, Permanent, Unavailable

GIT_TIMEOUT_S = 3.0  # of one ref transaction; the verbs' own deadline is 10 s

BARE_CONFIG: Mapping[str, str] = {
    "gc.auto": "0",
    "gc.pruneExpire": "never",  # a gc by hand must not take the unlanded candidates either
    "maintenance.auto": "false",
    "core.fsync": "all",
    "core.fsyncMethod": "fsync",
    "core.hooksPath": os.devnull,
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "transfer.hideRefs": "refs/flyball",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who Flyball's own commits name as author and committer."""

    name: str = "Flyball"
    email: str = "flyball@localhost"

    def signed(self, at: datetime) -> pygit2.Signature:
        """Whole seconds in UTC, so that one instant has one spelling."""
        if at.tzinfo is None:
            raise ValueError(f"a commit's date must be aware, not {at!r}")
        return pygit2.Signature(self.name, self.email, int(at.astimezone(UTC).timestamp()), 0)


FLYBALL = Identity()


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of bare repositories: `<root>/<repository>.git`."""

    root: Path

    def __post_init__(self) -> None:
        isolate_libgit2()

    def path(self, repository: Repository) -> Path:
        if not NAME.fullmatch(repository):
            raise ConfigError(
                f"{repository!r} is no repository name",
                "Use lower-case letters, digits, dots, dashes and underscores, 100 at most",
            )
        return self.root / f"{repository}.git"

    def exists(self, repository: Repository) -> bool:
        return (self.path(repository) / "HEAD").is_file()

    def open(self, repository: Repository) -> pygit2.Repository:
        """A handle of one's own: libgit2 handles are not shared between threads. Costs under 0.1 ms."""
        path = self.path(repository)
        if not self.exists(repository):
            raise ConfigError(f"repository {repository!r} is not in {self.root}", "Import it first")
        return pygit2.Repository(str(path))


def isolate_libgit2() -> None:
    """Sync every object; read no configuration but a repository's own. Settings of the whole process."""
    pygit2.settings.enable_fsync_gitdir(True)
    for level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
        pygit2.settings.search_path[level] = ""


def create_bare(path: Path, branch: Branch) -> None:
    """An empty bare repository without hooks, whose HEAD names `branch`."""
    run_git("init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", str(path))
    for key, value in BARE_CONFIG.items():
        run_git("--git-dir", str(path), "config", key, value)


def run_git(
    *arguments: str,
    stdin: str = "",
    timeout_s: float = GIT_TIMEOUT_S,
    keep_open: tuple[int, ...] = (),
    own_config: bool = False,
) -> str:
    """Standard output of one git command. `own_config` lets it read the user's configuration, for their repository.

    Raises Permanent with git's own words when git says no, Unavailable when it did not answer in time or was killed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if not own_config:
        environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=timeout_s, pass_fds=keep_open
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{shlex.join(command)} did not finish within {timeout_s:g} s") from late
    if done.returncode < 0:
        raise Unavailable(f"{shlex.join(command)} was killed by signal {-done.returncode}")
    if done.returncode:
        raise Permanent(f"git said no: {done.stderr.strip()}")
    return done.stdout


def commit_of(repository: pygit2.Repository, commit: Commit) -> pygit2.Commit:
    """Raises Permanent if the forge does not have it."""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Permanent(f"{commit!r} is no commit id", "Name a commit by its 40 hex digits")
    found = repository.get(commit)
    if not isinstance(found, pygit2.Commit):
        raise Permanent(f"the forge has no commit {commit}", "Commit it into the forge first")
    return found


def contains(repository: pygit2.Repository, commit: Commit, ancestor: Commit) -> bool:
    inner, outer = commit_of(repository, ancestor), commit_of(repository, commit)
    return inner.id == outer.id or repository.descendant_of(outer.id, inner.id)


def branch_ref(branch: Branch) -> str:
    ref = f"refs/heads/{branch}"
    if not pygit2.reference_is_valid_name(ref):
        raise Permanent(f"{branch!r} is no branch name", "See git-check-ref-format for what a name may hold")
    return ref


def ref_value(repository: pygit2.Repository, ref: str) -> Commit | None:
    """None: there is no such ref."""
    found = repository.references.get(ref)
    return None if found is None else Commit(str(found.target))
