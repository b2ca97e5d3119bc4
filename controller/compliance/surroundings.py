"""What a packet takes from outside the log: the diff and the attestation out of the repository, blobs, opened text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.adapters.git_process import git_environment, git_output
from controller.compliance.packet import MAX_BLOB_BYTES, blobs_named
from controller.domain.ids import Digest
from controller.domain.sealed import Sealed
from controller.errors import Permanent
from controller.ports import Blobs, Seals

GIT_S = 10.0
MAX_DIFF_BYTES = 20_000_000
STATEMENTS = "refs/notes/attestations"
_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--stat", "--patch")


async def diff_of(forge: Path, leaves: Sequence[bytes]) -> str | None:
    """What landed last, or what was authored last where nothing has. None: the repository has not got the commits."""
    found = _ends(leaves)
    if found is None or not all([await _has(found.bare(forge), commit) for commit in (found.base, found.tip)]):
        return None
    return (await _git(found.bare(forge), *_DIFF, found.base, found.tip, "--")).decode(errors="replace")


async def attestation_of(forge: Path, leaves: Sequence[bytes]) -> bytes | None:
    """The envelope that lies beside the landed commit. None: there is none."""
    found = _ends(leaves)
    if found is None or not await _has(found.bare(forge), found.tip):
        return None
    if not await _has(found.bare(forge), STATEMENTS):
        return None
    listed = await _git(found.bare(forge), "ls-tree", "-r", "--name-only", "--full-tree", STATEMENTS)
    if found.tip not in {
        line.replace("/", "") for line in listed.decode().splitlines()
    }:  # git fans notes out into folders
        return None
    return await _git(found.bare(forge), "notes", f"--ref={STATEMENTS}", "show", found.tip)


async def blobs_of(blobs: Blobs, leaves: Sequence[bytes]) -> dict[Digest, bytes]:
    """Those in clear that are still there; one that is gone may have been erased on purpose, and is left out."""
    found = {}
    for digest in blobs_named([json.loads(leaf) for leaf in leaves]):
        try:
            content = await blobs.get(digest)
        except Permanent:
            continue
        if len(content) <= MAX_BLOB_BYTES:
            found[digest] = content
    return found


async def opened_logs(seals: Seals, leaves: Sequence[bytes]) -> dict[Digest, str]:
    """What CI printed, opened by `seals`, which must have it written down. What can no longer be opened is left out."""
    found = {}
    for body in (json.loads(leaf)["body"] for leaf in leaves if b'"kind":"CiReported"' in leaf):
        sealed = Sealed.model_validate(body["log"])
        try:
            found[sealed.digest] = await seals.open(sealed)
        except Permanent:
            continue
    return found


@dataclass(frozen=True, slots=True)
class _Ends:
    """The commits before and after a change."""

    repository: str
    base: str
    tip: str

    def bare(self, forge: Path) -> Path:
        return forge.absolute() / f"{self.repository}.git"


def _ends(leaves: Sequence[bytes]) -> _Ends | None:
    """None: nothing was authored."""
    entries = [json.loads(leaf) for leaf in leaves]
    repository = next((entry["body"]["repository"] for entry in entries if entry["kind"] == "TaskRequested"), None)
    landed = _last(entries, "Merged") or _last(entries, "ChangeAuthored")
    if repository is None or landed is None:
        return None
    return _Ends(repository, landed["base"], landed.get("commit", landed["head"]))


async def _has(bare: Path, commit: str) -> bool:
    try:
        await _git(bare, "cat-file", "-e", f"{commit}^{{commit}}")
    except Permanent:
        return False
    return True


async def _git(bare: Path, *arguments: str) -> bytes:
    environment = git_environment(bare)
    return await git_output(*arguments, environment=environment, seconds=GIT_S, limit_bytes=MAX_DIFF_BYTES)


def _last(entries: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """None: there is none of that kind."""
    return next((entry["body"] for entry in reversed(entries) if entry["kind"] == kind), None)
