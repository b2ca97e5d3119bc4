"""`.ci/mutants`: does a test fail when a line that refuses, acts or decides means something else?

Every mutant is one change of one file. Only tests that execute its line are run, the fastest and the most particular
ones first, until one fails or their time is up. Exit status 1 when fewer than the wanted share are noticed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from random import Random

from mutation_accepted import Key, accepted, stale
from mutation_sites import Mutant, mutants_of
from mutation_tests import copied, covering
from mutation_trial import End, Nursery, Trial, tried

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = ROOT / ".ci" / "mutants-accepted.yaml"
KEPT = ROOT / ".venv" / "mutation-map"
DRIVERS = (  # of canary: the table and what acts; its mathematics is tested by properties
    "attributing", "choosing", "common", "exposing", "keeping", "living", "looking", "opening", "recovering",
    "restoring", "table", "watching", "weights",
)  # fmt: skip
TARGETS = (
    "controller/steps/*.py",
    "controller/queue/*.py",
    *(f"controller/canary/{name}.py" for name in DRIVERS),
    "controller/gate.py",
    "controller/intake.py",
    "controller/domain/control.py",
    "controller/history/breaker.py",
    "rbac/*.py",
)
TESTS = ("tests/unit", "tests/sim", "tests/attacks")
NOT_FOR_IT = ("test_layers.py", "test_docs.py", "test_bootstrap.py")  # they look at the project, and run none of it
WANTED_PERCENT = 90


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=".ci/mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=150, help="mutants to try; 0: all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and its order (default %(default)s)")
    parser.add_argument(
        "--budget-s", type=float, default=7_200, help="begin no mutant after this (default %(default)s)"
    )
    parser.add_argument("--tests-s", type=float, default=60, help="of tests for each mutant (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once (default %(default)s)")
    parser.add_argument("--paths", nargs="+", default=TARGETS, help="what to mutate, from the project's root")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="folders and files of tests")
    parser.add_argument("--only", default="", help="only mutants whose file:function contains this")
    parser.add_argument("--list", action="store_true", help="list the sample and end")
    return parser.parse_args(argv)


def files_of(patterns: Iterable[str]) -> list[str]:
    return sorted(
        {str(path.relative_to(ROOT)) for one in patterns for path in ROOT.glob(one) if path.name != "__init__.py"}
    )


def tests_of(places: Iterable[str]) -> list[str]:
    found: set[Path] = set()
    for one in places:
        place = ROOT / one
        found.update([place] if place.is_file() else place.rglob("test_*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name not in NOT_FOR_IT)


def sampled(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    shuffled = Random(seed).sample(list(mutants), len(mutants))
    return shuffled[:count] if count else shuffled


def main(argv: Sequence[str]) -> int:
    asked = arguments(argv)
    every = [mutant for file in files_of(asked.paths) for mutant in mutants_of(ROOT / file, ROOT)]
    reasons = accepted(ACCEPTED) if ACCEPTED.exists() else {}
    if asked.paths == TARGETS and (gone := stale(reasons, every)):
        print("Accepted survivors of code that is not there any more; take them out of", ACCEPTED.name)
        print("\n".join(f"  {key.file} {key.function}: {key.was}  ->  {key.becomes}" for key in gone))
        return 1
    named = [one for one in every if asked.only in f"{one.file}:{one.function}"]
    sample = sampled(named, asked.sample, asked.seed)
    print(f"{len(sample)} of {len(named)} mutants of {len(files_of(asked.paths))} files, seed {asked.seed}", flush=True)
    if asked.list:
        print("\n".join(f"{one.file}:{one.line} {one.operator}\n{one.diff}" for one in sample))
        return 0
    with tempfile.TemporaryDirectory(prefix="flyball-mutants-") as folder:
        trials = judged(sample, Path(folder), asked)
    return report(trials, reasons, len(sample))


def judged(sample: Sequence[Mutant], folder: Path, asked: argparse.Namespace) -> list[Trial]:
    """As many as begin within the budget."""
    over = time.monotonic() + asked.budget_s
    trees = [copied(ROOT, folder / f"tree-{number}") for number in range(max(1, asked.jobs))]
    found = covering(ROOT, trees[0], tests_of(asked.tests), files_of(TARGETS), KEPT)
    free: SimpleQueue[Nursery] = SimpleQueue()

    def one(mutant: Mutant) -> Trial | None:
        if time.monotonic() > over:
            return None
        nursery = free.get()
        try:
            return _told(tried(mutant, nursery, found, asked.tests_s))
        finally:
            free.put(nursery)

    with ExitStack() as stack:
        for tree in trees:
            free.put(stack.enter_context(closing(Nursery(tree))))
        pool = stack.enter_context(ThreadPoolExecutor(max(1, asked.jobs)))
        return [trial for trial in pool.map(one, sample) if trial is not None]


def _told(trial: Trial) -> Trial:
    by = f" by {trial.by}" if trial.by else f" ({trial.tried} of {trial.known} tests)"
    print(f"{trial.end.value:9} {trial.mutant.file}:{trial.mutant.line} {trial.mutant.operator}{by}", flush=True)
    return trial


def report(trials: Sequence[Trial], reasons: dict[Key, str], wanted: int) -> int:
    """Exit status."""
    lived = [one for one in trials if not one.noticed]
    new = [one for one in lived if Key(*one.mutant.key) not in reasons]
    for one in new:
        print(f"\n{one.end.value}: {one.mutant.file}:{one.mutant.line} in {one.mutant.function or 'the module'}")
        print(one.mutant.diff)
    counted = len(trials) - (len(lived) - len(new))
    noticed = sum(one.noticed for one in trials)
    percent = 100 * noticed / counted if counted else 0.0
    timeouts = sum(one.end is End.TIMEOUT for one in trials)
    print(
        f"\n{noticed} of {counted} mutants noticed ({percent:.1f} %, wanted {WANTED_PERCENT} %), {timeouts} of them by "
        f"having no end; {len(new)} survived, {len(lived) - len(new)} more for the reasons in {ACCEPTED.name}"
    )
    if len(trials) < wanted:
        print(f"The budget ended before {wanted - len(trials)} of the sample were tried")
    return int(percent < WANTED_PERCENT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
