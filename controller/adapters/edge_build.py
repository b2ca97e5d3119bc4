"""From a commit to an artefact: the exported tree, the build command's output, a digest of that output.

The tree is exported with `git archive`, so no hook and no working copy is involved. The digest covers sorted paths,
kinds, execute bits and contents; `__pycache__` is left out. A commit is built once: its artefact is remembered, and
stored under its own digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import stat
import tarfile
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from pathlib import Path

from controller.adapters.edge_config import ServiceSettings, filled
from controller.adapters.edge_processes import die_with_parent, end_group, plain_environment
from controller.adapters.edge_state import BuildRecord
from controller.domain.ids import Commit, Digest
from controller.errors import Permanent

EXPORT_WITHIN_S = 60
LARGEST_EXPORT_BYTES = 1 << 30
TAIL_BYTES = 4 << 10
UNCONFIGURED_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
SKIPPED = "__pycache__"


async def build(settings: ServiceSettings, commit: Commit, store: Path) -> BuildRecord:
    """Raises `Permanent` when the commit is unknown or its build fails: nothing is kept then."""
    began = time.monotonic()
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Permanent(f"{commit!r} is no commit id", "Give all 40 hexadecimal digits")
    await asyncio.to_thread(store.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="build-", ignore_cleanup_errors=True) as folder:
        source, out = (_made(Path(folder, name)) for name in ("source", "out"))
        await _export(settings.git_dir, commit, source)
        if settings.build is not None:
            await _run_build(settings, settings.build, source, out)
        artefact = await asyncio.to_thread(_stored, source if settings.build is None else out, store)
    return BuildRecord(artefact=artefact, duration_ms=round((time.monotonic() - began) * 1000))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def artefact_folder(store: Path, artefact: Digest) -> Path:
    return store / artefact.removeprefix("sha256:")


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
    code, said = await _run(words, git_dir, {**plain_environment(), **UNCONFIGURED_GIT}, EXPORT_WITHIN_S)
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


async def _run_build(settings: ServiceSettings, command: tuple[str, ...], source: Path, out: Path) -> None:
    words = filled(command, python=settings.python, source=str(source), out=str(out))
    home = _made(out.parent / "home")
    environment = {**plain_environment(), **settings.env, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        code, said = await _run(words, source, environment, settings.build_seconds)
    except TimeoutError as error:
        raise Permanent(f"the build took longer than {settings.build_seconds:g} s", "Make it faster") from error
    if code != 0:
        raise Permanent(
            f"the build ended with exit code {code}; it said last: {said}", "Correct the change or the `build` command"
        )


async def _run(words: list[str], folder: Path, environment: dict[str, str], within_s: float) -> tuple[int, str]:
    """Exit code and last words. Raises `TimeoutError`, the whole process group ended."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env=environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            process_group=0,
            preexec_fn=die_with_parent,
        )
    except OSError as error:
        raise Permanent(f"{words[0]} cannot be started: {error}", "Correct the command") from error
    tail = b""
    try:
        async with asyncio.timeout(within_s):
            assert process.stdout is not None  # noqa: S101  PIPE was asked for
            while piece := await process.stdout.read(TAIL_BYTES):
                tail = (tail + piece)[-TAIL_BYTES:]
            code = await process.wait()
    finally:
        end_group(process, signal.SIGKILL)
    return code, tail.decode(errors="replace").strip()[-1500:]


def _stored(folder: Path, store: Path) -> Digest:
    artefact = digest_of_tree(folder)
    kept = artefact_folder(store, artefact)
    if not kept.exists():
        shutil.move(folder, kept)
    return artefact


def digest_of_tree(folder: Path) -> Digest:
    """The same for the same files on every machine: times and owners are no part of it."""
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in _files(folder)):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            kind, content = "link", os.fsencode(path.readlink())
        else:
            kind, content = "run" if found.st_mode & stat.S_IXUSR else "file", path.read_bytes()
        whole.update(f"{len(name)}:{name}:{kind}:{len(content)}:".encode() + content)
    return Digest("sha256:" + whole.hexdigest())


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name == SKIPPED:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        else:
            yield path


def pruned(builds: dict[str, BuildRecord], used: set[Digest], most: int, store: Path) -> dict[str, BuildRecord]:
    """The newest builds and those in use; the artefacts of the others are deleted."""
    newest = dict(list(builds.items())[-most:])
    kept = {key: record for key, record in builds.items() if key in newest or record.artefact in used}
    for gone in {record.artefact for record in builds.values()} - {record.artefact for record in kept.values()}:
        shutil.rmtree(artefact_folder(store, gone), ignore_errors=True)
    return kept
