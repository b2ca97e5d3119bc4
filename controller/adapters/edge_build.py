"""From a commit to an artefact: the exported tree, the build command's output, a digest of that output.

The tree is exported with `git archive`, so no hook and no working copy is involved. The build command is other
people's code: it runs in a sandbox that shows it the tree and the folder for its output, and what it leaves there is
looked at as such (`edge_artefact`). A commit is built once: its artefact is remembered, and stored under its digest.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tarfile
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

from controller.adapters.edge_artefact import artefact_folder, stored
from controller.adapters.edge_config import ServiceSettings, filled
from controller.adapters.edge_environment import plain_environment
from controller.adapters.edge_state import BuildRecord
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_doors import place_of
from controller.adapters.sandbox_rungs import Limits
from controller.domain.ids import Commit, Digest
from controller.errors import Permanent

EXPORT_WITHIN_S = 60
LARGEST_EXPORT_BYTES = 1 << 30
TAIL_BYTES = 4 << 10
UNCONFIGURED_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}


async def build(settings: ServiceSettings, commit: Commit, store: Path, sandbox: Sandbox) -> BuildRecord:
    """Raises `Permanent` when the commit is unknown or its build fails: nothing is kept then."""
    began = time.monotonic()
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Permanent(f"{commit!r} is no commit id", "Give all 40 hexadecimal digits")
    await asyncio.to_thread(store.mkdir, parents=True, exist_ok=True)
    isolation = sandbox.isolation
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=store.parent, prefix="build-"))
    try:
        source, out = (_made(folder / name) for name in ("source", "out"))
        await _export(settings.git_dir, commit, source)
        if settings.build is not None:
            isolation = await _run_build(settings, settings.build, source, out, sandbox)
        artefact = await asyncio.to_thread(stored, source if settings.build is None else out, store)
    finally:
        await asyncio.to_thread(remove, folder)
    took = round((time.monotonic() - began) * 1000)
    return BuildRecord(artefact=artefact, duration_ms=took, isolation=isolation)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _export(git_dir: Path, commit: Commit, into: Path) -> None:
    archive = into.parent / "source.tar"
    words = [
        "git",
        "--git-dir",
        str(git_dir),
        "-c",
        "core.attributesFile=" + os.devnull,
        "archive",
        "--format=tar",
        "-o",
        str(archive),
        commit,
    ]
    code, said = await _git(words, git_dir)
    if code != 0:
        raise Permanent(f"commit {commit[:10]} cannot be exported from {git_dir}: {said}", "Push it there first")
    if archive.stat().st_size > LARGEST_EXPORT_BYTES:
        raise Permanent(f"commit {commit[:10]} is larger than {LARGEST_EXPORT_BYTES} bytes")
    try:
        await asyncio.to_thread(_unpack, archive, into)
    except tarfile.TarError as error:
        raise Permanent(f"commit {commit[:10]} holds a file that points outside its tree: {error}") from error


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(into, filter="data")
            return
        # Python 3.11 has no filters before 3.11.4, and Debian 12 has 3.11.2.
        for member in tar.getmembers():
            _must_stay_inside(member, into.resolve())
        tar.extractall(into)  # noqa: S202 - every member has just been looked at


def _must_stay_inside(member: tarfile.TarInfo, into: Path) -> None:
    """Raises TarError for whatever is no plain file, folder or link, or leads out of the folder."""
    place = (into / member.name).resolve()
    target = (place.parent / member.linkname).resolve() if member.issym() else place
    if not (member.isreg() or member.isdir() or member.issym()) or member.name.startswith("/"):
        raise tarfile.TarError(f"{member.name!r} is no plain file, folder or link inside the tree")
    if not (place.is_relative_to(into) and target.is_relative_to(into)) or member.linkname.startswith("/"):
        raise tarfile.TarError(f"{member.name!r} leads out of the tree")


async def _run_build(
    settings: ServiceSettings, command: tuple[str, ...], source: Path, out: Path, sandbox: Sandbox
) -> str:
    """How it was isolated."""
    words = filled(command, python=settings.python, source=sandbox.inside(source), out=sandbox.inside_out(out))
    places = tuple(map(place_of, settings.build_network))
    ran = await sandbox.run(
        words,
        tree=source,
        python=settings.python,
        env=settings.env,
        out=out,
        limits=Limits(wall_s=settings.build_seconds, output_bytes=2 * TAIL_BYTES),
        reach=places or None,
    )
    if ran.timed_out:
        raise Permanent(f"the build took longer than {settings.build_seconds:g} s", "Make it faster")
    if ran.exit_code != 0:
        said = ran.output[-TAIL_BYTES:].strip()[-1500:]
        raise Permanent(
            f"the build ended with exit code {ran.exit_code}; it said last: {said}",
            "Correct the change or the `build` command",
        )
    return ran.isolation


async def _git(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and last words of git reading a store of ours. Raises `Permanent` when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env={**plain_environment(), **UNCONFIGURED_GIT},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        async with asyncio.timeout(EXPORT_WITHIN_S):
            said, _ = await process.communicate()
    except TimeoutError as error:
        raise Permanent(f"git did not export a tree within {EXPORT_WITHIN_S} s", "Look at the disk") from error
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, said.decode(errors="replace").strip()[-1500:]


def pruned(builds: dict[str, BuildRecord], used: set[Digest], most: int, store: Path) -> dict[str, BuildRecord]:
    """The newest builds and those in use; the artefacts of the others are deleted."""
    newest = dict(list(builds.items())[-most:])
    kept = {key: record for key, record in builds.items() if key in newest or record.artefact in used}
    for gone in {record.artefact for record in builds.values()} - {record.artefact for record in kept.values()}:
        shutil.rmtree(artefact_folder(store, gone), ignore_errors=True)  # ours, and bounded in depth
    return kept
