"""What a run finds out beside its verdict: the base's tests on the head, tests gone and skipped, the code that ran."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from test_forged_reports import BEST, CONFIG, lay_out

from controller.adapters.ci_execute import Base, CiConfig, Executed, execute
from controller.adapters.ci_results import RunState
from controller.adapters.ci_verdict import Collected
from controller.domain.change import BaseVerdict
from controller.domain.change import Executed as Proof
from controller.domain.ci import clear_name

LONGER = replace(CONFIG, wall_s=60)
SHOP = {
    "shop.py": "def price():\n    return 1\n",
    "test_shop.py": "import shop\n\n\ndef test_price():\n    assert shop.price() == 1\n",
    "test_other.py": "import pytest\n\n\ndef test_other():\n    pass\n\n\n"
    "def test_host():\n    pytest.skip('no host')\n",
}
TESTS = ("test_other.py::test_host", "test_other.py::test_other", "test_shop.py::test_price")
KNOWN = Collected(TESTS, ("test_other.py::test_host",))
CHANGED = {"shop.py": "def price():\n    return 2\n"}


async def compared(
    root: Path,
    change: Mapping[str, str | None],
    base: Mapping[str, str] = SHOP,
    known: Collected | None = KNOWN,
    config: CiConfig = LONGER,
) -> Executed:
    """A run of the base with the change on it; None: the file is gone."""
    head = {name: text for name, text in {**base, **change}.items() if text is not None}
    return await asyncio.wait_for(_run(root, head, base, known, config), 120)


async def _run(
    root: Path, head: Mapping[str, str], base: Mapping[str, str], known: Collected | None, config: CiConfig
) -> Executed:
    root.chmod(0o755)  # noqa: ASYNC240  milliseconds
    folders = [root / name for name in ("base", "tree", "scratch")]
    for folder in folders:
        folder.mkdir()
    before, tree, scratch = folders
    lay_out(before, base)
    lay_out(tree, head)
    return await execute(BEST, tree, config, scratch, lambda _: None, Base(before, known))


def found(run: Executed) -> tuple[BaseVerdict, tuple[str, ...]]:
    assert run.facts is not None
    return run.facts.base_verdict, run.facts.base_failed


async def test_change_of_code_alone_runs_the_tests_once(tmp_path: Path) -> None:
    run = await compared(tmp_path, {"shop.py": "def price():\n    return 3 - 2\n"})
    assert (run.state, found(run)) == (RunState.PASSED, (BaseVerdict.NOT_RUN, ()))
    assert run.output.count("test session starts") == 1
    assert run.facts is not None
    assert (run.facts.collected_base, run.facts.collected, run.facts.ran, run.facts.skipped) == (3, 3, 2, 1)
    assert (run.facts.vanished, run.facts.added, run.facts.newly_skipped) == ((), (), ())
    assert (run.facts.executed, run.facts.tripwire) == (Proof.PROVEN, True)


async def test_test_weakened_with_the_code_fails_as_the_base_has_it(tmp_path: Path) -> None:
    weaker = {"test_shop.py": SHOP["test_shop.py"].replace("== 1", "== 2")}
    run = await compared(tmp_path, {**CHANGED, **weaker})
    assert run.state is RunState.PASSED
    assert found(run) == (BaseVerdict.FAILED, (clear_name("test_shop.py::test_price"),))
    assert run.names == ("test_shop.py::test_price",)


async def test_added_test_costs_its_own_run_and_no_other(tmp_path: Path) -> None:
    run = await compared(tmp_path, {"test_new.py": "import shop\n\n\ndef test_new():\n    assert shop.price()\n"})
    assert (run.state, found(run)) == (RunState.PASSED, (BaseVerdict.PASSED, ()))
    assert sorted(line.test for line in run.tests) == sorted([*TESTS, "test_new.py::test_new"])
    assert run.output.count("collected 3 items") == 1
    assert run.output.count("collected 1 item\n") == 1
    assert run.facts is not None
    assert run.facts.added == (clear_name("test_new.py::test_new"),)


BEHIND = {
    **SHOP,
    "test_shop.py": "import shop\n\n\ndef test_price():\n    shop.left = True\n    assert shop.price() == 1\n",
}


async def test_own_tests_run_behind_the_bases_where_the_code_is_imported_already(tmp_path: Path) -> None:
    new = "import shop\n\n\ndef test_new():\n    assert shop.left\n"
    run = await compared(tmp_path, {"test_new.py": new}, BEHIND)
    assert (run.state, found(run)) == (RunState.PASSED, (BaseVerdict.PASSED, ())), run.output
    assert len(run.tests) == 4


async def test_own_tests_that_fail_behind_the_bases_have_a_process_of_their_own(tmp_path: Path) -> None:
    """What the base's tests have left in the code is nobody's reason to fail."""
    new = "import shop\n\n\ndef test_new():\n    assert not hasattr(shop, 'left')\n"
    run = await compared(tmp_path, {"test_new.py": new}, BEHIND)
    assert (run.state, found(run)) == (RunState.PASSED, (BaseVerdict.PASSED, ())), run.output
    assert [line.test for line in run.tests].count("test_new.py::test_new") == 1


async def test_edited_module_is_the_heads_behind_the_bases(tmp_path: Path) -> None:
    """Of the same size and time as the base's, with a fixture that is gone: nothing of it is left."""
    tests = "import pytest\n\n\n@pytest.fixture(autouse=True)\ndef one():\n    return 1\n\n\n"
    tests += "def test_price(one):\n    assert one == 1\n"
    base = {**SHOP, "test_shop.py": tests}
    wrong = await compared(tmp_path, {**CHANGED, "test_shop.py": tests.replace("one == 1", "one == 2")}, base)
    assert (wrong.state, found(wrong)) == (RunState.FAILED, (BaseVerdict.PASSED, ()))
    assert [line.test for line in wrong.tests if not line.passed] == ["test_shop.py::test_price"]
    (tmp_path / "gone").mkdir()
    gone = tests.replace("@pytest.fixture(autouse=True)\ndef one", "def two")
    missing = await compared(tmp_path / "gone", {**CHANGED, "test_shop.py": gone}, base)
    assert (missing.state, found(missing)) == (RunState.FAILED, (BaseVerdict.PASSED, ()))


async def test_run_whose_parent_is_killed_before_the_heads_own_tests_passes_nothing(tmp_path: Path) -> None:
    kills = "import atexit, os\natexit.register(os.kill, os.getppid(), 9)\n\n\ndef price():\n    return 1\n"
    new = "import shop\n\n\ndef test_new():\n    assert shop.price() == 2\n"
    run = await compared(tmp_path, {"shop.py": kills, "test_new.py": new})
    assert run.state is RunState.BROKEN


async def test_deleted_test_still_runs_and_is_missed(tmp_path: Path) -> None:
    run = await compared(tmp_path, {**CHANGED, "test_shop.py": None})
    assert run.state is RunState.PASSED
    assert found(run) == (BaseVerdict.FAILED, (clear_name("test_shop.py::test_price"),))
    assert run.facts is not None
    assert run.facts.vanished == (clear_name("test_shop.py::test_price"),)
    assert [line.test for line in run.tests] == ["test_other.py::test_other", "test_other.py::test_host"]


async def test_code_removed_with_its_tests_fails_those_alone(tmp_path: Path) -> None:
    """As a revert does: the base's test module cannot even be imported, and all others are run."""
    base = {
        **SHOP,
        "loyalty.py": "def tier():\n    return 1\n",
        "test_loyalty.py": "import loyalty\n\n\ndef test_tier():\n    assert loyalty.tier() == 1\n",
    }
    known = Collected((*TESTS, "test_loyalty.py::test_tier"), KNOWN.skipped)
    gone = {"shop.py": "def price():\n    return 2 - 1\n", "loyalty.py": None, "test_loyalty.py": None}
    run = await compared(tmp_path, gone, base, known)
    assert (run.state, run.reason, found(run)) == (
        RunState.PASSED,
        "",
        (BaseVerdict.FAILED, (clear_name("test_loyalty.py"),)),
    )
    assert run.facts is not None
    assert (run.facts.ran, run.facts.executed, run.facts.tripwire) == (2, Proof.PROVEN, True)
    assert run.facts.vanished == (clear_name("test_loyalty.py::test_tier"),)


async def test_module_of_both_that_cannot_be_collected_fails_the_head(tmp_path: Path) -> None:
    broken = {"shop.py": "def cost():\n    return 1\n", "test_new.py": "def test_new():\n    pass\n"}
    base = {**SHOP, "test_shop.py": "from shop import price\n\n\ndef test_price():\n    assert price() == 1\n"}
    run = await compared(tmp_path, broken, base)
    assert (run.state, found(run)) == (RunState.FAILED, (BaseVerdict.FAILED, (clear_name("test_shop.py"),)))
    assert [line.test for line in run.tests if not line.passed] == ["test_shop.py"]


async def test_module_of_the_base_that_lost_what_it_imports_is_one_failure_and_the_others_run(tmp_path: Path) -> None:
    base = {
        **SHOP,
        "gift.py": "def wrap(n):\n    return n\n",
        "test_gift.py": "import pytest\nfrom gift import wrap\n\n\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_wrap(n):\n    assert wrap(n) == n\n",
    }
    known = Collected((*TESTS, "test_gift.py::test_wrap[1]", "test_gift.py::test_wrap[2]"), KNOWN.skipped)
    run = await compared(tmp_path, {"gift.py": None, "test_gift.py": None}, base, known)
    assert run.state is RunState.PASSED, run.reason
    assert found(run) == (BaseVerdict.FAILED, (clear_name("test_gift.py"),))
    assert run.facts is not None
    assert (run.facts.ran, len(run.facts.vanished)) == (2, 2)
    assert run.facts.vanished_tests == (clear_name("test_gift.py::test_wrap"),)


async def test_configuration_of_tests_is_the_bases_in_its_own_verdict(tmp_path: Path) -> None:
    run = await compared(tmp_path, {**CHANGED, "conftest.py": "collect_ignore = ['test_shop.py']\n"})
    assert (run.state, found(run)[0]) == (RunState.PASSED, BaseVerdict.FAILED)
    assert run.facts is not None
    assert run.facts.vanished == (clear_name("test_shop.py::test_price"),)


async def test_settings_of_something_else_in_the_same_file_are_no_test_configuration(tmp_path: Path) -> None:
    base = {**SHOP, "pyproject.toml": "[project]\nname = 'shop'\nversion = '1'\n[tool.pytest.ini_options]\n"}
    newer = {"pyproject.toml": base["pyproject.toml"].replace("'1'", "'2'")}
    run = await compared(tmp_path, newer, base)
    assert found(run) == (BaseVerdict.NOT_RUN, ())


async def test_base_that_nobody_has_tested_is_listed_and_its_skipped_tests_are_known(tmp_path: Path) -> None:
    base = {**SHOP, "test_shop.py": SHOP["test_shop.py"] + "\n\ndef test_sign():\n    assert shop.price() > 0\n"}
    skipping = {"shop.py": "import pytest\n\n\ndef price():\n    pytest.skip('later')\n"}
    run = await compared(tmp_path, skipping, base, known=None)
    assert run.facts is not None
    assert (run.facts.collected_base, run.facts.collected, run.facts.skipped) == (4, 4, 3)
    switched_off = {clear_name("test_shop.py::test_price"), clear_name("test_shop.py::test_sign")}
    assert set(run.facts.newly_skipped) == switched_off, "the one that the base skips too is not among them"


async def test_changed_file_that_no_test_runs_is_named(tmp_path: Path) -> None:
    run = await compared(tmp_path, {"unused.py": "def idle():\n    return 1\n"})
    assert run.facts is not None
    assert (run.state, run.facts.executed) == (RunState.PASSED, Proof.NOT_EXECUTED)
    assert run.facts.not_executed == ("unused.py",)
    assert (run.facts.lines_changed, run.facts.lines_covered) == (2, 0)


async def test_lines_that_no_test_reaches_are_counted(tmp_path: Path) -> None:
    more = "def price():\n    if False:\n        return 5\n    return 1\n\n\n# a comment\n"
    run = await compared(tmp_path, {"shop.py": more})
    assert run.facts is not None
    assert (run.facts.executed, run.facts.lines_changed, run.facts.lines_covered) == (Proof.PROVEN, 2, 1)


async def test_change_without_python_has_nothing_to_run(tmp_path: Path) -> None:
    run = await compared(tmp_path, {"notes.md": "more\n"})
    assert run.facts is not None
    assert run.facts.executed is Proof.NOTHING_TO_RUN


async def test_what_is_asked_of_a_whole_run_is_asked_of_the_whole_run(tmp_path: Path) -> None:
    """A share of covered lines, for example: neither the base's tests nor the new one alone reach it."""
    asks = "def pytest_sessionfinish(session):\n    if session.testscollected < 4:\n        session.exitstatus = 1\n"
    base = {**SHOP, "conftest.py": asks}
    run = await compared(tmp_path, {"test_new.py": "def test_new():\n    pass\n"}, base)
    assert (run.state, found(run)) == (RunState.PASSED, (BaseVerdict.PASSED, ()))
    assert len(run.tests) == 4
    (tmp_path / "less").mkdir()
    less = await compared(tmp_path / "less", {"test_shop.py": None}, base)
    assert (less.state, "without a failing test" in less.reason) == (RunState.FAILED, True)


async def test_base_whose_tests_cannot_run_on_the_head_is_broken_and_no_reason_to_fail(tmp_path: Path) -> None:
    base = {**SHOP, "conftest.py": "import shop\nshop.price\n"}
    renamed = {"shop.py": "def cost():\n    return 1\n", "conftest.py": "import shop\nshop.cost\n"}
    renamed["test_shop.py"] = "import shop\n\n\ndef test_cost():\n    assert shop.cost() == 1\n"
    run = await compared(tmp_path, renamed, base)
    assert (run.state, found(run)[0]) == (RunState.PASSED, BaseVerdict.BROKEN)


async def test_process_that_one_session_leaves_is_gone_in_the_next(tmp_path: Path) -> None:
    """A daemon of the code under test that rewrites the head's tests as soon as they are laid out."""
    daemon = (
        "import os, pathlib, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork():\n        os._exit(0)\n"
        "    while True:\n        pathlib.Path('/tmp/alive').write_text('x')\n"
        "        pathlib.Path('test_shop.py').write_text('def test_price(): pass')\n"
    )
    checks = "import pathlib, time, shop\n\n\ndef test_price():\n    time.sleep(0.3)\n"
    checks += "    assert 'sleep' in pathlib.Path('test_shop.py').read_text()\n    assert shop.price() == 2\n"
    daemon += "def price():\n    return 2\n"
    once = daemon.replace("if os.fork() == 0", "if not os.path.exists('conftest.py') and os.fork() == 0")
    run = await compared(tmp_path, {"shop.py": once, "test_shop.py": checks, "conftest.py": ""})
    assert run.state is RunState.PASSED, run.output


# --- the copy that is tested is the copy that was changed -------------------------------------------------------------

PACKAGE = {
    "pyproject.toml": "[project]\nname = 'parcel'\nversion = '1'\n",
    "src/parcel/__init__.py": "def post():\n    return 'posted'\n",
    "tests/test_parcel.py": "import parcel\n\n\ndef test_post():\n    assert parcel.post() == 'posted'\n",
}
RAISES = {"src/parcel/__init__.py": "def post():\n    raise RuntimeError('broken')\n"}
PARCEL = Collected(("tests/test_parcel.py::test_post",))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter whose environment has pytest and a plain install of the package, as `pip install .` leaves it."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    place = next(venv.glob("lib/python*/site-packages"))
    ours = Path(sysconfig.get_paths()["purelib"])
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        shutil.copytree(ours / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for info in ours.glob("pluggy-*.dist-info"):
        shutil.copytree(info, place / info.name)
    shutil.copy(ours / "py.py", place)
    lay_out(place, {"parcel/__init__.py": PACKAGE["src/parcel/__init__.py"]})
    for folder in (venv.parent, venv):
        folder.chmod(0o755)
    return str(venv / "bin" / "python")


async def test_change_of_a_src_project_is_what_its_tests_run_whatever_is_installed(
    tmp_path: Path, installed: str
) -> None:
    run = await compared(tmp_path, RAISES, PACKAGE, PARCEL, replace(LONGER, python=installed))
    assert run.state is RunState.FAILED, run
    (tmp_path / "good").mkdir()
    good = {"src/parcel/__init__.py": "def post():\n    return 'pos' + 'ted'\n"}
    run = await compared(tmp_path / "good", good, PACKAGE, PARCEL, replace(LONGER, python=installed))
    assert run.facts is not None
    assert (run.state, run.facts.executed, run.facts.lines_covered) == (RunState.PASSED, Proof.PROVEN, 1)


async def test_tests_that_import_an_installed_copy_give_no_verdict(tmp_path: Path, installed: str) -> None:
    first = "import sys, sysconfig\nsys.path.insert(0, sysconfig.get_paths()['purelib'])\n"
    run = await compared(tmp_path, RAISES, {**PACKAGE, "conftest.py": first}, PARCEL, replace(LONGER, python=installed))
    assert run.facts is not None
    assert (run.state, run.facts.executed) == (RunState.BROKEN, Proof.OTHER_COPY)
    assert run.reason.startswith("ci/other-copy: the tests imported another copy of src/parcel/__init__.py")
    assert "pip install -e ." in run.reason


async def test_command_that_is_not_pytest_says_that_nothing_was_measured(tmp_path: Path) -> None:
    run = await compared(tmp_path, CHANGED, config=replace(LONGER, command=("true",)))
    assert run.facts is not None
    assert (run.state, run.facts.executed, run.facts.tripwire) == (RunState.PASSED, Proof.NOT_MEASURED, None)
