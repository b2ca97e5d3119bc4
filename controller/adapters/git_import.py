"""The way in from a person's own repository, and back out to it: one branch each way, their work tree never touched.

The repository is a person's, so git may read their configuration there (ownership exceptions, line endings); hooks and
monitors stay off.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from itertools import islice
from pathlib import Path

from controller.adapters.git_refs import RefMove, sync_folder, writing
from controller.adapters.git_store import Store, branch_ref, commit_of, contains, create_bare, ref_value, run_git
from controller.adapters.git_trees import odd_modes
from controller.domain.ids import Branch, Commit, Repository
from controller.errors import ConfigError, Permanent

MOST_NAMED = 1_000  # odd entries: more are not counted
TRANSFER_TIMEOUT_S = 900.0  # a first import of a large history from a slow disk
QUIET = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
)
FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")

logger = logging.getLogger(__name__)


def import_repository(
    store: Store, name: Repository, source: Path, branch: Branch, *, allow_dirty: bool = False
) -> Commit:
    """Bring a branch of a person's repository into the forge, or up to date there; returns where it is there now.

    A second call fast-forwards to what the person has committed since, and does nothing where the forge is ahead.
    Raises ConfigError, with nothing changed, when the source cannot be imported or has diverged.
    """
    source = source.expanduser().resolve()
    tip = checked_tip(source, branch, allow_dirty=allow_dirty)
    if not store.exists(name) and _first_import(store, name, source, branch):
        _say_what_is_odd(store, name, tip)
        return tip
    return _catch_up(store, name, source, branch, tip)


def _say_what_is_odd(store: Store, name: Repository, tip: Commit) -> None:
    """A history is taken as it is. Who pushes cannot add such a mode, and reading follows git: see docs/git-door.md."""
    repository = store.open(name)
    odd = sorted(islice(odd_modes(repository, commit_of(repository, tip).tree_id), MOST_NAMED))
    if odd:
        named = ", ".join(path.decode(errors="replace") for path in odd[:3])
        logger.warning(
            "%s has entries of modes that git does not write any more, such as %s: they are read as git reads them, "
            "and written as 100644, 100755, 120000 or 160000 when their folder changes",
            name,
            named,
        )


def sync_back(store: Store, name: Repository, source: Path, branch: Branch) -> Commit:
    """Show a person what has landed, as `refs/remotes/flyball/<branch>` in their own repository; returns its commit."""
    source = source.expanduser().resolve()
    _must_be_repository(source)
    refs = f"+{branch_ref(branch)}:refs/remotes/flyball/{branch}"
    _in(source, *FETCH, str(store.path(name).resolve()), refs)
    return Commit(_in(source, "rev-parse", "--verify", f"refs/remotes/flyball/{branch}").strip())


def _first_import(store: Store, name: Repository, source: Path, branch: Branch) -> bool:
    """False: somebody else has made it meanwhile. The repository appears whole or not at all."""
    store.root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".importing-{name}-", dir=store.root))
    try:
        create_bare(draft, branch)
        ref = branch_ref(branch)
        _into(draft, source, f"{ref}:{ref}")
        draft.rename(store.path(name))
    except OSError:
        if store.exists(name):
            return False
        raise
    finally:
        if draft.exists():
            shutil.rmtree(draft)
    sync_folder(store.root)
    return True


def _catch_up(store: Store, name: Repository, source: Path, branch: Branch, theirs: Commit) -> Commit:
    path, ref = store.path(name), branch_ref(branch)
    _into(path, source, ref)
    with writing(path) as writer:
        repo = store.open(name)
        ours = ref_value(repo, ref)
        if ours is not None and contains(repo, ours, theirs):
            return ours
        if ours is not None and not contains(repo, theirs, ours):
            raise ConfigError(_divergence(source, branch, ours, theirs), _way_back(branch))
        writer.move([RefMove(ref, ours, theirs)])
        return theirs


def _divergence(source: Path, branch: Branch, ours: Commit, theirs: Commit) -> str:
    return f"{branch} has diverged: {source} is at {theirs}, the forge at {ours}, and neither contains the other"


def _way_back(branch: Branch) -> str:
    return f"Sync back, rebase your {branch} onto refs/remotes/flyball/{branch}, and import again"


def checked_tip(source: Path, branch: Branch, *, allow_dirty: bool) -> Commit:
    """Where a person's branch is. Raises ConfigError when it cannot be imported as things stand; touches nothing."""
    _must_be_repository(source)
    if _in(source, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise ConfigError(f"{source} is a shallow clone", "Run git fetch --unshallow there first")
    branches = _in(source, "for-each-ref", "--format=%(refname)", "refs/heads").split()
    if not branches:
        raise ConfigError(f"{source} has no commits", "Commit something there first")
    if branch_ref(branch) not in branches:
        known = ", ".join(ref.removeprefix("refs/heads/") for ref in branches[:10])
        raise ConfigError(f"{source} has no branch {branch!r}", f"Name one of its branches: {known}")
    _must_be_at_rest(source, allow_dirty=allow_dirty)
    return Commit(_in(source, "rev-parse", "--verify", f"{branch_ref(branch)}^{{commit}}").strip())


def _must_be_repository(source: Path) -> None:
    if not source.is_dir():
        raise ConfigError(f"{source} does not exist or is no folder", "Give the path of a local git repository")
    try:
        inside = _in(source, "rev-parse", "--show-prefix").strip()
    except Permanent as no:
        raise ConfigError(
            f"{source} is not a git repository ({no.message})", "Give the path of one, or git init it"
        ) from no
    if inside:
        top = _in(source, "rev-parse", "--show-toplevel").strip()
        raise ConfigError(f"{source} is a folder inside the repository {top}", f"Give {top} instead")


def _must_be_at_rest(source: Path, *, allow_dirty: bool) -> None:
    """Files that git does not track are no obstacle: they are in no commit."""
    try:
        _in(source, "symbolic-ref", "--quiet", "HEAD")
    except Permanent as no:
        raise ConfigError(
            f"{source} is on no branch (detached HEAD)", "Check out a branch there, git switch <branch>"
        ) from no
    if allow_dirty or _in(source, "rev-parse", "--is-bare-repository").strip() == "true":
        return
    changed = _in(source, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all").splitlines()
    if changed:
        raise ConfigError(
            f"{source} has {len(changed)} uncommitted change(s), such as {changed[0][3:]}",
            "Commit or stash them, or allow a dirty work tree: only what is committed is imported",
        )


def _in(source: Path, *arguments: str) -> str:
    command = ("-C", str(source), "--no-optional-locks", *QUIET, *arguments)
    return run_git(*command, timeout_s=TRANSFER_TIMEOUT_S, own_config=True)


def _into(bare: Path, source: Path, refs: str) -> None:
    run_git("--git-dir", str(bare), *QUIET, *FETCH, str(source), refs, timeout_s=TRANSFER_TIMEOUT_S, own_config=True)
