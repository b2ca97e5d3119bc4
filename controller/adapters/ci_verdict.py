"""From the sessions of one run to its verdict and its facts. Pure.

A run has one session where no test differs from the base's (the head's tests are the base's), and two where some do:
the base's tests on the head, whole, then the head's own: the modules that differ, or all of them when something that
every test may depend on differs. What the head's verdict says of a test that is the same on both sides is what the
first of the two said of it. A third session lists the base's tests where no earlier run has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from controller.adapters.ci_compare import Compared
from controller.adapters.ci_results import (
    WHOLE,
    Ending,
    Results,
    RunState,
    Session,
    TestLine,
    Verdict,
    judge_session,
    nothing_ran,
)
from controller.domain.change import BaseVerdict, Executed, TestFacts
from controller.domain.ci import clear_name

HEAD, BASES_TESTS, LISTED = "head", "the base's tests", "listed"
MOST_NAMED = 200  # tests in one list of facts; their numbers are whole
OTHER_COPY = "ci/other-copy"
ENDED_WELL = Ending(0, timed_out=False, output="", wall_s=0, memory_bytes=0)


@dataclass(frozen=True)
class Collected:
    """What is known of a commit's own tests: those there are, and those of them that were skipped."""

    ids: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    verdict: Verdict
    tests: tuple[TestLine, ...]
    facts: TestFacts
    names: tuple[str, ...] = ()  # of the tests that `facts` name
    collected: Collected | None = None  # of the commit that was tested; None: the session did not get so far
    forged: bool = False


@dataclass(frozen=True)
class Asked:
    """What a run was to find out."""

    python: str
    compared: Compared | None = None  # None: there is no base
    known: Collected | None = None  # of the base, from an earlier run; None: nobody has listed its tests
    ending: Callable[[Session], Ending] = lambda _: ENDED_WELL

    @property
    def partial(self) -> bool:
        """The head's session has only the modules that differ."""
        return self.compared is not None and bool(self.compared.tests) and not self.compared.whole


def judge(asked: Asked, results: Results) -> Judged:
    if not results.sessions:
        results.begin(HEAD)  # the parent did not get so far, and its ending says why
    of_base, of_head = results.session(BASES_TESTS), results.session(HEAD)
    verdicts = {one.name: judge_session(asked.python, asked.ending(one), one) for one in results.sessions}
    head = _head(asked, of_base, of_head)
    verdict = _verdict(asked, verdicts, of_base, of_head, head)
    if verdict.state is RunState.PASSED and not results.whole:
        verdict = Verdict(RunState.BROKEN, "the process that orders the tests ended before all of them had run")
    facts = _facts(asked, results, head, of_base, verdicts.get(BASES_TESTS))
    forged = any(one.forged for one in (of_base, of_head) if one)
    if facts.executed is Executed.OTHER_COPY and not forged:
        verdict = Verdict(RunState.BROKEN, other_copy(facts.not_executed))
    collected = Collected(tuple(head.listed), tuple(head.skipped)) if head.listed else None
    names = {*facts.vanished, *facts.newly_skipped, *facts.added, *facts.base_failed}
    return Judged(verdict, tuple(head.tests), _cleared(facts), tuple(sorted(names)), collected, forged)


def other_copy(files: Iterable[str]) -> str:
    some = ", ".join(list(files)[:5])
    way_out = "install it editable (`pip install -e .`), or set `test.command` so that the tree comes first"
    return f"{OTHER_COPY}: the tests imported another copy of {some} than the one that was changed; {way_out}"


def _head(asked: Asked, of_base: Session | None, of_head: Session | None) -> Session:
    """The head's own tests, from whichever session ran them."""
    if of_base is None or (of_head is not None and not asked.partial):
        return of_head or Session()
    own = of_head or Session()
    differ = set(asked.compared.tests) if asked.compared else set()
    same = Session(
        listed=[test for test in of_base.listed if file_of(test) not in differ],
        tests=[line for line in of_base.tests if file_of(line.test) not in differ],
    )
    return replace(own, listed=[*same.listed, *own.listed], tests=[*same.tests, *own.tests])


def file_of(test: str) -> str:
    return test.partition("::")[0]


def _verdict(
    asked: Asked, verdicts: dict[str, Verdict], of_base: Session | None, of_head: Session | None, head: Session
) -> Verdict:
    """The base's tests may fail on the head, which is a fact of its colour; they may not be forged or hang."""
    first, own = verdicts.get(BASES_TESTS), verdicts.get(HEAD)
    if of_base is not None and first is not None and (of_base.forged or of_base.left):
        why = first.reason if of_base.forged else "the tests left processes that cannot be ended"
        return Verdict(RunState.BROKEN, why)
    if of_head is not None and of_head.forged and own is not None:
        return own
    if not asked.partial or of_base is None or first is None:
        return own or first or Verdict(RunState.BROKEN, "the run ended before its tests began")
    return _of_both(head, of_base, own, first)


def _of_both(head: Session, of_base: Session, own: Verdict | None, first: Verdict) -> Verdict:
    failures = head.failures
    if failures:
        return Verdict(RunState.FAILED, f"{len(failures)} of {len(head.tests)} tests failed")
    if of_base.finished is None or of_base.timed_out:
        return first
    if own is not None and own.state is not RunState.PASSED and not _nothing_of_its_own(own):
        return own
    if not head.tests:
        return own or first
    if len(head.skipped) == len(head.tests):
        return Verdict(RunState.BROKEN, nothing_ran(len(head.tests)))
    return Verdict(RunState.PASSED)


def _nothing_of_its_own(own: Verdict) -> bool:
    return own.reason.startswith(("nothing ran", "no tests were collected"))


def _facts(
    asked: Asked, results: Results, head: Session, of_base: Session | None, base_verdict: Verdict | None
) -> TestFacts:
    sessions = [one for one in results.sessions if one.name != LISTED]
    base = asked.known or _listed(results.session(LISTED))
    before, after = set(base.ids) if base else set(), set(head.listed)
    ran_before = before - set(base.skipped if base else ())
    facts = TestFacts(
        collected_base=len(base.ids) if base else None,
        collected=len(head.listed) if any(one.ordered or one.listed for one in sessions) else None,
        ran=sum(not line.skipped for line in head.tests),
        skipped=len(head.skipped),
        vanished=_some(before - after) if base else (),
        vanished_tests=_some(map(without_row, before - after)) if base else (),
        newly_skipped=_some(set(head.skipped) & ran_before) if base else (),
        added=_some(after - before) if base else (),
        base_verdict=_base_verdict(of_base, base_verdict),
        base_failed=_some(line.test for line in of_base.failures if line.test != WHOLE) if of_base else (),
        tripwire=tripwire(sessions),
    )
    return facts.model_copy(update=_executed(asked.compared, sessions))


def without_row(test: str) -> str:
    """The name of a test without the row of its `parametrize`."""
    return test.partition("[")[0]


def tripwire(sessions: list[Session]) -> bool | None:
    """False: one was reported as passed. None: none came to its end in one of the sessions that ran tests."""
    if any(one.tripwire is False for one in sessions):
        return False
    ran = [one.tripwire for one in sessions if one.ordered]
    return True if ran and all(ran) else None


def _listed(session: Session | None) -> Collected | None:
    """None: there is no such session, or it did not get through its list."""
    if session is None or session.forged or session.finished is None:
        return None
    return Collected(tuple(session.listed), tuple(session.skipped))


def _base_verdict(of_base: Session | None, verdict: Verdict | None) -> BaseVerdict:
    if of_base is None or verdict is None:
        return BaseVerdict.NOT_RUN
    if any(line.test != WHOLE for line in of_base.failures):
        return BaseVerdict.FAILED
    whole = of_base.finished is not None and not of_base.timed_out
    alone = verdict.state is RunState.FAILED or verdict.reason.startswith("no tests were collected")
    return BaseVerdict.PASSED if verdict.state is RunState.PASSED or (whole and alone) else BaseVerdict.BROKEN


def _some(tests: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(tests))[:MOST_NAMED])


def _executed(compared: Compared | None, sessions: list[Session]) -> dict[str, object]:
    if compared is None:
        return {"executed": Executed.NOT_MEASURED}
    if not compared.watched:
        return {"executed": Executed.NOTHING_TO_RUN}
    covered = {path: set().union(*(one.covered.get(path, set()) for one in sessions)) for path in compared.watched}
    imported = set().union(*(one.imported for one in sessions))
    others = set().union(*(one.others for one in sessions)) - imported
    numbers = {
        "lines_changed": sum(len(lines) for lines in compared.watched.values()),
        "lines_covered": sum(len(covered[path] & set(lines)) for path, lines in compared.watched.items()),
    }
    if others:
        return {"executed": Executed.OTHER_COPY, "not_executed": tuple(sorted(others)), **numbers}
    idle = [path for path, lines in compared.watched.items() if not (covered[path] if lines else path in imported)]
    found = Executed.NOT_EXECUTED if idle else Executed.NOT_MEASURED if compared.unwatched else Executed.PROVEN
    return {"executed": found, "not_executed": tuple(sorted(idle)[:MOST_NAMED]), **numbers}


def _cleared(facts: TestFacts) -> TestFacts:
    """Names are text from outside: in clear each has a name of its own."""
    lists = {
        name: tuple(clear_name(test) for test in getattr(facts, name))
        for name in ("vanished", "vanished_tests", "newly_skipped", "added", "base_failed")
    }
    return facts.model_copy(update=lists)
