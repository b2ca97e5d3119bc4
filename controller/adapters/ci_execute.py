"""Run a repository's test command in a sandbox, hear its results as they come, and say what they amount to.

pytest runs under a parent of ours (`ci_driver`), which tells what its children's tests did. Any other command is one
test that passes with exit code 0: its report is its own word, and the facts say that nothing was measured.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from controller.adapters.ci_compare import Compared, compare, put_tests_of
from controller.adapters.ci_results import Ending, Results, RunState, Session, TestLine, fails_as_a_whole, judge_command
from controller.adapters.ci_verdict import BASES_TESTS, HEAD, LISTED, Asked, Collected, Judged, file_of, judge
from controller.adapters.sandbox import Ran, Sandbox
from controller.adapters.sandbox_doors import Place, place_of
from controller.adapters.sandbox_rungs import Limits
from controller.domain.benchmark import Benchmark
from controller.domain.change import TestFacts

SCRIPTS = Path(__file__).parent
DRIVER = ("ci_driver", "ci_answers", "ci_grounds", "ci_pytest_plugin", "ci_watch")  # what runs inside the sandbox
ENDS_BEFORE_S = 1.0  # the parent stops its tests so long before the sandbox stops the parent
AT_START = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"})  # the parent starts without them
TITLES = {
    BASES_TESTS: "the base's tests on this head",
    HEAD: "the head's own tests",
    LISTED: "the base's tests, listed",
}


@dataclass(frozen=True)
class CiConfig:
    """A repository's `test:` section."""

    command: tuple[str, ...] = ("python", "-m", "pytest")
    python: str = sys.executable  # the interpreter that `python` means, and whose environment the sandbox shows
    wall_s: float = 600.0
    memory_bytes: int = 4 << 30  # per process
    output_bytes: int = 256 * 1024
    environment: tuple[tuple[str, str], ...] = ()  # such as PYTEST_DISABLE_PLUGIN_AUTOLOAD
    network: tuple[str, ...] = ()  # host:port of what tests may reach. Empty: no network
    mutants_s: float = 60.0  # for all mutants of a change together

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> CiConfig:
        pairs = tuple((name, value) for name, value in found["environment"])
        network = tuple(found.get("network", ()))
        return cls(**{**found, "command": tuple(found["command"]), "environment": pairs, "network": network})

    @property
    def reach(self) -> tuple[Place, ...] | None:
        """What tests may reach. None: no network."""
        return tuple(map(place_of, self.network)) or None

    @property
    def limits(self) -> Limits:
        return Limits(wall_s=self.wall_s, memory_bytes=self.memory_bytes, output_bytes=self.output_bytes)


@dataclass(frozen=True)
class Executed:
    state: RunState
    reason: str
    tests: tuple[TestLine, ...]
    output: str
    isolation: str
    duration_ms: int
    benchmarks: tuple[Benchmark, ...] = ()
    facts: TestFacts | None = None  # None: nothing was started
    names: tuple[str, ...] = ()  # of the tests that `facts` name
    collected: Collected | None = None  # None: the tests were not listed
    forged: bool = False


@dataclass(frozen=True)
class Base:
    """What a run is compared with: the base's tree, exported and never run, and what is known of its tests."""

    tree: Path
    known: Collected | None = None  # None: its tests are listed in this run


@dataclass(frozen=True)
class Pytest:
    """A command line that is pytest's."""

    python: str
    args: tuple[str, ...]


async def execute(  # noqa: PLR0917  the first five are the run, and always given
    sandbox: Sandbox,
    tree: Path,
    config: CiConfig,
    scratch: Path,
    on_test: Callable[[TestLine], None],
    base: Base | None = None,  # None: the tests stand by themselves
) -> Executed:
    """Run the tests of `tree`, and with a `base` the base's against it too.

    `scratch` is an existing folder that this call may write to. `on_test` hears of each of the head's own tests once it
    has ended; those of `Executed` are complete.
    """
    if shutil.which(config.python) is None:
        reason = f"the interpreter {config.python} is not there; install it or set `test.python`"
        return Executed(RunState.BROKEN, reason, (), "", sandbox.isolation, 0)
    found = as_pytest(config)
    if found is None:
        return await _run_command(sandbox, tree, config, on_test)
    compared = compare(base.tree, tree) if base else None
    run = Run(sandbox, tree, config, scratch, on_test, found, base, compared)
    return await run.through()


async def _run_command(sandbox: Sandbox, tree: Path, config: CiConfig, on_test: Callable[[TestLine], None]) -> Executed:
    results = Results(lambda _, line: on_test(line))
    words = list(config.command)
    if words[0] in {"python", "python3"}:
        words[0] = config.python
    ran = await sandbox.run(
        words,
        tree=tree,
        python=config.python,
        env=dict(config.environment),
        limits=config.limits,
        reach=config.reach,
    )
    ending = Ending(ran.exit_code, ran.timed_out, ran.output, config.wall_s, config.memory_bytes, ran.over)
    verdict = judge_command(config.command, ending, results)
    tests = tuple(results.now.tests)
    facts = TestFacts(ran=len(tests))
    return Executed(verdict.state, verdict.reason, tests, ran.output, ran.isolation, ran.duration_ms, facts=facts)


def as_pytest(config: CiConfig) -> Pytest | None:
    """None: the command is another one."""
    first, *rest = config.command
    if Path(first).name in {"pytest", "py.test"}:
        beside = Path(first).with_name("python")
        return Pytest(str(beside) if beside.is_absolute() and beside.exists() else config.python, tuple(rest))
    if rest[:2] == ["-m", "pytest"]:
        return Pytest(config.python if first in {"python", "python3"} else first, tuple(rest[2:]))
    return None


@dataclass(frozen=True)
class Run:
    """One run of pytest's sessions."""

    sandbox: Sandbox
    tree: Path
    config: CiConfig
    scratch: Path
    on_test: Callable[[TestLine], None]
    pytest: Pytest
    base: Base | None
    compared: Compared | None

    def sessions(self) -> list[dict[str, Any]]:
        """In their order. Where tests differ, the tree gets the base's, and the head's come from a copy."""
        listing = [_session(LISTED, self.base.tree, listing=True)] if self.base and self.base.known is None else []
        if self.base is None or self.compared is None or not self.compared.tests:
            return [_session(HEAD, watch=self.compared is not None), *listing]
        shutil.copytree(self.tree, self._head, symlinks=True)
        put_tests_of(self.base.tree, self.tree, self.compared.tests)
        first = _session(BASES_TESTS, watch=True)
        only = None if self.compared.whole else [one for one in self.compared.modules if (self._head / one).is_file()]
        own = [] if only == [] else [_session(HEAD, self._head, only=only, watch=True)]
        if own and only is not None:
            first["then"] = {**own[0], "tests": list(self.compared.tests)}
        return [first, *own, *listing]

    @property
    def _head(self) -> Path:
        return self.scratch / "head"

    async def through(self) -> Executed:
        results = Results(self._hear)
        ran = await self._in_sandbox(self.sessions(), results)
        ran_of = {one.name: ran for one in results.sessions}
        compared = self.compared
        if self.partial and any(fails_as_a_whole(self._ending(ran, one), one) for one in results.sessions):
            # A plugin asks something of the whole run, such as a share of covered lines: the head's tests in one go.
            again = Results()
            ran = await self._in_sandbox([_session(HEAD, self._head, watch=True)], again)
            results.sessions = [*(one for one in results.sessions if one.name != HEAD), *again.sessions]
            results.benchmarks, results.notes = again.benchmarks, [*results.notes, *again.notes]
            ran_of |= {one.name: ran for one in again.sessions}
            compared = replace(compared or Compared(), whole=True)
        known = self.base.known if self.base else None
        asked = Asked(self.pytest.python, compared, known, lambda one: self._ending(ran_of.get(one.name, ran), one))
        return _executed(ran, results, judge(asked, results))

    @property
    def partial(self) -> bool:
        return self.compared is not None and bool(self.compared.tests) and not self.compared.whole

    def _hear(self, session: str, line: TestLine) -> None:
        differ = self.compared.tests if self.compared else ()
        if session == HEAD or (session == BASES_TESTS and self.partial and file_of(line.test) not in differ):
            self.on_test(line)

    async def _in_sandbox(self, sessions: list[dict[str, Any]], results: Results) -> Ran:
        driver = self._lay_out_driver(sessions)
        early = {name: value for name, value in self.config.environment if name not in AT_START}
        trees = [Path(one["tree"]) for one in sessions if one["tree"]]
        return await self.sandbox.run(
            [self.pytest.python, str(driver / "drive.py"), str(driver / "plan.json")],
            tree=self.tree,
            python=self.pytest.python,
            env=early,
            readable=(driver, *dict.fromkeys(trees)),
            limits=self.config.limits,
            reach=self.config.reach,
            on_result=results.add,
        )

    def _lay_out_driver(self, sessions: list[dict[str, Any]]) -> Path:
        """A folder with our files alone, which the sandbox's user may read and nobody in there may write."""
        folder = self.scratch / "driver"
        rooms = folder / "controller" / "adapters"
        rooms.mkdir(parents=True, exist_ok=True)
        for name in DRIVER:
            shutil.copyfile(SCRIPTS / f"{name}.py", rooms / f"{name}.py")
        shutil.copyfile(rooms / f"{DRIVER[0]}.py", folder / "drive.py")
        (rooms / "__init__.py").touch()
        (rooms.parent / "__init__.py").touch()
        environment = dict(self.config.environment)
        plan = {
            "args": ["-p", "no:cacheprovider", *self.pytest.args],
            "environment": {name: value for name, value in environment.items() if name in AT_START - {"PYTHONPATH"}},
            "python_path": [one for one in environment.get("PYTHONPATH", "").split(":") if one],
            "watched": self.compared.watched if self.compared else {},
            "wall_s": max(1.0, self.config.wall_s - ENDS_BEFORE_S),
            "sessions": sessions,
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    def _ending(self, ran: Ran, session: Session) -> Ending:
        late = session.timed_out or (ran.timed_out and session.exit_code is None)
        code = ran.exit_code if session.exit_code is None else session.exit_code
        over = ran.over if session.exit_code is None else ""
        return Ending(code, late, ran.output, self.config.wall_s, self.config.memory_bytes, over)


def _session(
    name: str, tree: Path | None = None, *, only: list[str] | None = None, watch: bool = False, listing: bool = False
) -> dict[str, Any]:
    """`tree=None`: the tree as it lies there. `only=None`: every test."""
    where = str(tree) if tree else None
    title = TITLES[name] if name != HEAD or tree else ""
    return {
        "name": name,
        "tree": where,
        "only": only,
        "watch": watch,
        "listing": listing,
        "title": title,
        "then": None,  # which session may follow in the same process, and which of its files differ
        # The base may test what the head has taken away: that module fails, and no other is spared for it.
        "past_errors": name == BASES_TESTS,
    }


def _executed(ran: Ran, results: Results, judged: Judged) -> Executed:
    return Executed(
        judged.verdict.state,
        judged.verdict.reason,
        judged.tests,
        "\n".join((ran.output, *results.notes)),
        ran.isolation,
        ran.duration_ms,
        tuple(results.benchmarks.values()),
        judged.facts,
        judged.names,
        judged.collected,
        judged.forged,
    )


def with_command(config: CiConfig, command: tuple[str, ...]) -> CiConfig:
    """The same settings for another command. Empty: the configured one."""
    return replace(config, command=command) if command else config
