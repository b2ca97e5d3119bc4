"""From a commit in a real repository to an artefact under its digest."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import WELL, EdgeKit, git, names

from controller.adapters.edge_artefact import artefact_folder, digest_of_tree
from controller.adapters.edge_build import build, pruned
from controller.adapters.edge_state import BuildRecord
from controller.adapters.sandbox import Sandbox
from controller.domain.ids import Commit, Digest
from controller.errors import Permanent

BOX = asyncio.run(Sandbox.best())
COPY = "import pathlib, sys; pathlib.Path(sys.argv[1], 'made').write_text(pathlib.Path('source.txt').read_text())"


@pytest.fixture
def kit(tmp_path: Path) -> EdgeKit:
    return EdgeKit(tmp_path)


@pytest.fixture(params=["filters", "no filters"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 before 3.11.4, such as Debian 12's, unpacks archives without filters."""
    if request.param == "no filters":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


def building(kit: EdgeKit, *words: str, **settings: object) -> EdgeKit:
    kit.service = kit.service.model_copy(update={"build": words, **settings})
    return kit


@pytest.mark.usefixtures("python")
async def test_without_a_command_the_tree_is_the_artefact(kit: EdgeKit, tmp_path: Path) -> None:
    made = await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)
    folder = artefact_folder(tmp_path / "store", made.artefact)
    assert sorted(path.name for path in folder.iterdir()) == ["behaviour.json", "plain_service.py"]
    assert digest_of_tree(folder) == made.artefact


async def test_same_output_has_the_same_digest_whatever_the_commit(kit: EdgeKit, tmp_path: Path) -> None:
    building(kit, "{python}", "-c", COPY, "{out}")
    first, second, third = [
        await build(kit.service, kit.commit(WELL, files), tmp_path / "store", BOX)
        for files in ({"source.txt": "a"}, {"source.txt": "a", "README": "more"}, {"source.txt": "b"})
    ]
    assert first.artefact == second.artefact != third.artefact
    assert (artefact_folder(tmp_path / "store", third.artefact) / "made").read_text() == "b"


def test_digest_sees_names_modes_and_contents_and_no_byte_code(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    seen = {digest_of_tree(tmp_path)}
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert {digest_of_tree(tmp_path)} == seen
    (tmp_path / "empty").mkdir()
    assert digest_of_tree(tmp_path) not in seen
    (tmp_path / "empty").rmdir()
    (tmp_path / "a").chmod(0o755)
    seen.add(digest_of_tree(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(digest_of_tree(tmp_path))
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to("x")
    seen.add(digest_of_tree(tmp_path))
    assert len(seen) == 4


async def test_failing_build_tells_its_last_words_and_leaves_nothing(kit: EdgeKit, tmp_path: Path) -> None:
    building(kit, "{python}", "-c", "raise SystemExit('no such module: frobnicate')")
    with pytest.raises(Permanent, match=r"exit code 1.*frobnicate"):
        await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)
    assert names(tmp_path / "store") == set()
    assert not [name for name in names(tmp_path) if name.startswith("build-")]


async def test_build_that_never_ends_is_ended(kit: EdgeKit, tmp_path: Path) -> None:
    building(kit, "{python}", "-c", "import signal; signal.pause()", build_seconds=1.5)
    with pytest.raises(Permanent, match=r"longer than 1\.5 s"):
        await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)


async def test_build_sees_no_secret_of_the_controller(
    kit: EdgeKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    building(kit, "{python}", "-c", "import os, sys; sys.exit(os.environ.get('ANTHROPIC_API_KEY', 0))")
    built = await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)
    assert built.artefact, "the build command exits with the key if it sees one"


LEFT = {
    "a pipe": ("os.mkfifo(out + '/pipe')", "no file, folder or link"),
    "a socket": ("import socket; socket.socket(socket.AF_UNIX).bind(out + '/s')", "no file, folder or link"),
    "a link to a file of ours": ("os.symlink('/etc/shadow', out + '/passwords')", "leads out of it, to '/etc/shadow'"),
    "a link upwards": ("os.symlink('../state.json', out + '/state')", "leads out of it"),
    "links that leave together": (
        "os.mkdir(out + '/p'); os.symlink('..', out + '/p/q'); os.symlink('q/../..', out + '/p/r')",
        "'p/r' leads out of it",
    ),
    "folders deeper than a stack": (
        "os.chdir(out); [(os.mkdir('d'), os.chdir('d')) for _ in range(1500)]",
        "more than (64|200) deep",
    ),
    "a path that no call takes": (
        "os.chdir(out); [(os.mkdir('d' * 250), os.chdir('d' * 250)) for _ in range(20)]",
        "path of more than 1,024 bytes",
    ),
    "a name that is no text": ("open(os.fsencode(out) + b'/\\xff', 'w')", "is not UTF-8"),
    "more than it takes room for": (
        "[os.truncate(os.open(f'{out}/{n}', os.O_CREAT | os.O_WRONLY), (1 << 30) - 1) for n in range(5)]",
        "more than 4,294,967,296 bytes",
    ),
}


@pytest.mark.parametrize("left", LEFT)
async def test_build_that_leaves_what_is_no_artefact_has_failed(kit: EdgeKit, tmp_path: Path, left: str) -> None:
    code, said = LEFT[left]
    building(kit, "{python}", "-c", f"import os, sys; out = sys.argv[1]; {code}", "{out}")
    with pytest.raises(Permanent, match=said):
        await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)
    assert names(tmp_path / "store") == set()


async def test_folders_without_end_leave_nothing_of_the_build(kit: EdgeKit, tmp_path: Path) -> None:
    deep = "import os, sys; os.chdir(sys.argv[1]); [(os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"
    building(kit, "{python}", "-c", deep, "{out}")
    with pytest.raises(Permanent, match="deep"):
        await build(kit.service, kit.commit(WELL), tmp_path / "edge" / "store", BOX)
    assert names(tmp_path / "edge") == {"store"}


COMPILED = """
import os, py_compile, sys
out, other = sys.argv[1], "/tmp/other.py"
open(out + "/app.py", "w").write("print('as it says')")
if len(sys.argv) > 2:
    open(other, "w").write("print('another')")
    py_compile.compile(other, out + "/__pycache__/app." + sys.implementation.cache_tag + ".pyc",
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


async def test_byte_code_of_another_source_does_not_hide_under_the_digest_of_a_clean_build(
    kit: EdgeKit, tmp_path: Path
) -> None:
    commit = kit.commit(WELL)
    building(kit, "{python}", "-c", COMPILED, "{out}", "poisoned")
    poisoned = await build(kit.service, commit, tmp_path / "store", BOX)
    building(kit, "{python}", "-c", COMPILED, "{out}")
    clean = await build(kit.service, commit, tmp_path / "store", BOX)
    assert clean.artefact == poisoned.artefact
    assert names(artefact_folder(tmp_path / "store", clean.artefact)) == {"app.py"}


async def test_what_a_build_leaves_is_ours_and_has_plain_modes(kit: EdgeKit, tmp_path: Path) -> None:
    code = """
import os, sys
out = sys.argv[1]
for name, mode in (("tool", 0o6777), ("data", 0o600), ("hidden/inner", 0o000)):
    os.makedirs(os.path.dirname(f"{out}/{name}"), exist_ok=True)
    open(f"{out}/{name}", "w").write(name)
    os.chmod(f"{out}/{name}", mode)
os.symlink("data", out + "/link")
os.chmod(out + "/hidden", 0o000)
"""
    building(kit, "{python}", "-c", code, "{out}")
    made = await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)
    folder = artefact_folder(tmp_path / "store", made.artefact)
    found = {path.name: path.lstat() for path in folder.rglob("*")}
    modes = {name: stat.S_IMODE(one.st_mode) for name, one in found.items() if name != "link"}
    assert modes == {"tool": 0o755, "data": 0o644, "hidden": 0o755, "inner": 0o644}
    assert {one.st_uid for one in found.values()} == {os.geteuid()}
    assert (folder / "link").read_text() == "data"


async def test_build_reads_no_process_of_ours(kit: EdgeKit, tmp_path: Path) -> None:
    """What the controller was told is in its own /proc/PID/environ."""
    code = """
import glob, sys
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        if b"sk-ant-seeded" in open(path, "rb").read():
            sys.exit("read the key of " + path)
    except OSError:
        pass
"""
    building(kit, "{python}", "-c", code, "{out}")
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import sys; sys.stdin.read()"),
        stdin=asyncio.subprocess.PIPE,
        env={"ANTHROPIC_API_KEY": "sk-ant-seeded"},
    )
    try:
        assert (await build(kit.service, kit.commit(WELL), tmp_path / "store", BOX)).isolation == BOX.isolation
    finally:
        holder.kill()
        await holder.wait()


async def test_unknown_commit_is_refused(kit: EdgeKit, tmp_path: Path) -> None:
    kit.commit(WELL)
    for commit in ("0" * 40, "main", "--output=/tmp/x"):
        with pytest.raises(Permanent, match="commit"):
            await build(kit.service, Commit(commit), tmp_path / "store", BOX)


@pytest.mark.usefixtures("python")
async def test_link_that_leaves_the_tree_is_refused(kit: EdgeKit, tmp_path: Path) -> None:
    kit.commit(WELL)
    (kit.tree / "passwd").symlink_to("../../../etc/passwd")
    git("add", "-A", cwd=kit.tree)
    git("commit", "-qm", "link", cwd=kit.tree)
    with pytest.raises(Permanent, match="outside its tree"):
        await build(kit.service, Commit(git("rev-parse", "HEAD", cwd=kit.tree)), tmp_path / "store", BOX)


def test_old_artefacts_go_and_used_ones_stay(tmp_path: Path) -> None:
    digests = [Digest(f"sha256:{number:064x}") for number in range(4)]
    for digest in digests:
        artefact_folder(tmp_path, digest).mkdir()
    builds = {f"c{number}": BuildRecord(artefact=digest, duration_ms=1) for number, digest in enumerate(digests)}
    kept = pruned(builds, {digests[0]}, 2, tmp_path)
    assert sorted(kept) == ["c0", "c2", "c3"]
    assert not artefact_folder(tmp_path, digests[1]).exists()
    assert artefact_folder(tmp_path, digests[0]).exists()
