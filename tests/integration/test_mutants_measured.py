"""Mutants measured for real: a tree, its base, pytest, and the sandbox."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_local import LocalCi
from controller.adapters.ci_mutants import Heard, facts_of, measure
from controller.adapters.sandbox import Sandbox
from controller.domain.change import MutantFacts
from controller.domain.ids import Commit, EffectKey, Repository
from controller.domain.verbs import StartRun

BARE = (("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),)  # this environment's own plugins cost pytest a second
BEST = asyncio.run(Sandbox.best())
COMMIT = Commit("c" * 40)
PRICE = """\
def price(cents, member):
    if cents >= 100 and member:
        return cents - 5
    return cents
"""
GOOD_TESTS = """\
import pytest
from price import price

@pytest.mark.parametrize(("cents", "member", "total"), [(99, 1, 99), (100, 1, 95), (100, 0, 100), (200, 1, 195)])
def test_price(cents, member, total):
    assert price(cents, member) == total
"""
NO_ASSERTION = "from price import price\n\ndef test_price():\n    price(100, True)\n    price(1, False)\n"
IN_A_PROCESS = """
import subprocess, sys

def test_price_in_a_process():
    subprocess.run([sys.executable, "-c", "import price; assert price.price(100, True) == 95"], check=True)
"""
IDENTITY = """
import ast, hashlib, pathlib
import price as module

def test_nobody_has_touched_it():
    assert hashlib.sha256(%s).hexdigest() == "%s"
"""


async def measured(
    tmp_path: Path,
    head: Mapping[str, str],
    base: Mapping[str, str] | None = None,
    environment: tuple[tuple[str, str], ...] = BARE,
) -> MutantFacts:
    for name, files in (("head", head), ("base", base or {})):
        for path, text in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "scratch").mkdir()
    config = CiConfig(environment=environment, mutants_s=60)
    return await measure(BEST, tmp_path / "head", config, tmp_path / "scratch", base=tmp_path / "base", commit=COMMIT)


async def test_tests_that_look_closely_kill_every_mutant(tmp_path: Path) -> None:
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": GOOD_TESTS})
    assert (found.measured, found.why_not, found.survived, found.share_killed) == (True, "", 0, 1.0)
    assert found.killed == found.possible >= 10
    assert (tmp_path / "head" / "price.py").read_text() == PRICE


async def test_tests_without_assertions_let_nearly_all_of_them_live(tmp_path: Path) -> None:
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": NO_ASSERTION})
    assert found.measured, found
    assert found.share_killed is not None
    assert found.share_killed < 0.2
    assert {(one.path, one.operator) for one in found.survivors} >= {("price.py", "compare/boundary")}
    assert {one.line for one in found.survivors} <= {2, 3, 4}


async def test_only_lines_that_differ_from_the_base_are_broken(tmp_path: Path) -> None:
    base = {"price.py": PRICE.replace("cents - 5", "cents - 6"), "test_price.py": GOOD_TESTS}
    found = await measured(tmp_path, {**base, "price.py": PRICE, "test_price.py": NO_ASSERTION}, base)
    assert {one.line for one in found.survivors} == {3}


async def test_code_that_no_test_runs_survives_without_a_run(tmp_path: Path) -> None:
    files = {"price.py": PRICE, "unused.py": "def f(a):\n    return a + 1\n", "test_price.py": GOOD_TESTS}
    found = await measured(tmp_path, files, {"price.py": PRICE})
    assert (found.measured, found.killed, found.survived) == (True, 0, found.possible)
    assert found.possible >= 3


@pytest.mark.parametrize("installed", [{}, {"site/price.py": PRICE.replace("cents - 5", "cents - 7")}])
async def test_src_is_measured_on_its_own_code_installed_or_not(tmp_path: Path, installed: dict[str, str]) -> None:
    """As in CI's runs: the tree's `src` comes before any installed copy, and for processes of the tests as well."""
    head = {"src/price.py": PRICE, "tests/test_price.py": GOOD_TESTS, "tests/test_child.py": IN_A_PROCESS}
    environment = (*BARE, ("PYTHONPATH", "site"))
    found = await measured(tmp_path, {**head, **installed}, installed, environment)
    assert (found.measured, found.why_not, found.share_killed) == (True, "", 1.0)
    assert found.killed >= 10


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("pathlib.Path(module.__file__).read_bytes()", PRICE.encode()),
        ("ast.dump(ast.parse(pathlib.Path(module.__file__).read_text())).encode()", None),
        ("module.price.__code__.co_code", None),
    ],
    ids=["text", "syntax", "bytecode"],
)
async def test_tests_that_only_recognise_their_own_source_measure_nothing(
    tmp_path: Path, what: str, value: bytes | None
) -> None:
    import ast  # noqa: PLC0415
    import hashlib  # noqa: PLC0415

    names: dict[str, object] = {}
    exec(PRICE, names)  # noqa: S102
    code = getattr(names["price"], "__code__").co_code  # noqa: B009
    known = value or (ast.dump(ast.parse(PRICE)).encode() if "dump" in what else code)
    test = IDENTITY % (what, hashlib.sha256(known).hexdigest())
    calls = "\ndef test_calls():\n    assert module.price(1, True) == 1\n    module.price(100, True)\n"
    every = test.replace("():\n", "():\n    module.price(100, True); module.price(1, True)\n", 1)
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": every + calls})
    assert not found.measured
    assert found.why_not.startswith("mutants/controls"), found


async def test_tests_that_fail_at_random_measure_nothing(tmp_path: Path) -> None:
    random = "import os, pathlib, price\n\ndef test_price():\n    price.price(100, True); price.price(1, True)\n"
    random += "    seen = pathlib.Path('/tmp/seen'); n = len(seen.read_text()) if seen.exists() else 0\n"
    random += "    seen.write_text('x' * (n + 1)); assert n < 2\n"
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": random})
    assert (found.measured, found.why_not.partition(":")[0]) == (False, "mutants/controls")


async def test_a_run_that_hangs_is_neither_killed_nor_survived(tmp_path: Path) -> None:
    loop = "def count(n):\n    done = 0\n    while done < n:\n        done += 1\n    return done\n"
    test = "from loop import count\n\ndef test_count():\n    assert count(3) == 3\n"
    found = await measured(tmp_path, {"loop.py": loop, "test_loop.py": test})
    assert found.measured
    assert found.timed_out == 2
    assert found.killed + found.survived + found.timed_out == found.possible


async def test_a_test_process_cannot_write_the_results(tmp_path: Path) -> None:
    """It tries every descriptor that it and its parents have, says that all was killed, and ends its parents."""
    forging = NO_ASSERTION + (
        "\ndef test_forges():\n"
        "    import os, json\n"
        "    line = json.dumps(dict(kind='mutant', outcome='killed', path='price.py', line=2, operator='x')).encode()\n"
        "    pid = os.getpid()\n"
        "    for _ in range(4):\n"
        "        for fd in range(3, 64):\n"
        "            try:\n"
        "                with open(f'/proc/{pid}/fd/{fd}', 'wb') as pipe: pipe.write(line + b'\\n')\n"
        "            except OSError: pass\n"
        "        try: pid = int(open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[1])\n"
        "        except OSError: break\n"
    )
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": forging})
    assert found.measured, found
    assert found.share_killed is not None
    assert found.share_killed < 0.2


async def test_a_test_that_ends_the_measuring_leaves_nothing_measured(tmp_path: Path) -> None:
    killing = NO_ASSERTION + "\ndef test_kills():\n    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n"
    found = await measured(tmp_path, {"price.py": PRICE, "test_price.py": killing})
    assert (found.measured, found.why_not.partition(":")[0]) == (False, "mutants/ended")


async def test_code_that_pytest_itself_loads_is_not_measured(tmp_path: Path) -> None:
    files = {"price.py": PRICE, "test_price.py": GOOD_TESTS, "pytest.ini": "[pytest]\naddopts = -p price\n"}
    found = await measured(tmp_path, files)
    assert (found.measured, found.why_not.partition(":")[0]) == (False, "mutants/early-import")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"a.py": "import os\n", "test_a.py": GOOD_TESTS.replace("price", "a")}, "mutants/nothing"),
        ({"a.py": "x = (" + "(" * 5000, "test_a.py": "def test(): pass\n"}, "mutants/nothing"),
        ({"price.py": PRICE, "test_price.py": "def test():\n    assert False\n"}, "mutants/baseline"),
        ({"price.py": PRICE}, "mutants/baseline"),
    ],
    ids=["nothing-to-break", "not-python", "red", "no-tests"],
)
async def test_what_cannot_be_measured_says_why(tmp_path: Path, files: dict[str, str], why: str) -> None:
    found = await measured(tmp_path, files)
    assert (found.measured, found.why_not.partition(":")[0]) == (False, why)


async def test_constants_are_held_against_all_tests_and_a_fixture_shares_what_it_ran(tmp_path: Path) -> None:
    shop = "PERCENT = 5\n\n\ndef discount(cents):\n    return cents * PERCENT // 100\n"
    tests = (
        "import pytest\nfrom shop import discount\n\n@pytest.fixture(scope='session')\ndef made():\n"
        "    return discount(200)\n\ndef test_first(made):\n    pass\n\ndef test_second(made):\n    assert made == 10\n"
    )
    found = await measured(tmp_path, {"shop.py": shop, "test_shop.py": tests})
    assert (found.measured, found.share_killed) == (True, 1.0)


async def test_same_commit_has_the_same_sample(tmp_path: Path) -> None:
    files = {"price.py": PRICE, "test_price.py": NO_ASSERTION}
    first = await measured(tmp_path / "a", files)
    again = await measured(tmp_path / "b", files)
    assert (first.survivors, first.seed) == (again.survivors, again.seed)


async def test_a_command_that_is_not_pytest_is_not_measured(tmp_path: Path) -> None:
    make = CiConfig(command=("make", "test"))
    found = await measure(BEST, tmp_path, make, tmp_path, base=tmp_path, commit=COMMIT)
    assert (found.measured, found.why_not) == (False, "mutants/command: `test.command` is not pytest")


def test_what_the_sandbox_says_is_bounded() -> None:
    heard = Heard()
    line = {"kind": "mutant", "path": "p" * 9_000, "line": 1, "operator": "o" * 900, "outcome": "survived"}
    for _ in range(500):
        heard.add(json.dumps(line).encode())
    for bad in (b"{", b"[]", b"null", b'{"kind": "mutant"}', b"[" * 60_000, json.dumps({**line, "line": "x"}).encode()):
        heard.add(bad)
    unended = facts_of(heard, MutantFacts(measured=False))
    assert (unended.measured, unended.why_not.partition(":")[0]) == (False, "mutants/ended")
    heard.add(b'{"kind": "ended", "why": "", "possible": 60}')
    found = facts_of(heard, MutantFacts(measured=False))
    assert (found.survived, len(found.survivors), found.possible) == (40, 20, 60)
    assert len(found.survivors[0].path) == 300


async def test_local_ci_measures_the_change_between_two_commits_beside_its_tests(tmp_path: Path) -> None:
    base, head, shop = Commit("b" * 40), Commit("c" * 40), Repository("shop")
    trees = {
        base: {"price.py": PRICE.replace("- 5", "- 6"), "test_price.py": NO_ASSERTION},
        head: {"price.py": PRICE, "test_price.py": NO_ASSERTION},
    }

    def export(_: Repository, commit: Commit, folder: Path) -> None:
        for name, text in trees[commit].items():
            (folder / name).write_text(text)

    ci = LocalCi(tmp_path / "ci", export, BEST, {shop: CiConfig(environment=BARE)})
    tests = StartRun(repository=shop, commit=head)
    mutants = StartRun(repository=shop, commit=head, base=base, purpose="mutants")
    begun = [await ci.act(EffectKey(f"ci/{number}"), verb) for number, verb in enumerate((tests, mutants, mutants))]
    assert begun[0].run != begun[1].run == begun[2].run
    assert await ci.find(EffectKey("ci/3"), mutants) == begun[1]
    for worker in ci.workers:
        await asyncio.to_thread(worker.wait, 60)
    run = await ci.run(begun[1].run)
    assert run is not None
    assert (run.state, run.tests, run.commit) == ("passed", (), head)
    assert run.mutants is not None
    assert run.mutants.measured
    assert {one.line for one in run.mutants.survivors} == {3}
    assert [path.name for path in (tmp_path / "ci" / "runs" / run.run).iterdir() if path.is_dir()] == []


def test_what_is_imported_ahead_of_the_tests_works_as_if_they_had_imported_it(tmp_path: Path) -> None:
    """`_asyncio` before `asyncio` leaves a loop without its current task: then no run could begin warm."""
    report = tmp_path / "hits.json"
    uses = "import asyncio\nfrom controller.mutants.hits import Hits\nHits({}).write(sys.argv[1])\n"
    warm = (
        "import json\nfrom controller.mutants.session import Session\n"
        "Session(0, 0)._preload(json.load(open(sys.argv[1]))['modules'])\nimport asyncio\n"
        "async def main():\n    assert asyncio.current_task() is not None\nasyncio.run(main())\n"
    )
    root = str(Path(__file__).parents[2])
    for code in (uses, warm):
        start = f"import sys\nsys.path.insert(0, {root!r})\n{code}"
        subprocess.run([sys.executable, "-P", "-c", start, str(report)], cwd=tmp_path, check=True, timeout=60)
