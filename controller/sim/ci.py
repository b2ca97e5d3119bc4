"""A CI system: a run takes virtual seconds, and its verdict is what the tree says.

A run of mutants takes as long, and its share is the tree's too: all are killed, unless a file says `SURVIVES 40%`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.domain.base import Fact
from controller.domain.benchmark import MOST_BENCHMARKS, Benchmark, benchmark_of
from controller.domain.change import BaseVerdict, Executed, MutantFacts, TestFacts
from controller.domain.ci import clear_name
from controller.domain.ids import Commit, EffectKey, Repository
from controller.domain.verbs import RunStarted, StartRun, Verb
from controller.ports import CiRun, TestResult
from controller.sim.chance import happens, uniform
from controller.sim.clock import SimClock
from controller.sim.content import flakiness, has, measured, surviving, tests_of
from controller.sim.forge import Counted, SimForge
from controller.sim.history import tree_id
from controller.sim.merging import Tree

SHORTEST_S, LONGEST_S = 1.0, 6.0
TEST_MS = 40
NOISE = 0.02  # of a benchmark, standard deviation over its level
UNIFORMS = 4
MUTANTS = 20


@dataclass(frozen=True, slots=True)
class _Run:
    repository: Repository
    commit: Commit
    base: Commit | None
    begun: datetime
    mutants: bool


@dataclass
class SimCi:
    """`Ci`, and `Hands` for its verb. A run is named by what it runs, so a run asked for twice is one run."""

    seed: int
    clock: SimClock
    forge: SimForge
    counted: Counted = lambda _key, _verb: None
    runs: dict[str, _Run] = field(default_factory=dict)

    async def act(self, key: EffectKey, verb: Verb) -> Fact:
        name = _name(verb)
        if name not in self.runs:
            asked = _as_run(verb)
            run = _Run(asked.repository, asked.commit, asked.base, self.clock.now(), asked.purpose == "mutants")
            self.forge.repository(run.repository).history.of(run.commit)
            self.counted(key, verb)
            self.runs[name] = run
        return RunStarted(run=name)

    async def find(self, key: EffectKey, verb: Verb) -> Fact | None:  # noqa: ARG002 - the run's name is enough
        """None: it has not been started."""
        return RunStarted(run=_name(verb)) if _name(verb) in self.runs else None

    async def run(self, run: str) -> CiRun | None:
        found = self.runs.get(run)
        return None if found is None else self._seen(run, found)

    def _seen(self, name: str, run: _Run) -> CiRun:
        tree = self.forge.repository(run.repository).history.of(run.commit).tree
        seconds = SHORTEST_S + (LONGEST_S - SHORTEST_S) * uniform(self.seed, "ci", tree_id(tree))
        ends = run.begun + timedelta(seconds=seconds)
        tests = () if run.mutants else self._tests(run)
        if self.clock.now() < ends:
            return CiRun(name, run.commit, "running", run.begun, None, (), "none: simulated")
        if run.mutants:
            found = self._mutants(tree)
            return CiRun(name, run.commit, "passed", run.begun, ends, (), "none: simulated", mutants=found)
        state = "passed" if all(test.passed for test in tests) else "failed"
        log, levels = f"{len(tests)} tests\n", self._benchmarks(run)
        facts, named = self._facts(run, tests)
        return CiRun(
            name,
            run.commit,
            state,
            run.begun,
            ends,
            tests,
            "none: simulated",
            log=log,
            benchmarks=levels,
            facts=facts,
            named=named,
        )

    def _facts(self, run: _Run, tests: tuple[TestResult, ...]) -> tuple[TestFacts, tuple[str, ...]]:
        """As a CI that runs the base's tests on the head would find them, and the names of the tests in it."""
        history = self.forge.repository(run.repository).history
        head = history.of(run.commit).tree
        base = history.of(run.base).tree if run.base else None
        before, after = _own_tests(base) if base is not None else set(), _own_tests(head)
        failed = [test.test for test in tests if not test.passed and test.test in before]
        differ = base is not None and any(base.get(path) != head.get(path) for path in before | after)
        verdict = (BaseVerdict.FAILED if failed else BaseVerdict.PASSED) if differ else BaseVerdict.NOT_RUN
        vanished, added = (before - after, after - before) if base is not None else (set(), set())
        base_failed = set(failed) if differ else set()
        facts = TestFacts(
            collected_base=len(before) if base is not None else None,
            collected=len(after),
            ran=len(tests),
            vanished=_in_clear(vanished),
            added=_in_clear(added),
            base_verdict=verdict,
            base_failed=_in_clear(base_failed),
            executed=Executed.PROVEN if base is not None else Executed.NOT_MEASURED,
            tripwire=True,
        )
        return facts, tuple(sorted(vanished | added | base_failed))

    def _mutants(self, tree: Tree) -> MutantFacts:
        survived = round(MUTANTS * surviving(tree))
        killed = MUTANTS - survived
        return MutantFacts(measured=True, possible=MUTANTS, killed=killed, survived=survived, seed=self.seed)

    def _benchmarks(self, run: _Run) -> tuple[Benchmark, ...]:
        """Each run is a few per cent off: the sum of four uniform numbers is near enough to normal."""
        tree = self.forge.repository(run.repository).history.of(run.commit).tree
        found = []
        for name, level in measured(tree).items():
            drawn = sum(uniform(self.seed, "benchmark", name, tree_id(tree), n) for n in range(UNIFORMS)) - UNIFORMS / 2
            found.append(benchmark_of(name, [level * (1 + NOISE * drawn * math.sqrt(12 / UNIFORMS))]))
        return tuple(found[:MOST_BENCHMARKS])

    def _tests(self, run: _Run) -> tuple[TestResult, ...]:
        tree = self.forge.repository(run.repository).history.of(run.commit).tree
        broken = has(tree, "BROKEN")
        found = []
        for test in tests_of(tree):
            flake = happens(flakiness(tree, test), self.seed, "flake", test, tree_id(tree))
            found.append(TestResult(test, not (broken or flake), TEST_MS, "it is broken" if broken or flake else ""))
        return tuple(found)


def _in_clear(tests: set[str]) -> tuple[str, ...]:
    return tuple(sorted(map(clear_name, tests)))


def _own_tests(tree: Tree) -> set[str]:
    return set(tests_of(tree)) & set(tree)


def _as_run(verb: Verb) -> StartRun:
    if not isinstance(verb, StartRun):
        raise TypeError(f"{verb.name} is no verb of the CI")
    return verb


def _name(verb: Verb) -> str:
    wanted = _as_run(verb)
    text = f"{wanted.repository}\n{wanted.commit}\n{wanted.attempt}"
    if wanted.purpose != "tests":
        text += f"\n{wanted.purpose}\n{wanted.base}"
    return f"run-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
