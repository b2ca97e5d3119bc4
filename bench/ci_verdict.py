"""What CI's second verdict, tripwires and watching cost: one run as it is, beside pytest alone in the same sandbox.

    PYTHONPATH=. .venv/bin/python bench/ci_verdict.py [--rounds 5]

Three changes of two suites (the example shop's, and 300 tests of a made-up project): of code alone, of code with a new
test module, of code with a test module edited. The base's tests are known from its own run, as they are from the second
delivery on. Rounds alternate, and the ratios are those of the medians: other work on the machine hits both. Both run
without isolation, so that the kernel counts the CPU time of all that they start, and the sandbox's own start, which is
the same for both, makes no ratio smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from controller.adapters.ci_execute import Base, CiConfig, execute
from controller.adapters.ci_results import RunState
from controller.adapters.ci_verdict import Collected
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Limits, Rung

SHOP = Path(__file__).parents[1] / "examples" / "shop"
BARE = (("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),)
FILES, TESTS = 30, 10
LIMIT_PERCENT = 20


def made_up(tree: Path) -> None:
    """300 tests of 5 to 15 ms each."""
    lines = [
        f"def f{n}(x):\n    t = 0\n    for k in range({60_000 + 6_000 * n}):\n        t += k * x\n    return t\n"
        for n in range(10)
    ]
    (tree / "lib.py").write_text("\n".join(lines))
    for number in range(FILES):
        body = "".join(f"def test_{n}():\n    assert lib.f{n}(0) == 0\n\n" for n in range(TESTS))
        (tree / f"test_{number}.py").write_text(f"import lib\n\n\n{body}")


def shop(tree: Path) -> None:
    shutil.copytree(SHOP, tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def code(tree: Path, file: str) -> None:
    with (tree / file).open("a") as source:
        source.write("\n\ndef added(x):\n    return x\n")


def with_new_test(tree: Path, file: str) -> None:
    code(tree, file)
    name = "test_added.py" if file == "lib.py" else "tests/test_added.py"
    (tree / name).write_text("def test_added():\n    assert True\n")


def with_edited_test(tree: Path, file: str) -> None:
    code(tree, file)
    name = "test_3.py" if file == "lib.py" else "tests/test_cart.py"
    with (tree / name).open("a") as tests:
        tests.write("\n\ndef test_added():\n    assert True\n")


SUITES: dict[str, tuple[Callable[[Path], None], str]] = {
    "shop": (shop, "shop/pricing.py"),
    "300 tests": (made_up, "lib.py"),
}
CHANGES = {"code": code, "code, new test module": with_new_test, "code, test module edited": with_edited_test}


async def plain(sandbox: Sandbox, base: Path, head: Path, scratch: Path) -> None:
    """pytest by itself, with its output thrown away: less than CI has ever done."""
    del base, scratch
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    ran = await sandbox.run(command, tree=head, env=dict(BARE), limits=Limits(wall_s=120))
    assert ran.exit_code == 0, ran.output


async def ours(sandbox: Sandbox, base: Path, head: Path, scratch: Path) -> None:
    known = Collected(("known",))
    config = CiConfig(wall_s=120, environment=BARE)
    run = await execute(sandbox, head, config, scratch, lambda _: None, Base(base, known))
    assert run.state is RunState.PASSED, (run.reason, run.output)


async def timed(way: Callable[..., object], sandbox: Sandbox, suite: str, change: str) -> tuple[float, float]:
    """Seconds of wall and of CPU."""
    make, file = SUITES[suite]
    with tempfile.TemporaryDirectory(prefix="flyball-bench-", ignore_cleanup_errors=True) as folder:
        base, head, scratch = (Path(folder, name) for name in ("base", "head", "scratch"))
        Path(folder).chmod(0o755)  # noqa: ASYNC240
        for tree in (base, head, scratch):
            tree.mkdir()
        make(base)
        make(head)
        CHANGES[change](head, file)
        before, begun = cpu(), monotonic()
        await way(sandbox, base, head, scratch)  # type: ignore[misc]
        return monotonic() - begun, cpu() - before


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


async def main(rounds: int) -> None:
    today = datetime.now(UTC).date()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {today}")
    print(f"n={rounds} of each, alternating; load {os.getloadavg()[0]:.1f}; limit {LIMIT_PERCENT} %")
    print("suite      change                     wall s: pytest, CI   CPU s: pytest, CI     wall    CPU")
    for suite in SUITES:
        for change in CHANGES:
            await compare(Sandbox(Rung.PLAIN), suite, change, rounds)


async def compare(sandbox: Sandbox, suite: str, change: str, rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"pytest": [], "ci": []}
    for _ in range(rounds):
        found["pytest"].append(await timed(plain, sandbox, suite, change))
        found["ci"].append(await timed(ours, sandbox, suite, change))
    walls = {way: statistics.median(one for one, _ in times) for way, times in found.items()}
    used = {way: statistics.median(one for _, one in times) for way, times in found.items()}
    wall, spent = walls["ci"] / walls["pytest"] - 1, used["ci"] / used["pytest"] - 1
    seconds = [f"{one:9.2f}" for one in (*walls.values(), *used.values())]
    print(f"{suite:10} {change:26}", *seconds, f"{wall:+8.0%} {spent:+6.0%}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
