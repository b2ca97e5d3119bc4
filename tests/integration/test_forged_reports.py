"""Nobody passes CI by forging its report: a corpus of changes that try, and what each of them gets."""

from __future__ import annotations

import asyncio
import py_compile
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from forgeries import BASE, FORGERIES, HONEST_FAILURES, PARENTS_PIPE, REFUSED_BEFORE, WRONG
from former_reporter import believed

from controller.adapters import ci_execute
from controller.adapters.ci_execute import Base, CiConfig, Executed, execute
from controller.adapters.ci_verdict import Collected
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
from controller.domain.change import BaseVerdict
from controller.domain.change import Executed as Proof
from controller.domain.ci import clear_name

BEST = asyncio.run(Sandbox.available())[0]
CONFIG = CiConfig(wall_s=6, environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),))
KNOWN = Collected(("test_app.py::test_price", "test_app.py::test_sane", "test_app.py::TestPrice::test_price"))
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
isolated = pytest.mark.skipif(BEST.rung is Rung.PLAIN, reason="needs isolation")


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith(".pyc"):
            right = folder / "right.py"
            right.write_text(BASE["app.py"])
            py_compile.compile(str(right), str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
            right.unlink()
    return folder


async def run_on_base(
    root: Path, head: Mapping[str, str], base: Mapping[str, str] = BASE, config: CiConfig = CONFIG
) -> Executed:
    """The change from `base` to `head`, as CI runs it."""
    root.chmod(0o755)  # noqa: ASYNC240  milliseconds
    before, tree, scratch = (root / name for name in ("base", "tree", "scratch"))
    for folder in (before, tree, scratch):
        folder.mkdir()
    lay_out(before, base)
    lay_out(tree, head)
    return await execute(BEST, tree, config, scratch, lambda _: None, Base(before, KNOWN if base is BASE else None))


def yama() -> bool:
    """The kernel itself lets no process look into one that is not below it."""
    return YAMA.exists() and YAMA.read_text().strip() != "0"


def deserves_green(run: Executed) -> bool:
    """Nothing in the run's facts asks for a person: what the colour's rules look at."""
    facts = run.facts
    assert facts is not None
    clean = not (facts.vanished or facts.newly_skipped or facts.base_failed) and facts.tripwire is True
    proven = facts.base_verdict in {BaseVerdict.PASSED, BaseVerdict.NOT_RUN} and facts.executed is Proof.PROVEN
    return run.state == "passed" and clean and proven


@isolated
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_no_forgery_gets_a_pass_that_it_does_not_deserve(tmp_path: Path, forgery: str) -> None:
    run = await run_on_base(tmp_path, {**BASE, **FORGERIES[forgery]})
    assert not deserves_green(run), run
    facts = run.facts
    assert facts is not None
    seen = {*facts.base_failed, *(clear_name(line.test) for line in run.tests if not line.passed)}
    told = run.forged or run.state != "passed" or facts.vanished or facts.newly_skipped or seen
    assert told, run


@isolated
async def test_honest_change_beside_them_passes_with_every_proof(tmp_path: Path) -> None:
    better = {"app.py": "def price():\n    return 3 - 2\n"}
    run = await run_on_base(tmp_path, {**BASE, **better})
    assert deserves_green(run), run
    assert run.facts is not None
    assert (run.facts.collected_base, run.facts.collected, run.facts.ran) == (3, 3, 3)
    assert (run.facts.lines_changed, run.facts.lines_covered) == (1, 1)


@isolated
async def test_honest_failure_names_its_tests(tmp_path: Path) -> None:
    run = await run_on_base(tmp_path, {**BASE, "app.py": WRONG})
    assert (run.state, run.forged) == ("failed", False)
    assert {line.test for line in run.tests if not line.passed} == HONEST_FAILURES


@isolated
@pytest.mark.parametrize("forgery", sorted(set(FORGERIES) - REFUSED_BEFORE))
async def test_the_former_reporter_believed_it(tmp_path: Path, forgery: str) -> None:
    tmp_path.chmod(0o755)  # noqa: ASYNC240
    assert await believed(BEST, lay_out(tmp_path, {**BASE, **FORGERIES[forgery]}))


NO_WIRES = [
    ("ci_answers.py", "WIRES_START_S, WIRES_SHARE = 0.03, 0.03", "WIRES_START_S, WIRES_SHARE = 0.0, 0.0"),
    ("ci_pytest_plugin.py", "self.put_at_the_end(session, [self.last])", "self.end_wires = {}"),
]
NO_TURNED = [("ci_answers.py", "        if turned:", "        if False:")]
WITHOUT: dict[str, tuple[list[tuple[str, str, str]], Mapping[str, str]]] = {
    "the parent out of reach": (
        [("ci_driver.py", "    protect(dumpable=False)", "    ci_grounds = None")],
        {"app.py": WRONG + PARENTS_PIPE},
    ),
    "tripwires": (NO_WIRES, FORGERIES["patches what makes reports, for its own tests only"]),
    "tripwires at the end": (NO_WIRES, FORGERIES["patches when it is called"]),
    "reports held against what was raised": (
        [*NO_WIRES, *NO_TURNED],
        FORGERIES["a hook makes reports green"],
    ),
    "reports of tests that were called": (NO_TURNED, FORGERIES["a protocol that the code registers"]),
    "no compiled code": (
        [("ci_driver.py", "        without_bytecode(os.getcwd())", "        pass")],
        FORGERIES["compiled code in place of the source"],
    ),
    "objects that equal everything": (
        [("ci_watch.py", '"equal": self.equal()', '"equal": []')],
        FORGERIES["equals everything"],
    ),
}


@isolated
@pytest.mark.parametrize("defence", WITHOUT)
async def test_each_defence_is_what_keeps_its_attack_out(
    tmp_path: Path, defence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaker, files = WITHOUT[defence]
    (tmp_path / "with").mkdir()
    run = await run_on_base(tmp_path / "with", {**BASE, **files})
    assert run.state != "passed", run
    if defence == "the parent out of reach" and yama():
        pytest.skip("this kernel lets no process take another's files, defended or not")
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ci_execute.DRIVER:
        shutil.copy(ci_execute.SCRIPTS / f"{name}.py", scripts)
    for name, old, new in weaker:
        text = (scripts / name).read_text()
        assert old in text, (name, old)
        (scripts / name).write_text(text.replace(old, new))
    monkeypatch.setattr(ci_execute, "SCRIPTS", scripts)
    (tmp_path / "without").mkdir()
    run = await run_on_base(tmp_path / "without", {**BASE, **files})
    assert run.state == "passed", run
