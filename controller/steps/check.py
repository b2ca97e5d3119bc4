"""PROPOSED: run the tests on the change as it would be on main. At most two different heads ever get this far."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from controller.domain import events as e
from controller.domain.benchmark import MOST_BENCHMARKS
from controller.domain.change import TestFacts
from controller.domain.ci import CiResults, TestOutcome, clear_name
from controller.domain.decision import Claim, Decision, at_commit, decide, in_blob
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import Commit, Digest, canonical, delivery_stream
from controller.domain.sealed import Sealed
from controller.domain.verbs import StartRun, run_key
from controller.errors import PathRefused, Permanent
from controller.history.citing import newest, newest_of
from controller.ports import CiRun, Conflict, Done, Failed, Ports
from controller.provenance.log_places import audit_entry
from controller.provenance.trailers import merge_message
from controller.steps.common import abandon, draft, overdue, push, refused_path, unsettled, wait

AGENT = "checker"
FORGED = "ci/forged"
MESSAGE_CHARS = 4_000
NAME_CHARS = 300
LOG_CHARS = 262_144  # the end of it, where the failures are
FAILURES = 50  # recorded by name; the whole log is a blob


async def check(d: Delivery, ports: Ports) -> list[Draft]:
    if d.ci_started is None:
        return await _start(d, ports)
    run = await ports.ci.run(d.ci_started.run)
    if run is None:
        raise Permanent(
            f"CI does not know run {d.ci_started.run} any more", "Its results are lost: `flyball unstick` starts over"
        )
    if run.state in ("queued", "running"):
        if overdue(d, ports):
            return await abandon(
                d, ports, AGENT, f"CI did not finish within {ports.bounds.ci_seconds} s (run {run.run})"
            )
        reason = f"CI run {run.run}"
        return wait(d, ports, e.WaitsFor.CI, on=None, seconds=ports.bounds.ci_seconds, reason=reason)
    return await _report(d, ports, d.ci_started, run)


async def _start(d: Delivery, ports: Ports) -> list[Draft]:
    change, tip = d.change, await ports.forge.tip(d.repository, d.branch)
    if change is None or tip is None or d.requested_at is None:
        raise Permanent(f"{d.id} is proposed without a change or {d.branch} is gone", "Run `flyball log verify`")
    if change.head not in d.submitted and d.rounds >= ports.bounds.ci_rounds:
        reason = f"{d.rounds} heads have been through CI, which is the bound; a person must look"
        return await abandon(d, ports, AGENT, reason)
    if (waiting := await _push_rebased(d, ports, change)) is not None:
        return waiting
    task = await ports.seals.open(d.task)
    message = merge_message(d, task, change.head, await audit_entry(d, ports))
    merged = await ports.forge.merge(d.repository, tip, change.head, message, d.requested_at)
    if isinstance(merged, Conflict):
        reason = f"check/conflict: it conflicts with {d.branch} in {len(merged.files)} files"
        return await send_back(d, ports, reason, "\n".join(merged.files))
    verb = StartRun(repository=d.repository, commit=merged.commit, attempt=d.unstuck + 1, base=tip)
    stream = delivery_stream(d.id)
    decision = _decision(d, change.head, tip, await newest(ports.log, stream)).under(ports.caller.policy)
    outcome = await ports.gate.act(AGENT, verb, key=run_key(verb), decision=decision, subject=stream)
    if isinstance(outcome, Failed):
        return await abandon(d, ports, AGENT, "ci/not-started: CI could not start the run", outcome.reason)
    if (waiting := await unsettled(d, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    return [draft(d, e.CiStarted(head=change.head, base=tip, tested=merged.commit, run=outcome.result.run))]


async def _push_rebased(d: Delivery, ports: Ports, change: e.ChangeAuthored) -> list[Draft] | None:
    """After a clean rebase the pull request's branch follows the new head. None: it is there."""
    following = _following(change).under(ports.caller.policy)
    try:
        outcome = await push(d, ports, "author", change.branch, change.head, decision=following)
    except PathRefused as no:
        return await abandon(d, ports, AGENT, f"check/path-refused: {refused_path(no)}")
    return None if outcome is None else await unsettled(d, ports, outcome)


async def _report(d: Delivery, ports: Ports, begun: e.CiStarted, run: CiRun) -> list[Draft]:
    now = ports.clock.now()
    failures = [await _failure(ports, t.test, t.message) for t in run.tests if not t.passed][:FAILURES]
    if run.state == "broken":
        failures.append(
            e.TestFailure(test="(the run itself)", verdict="unknown", message=await ports.seals.seal(run.reason))
        )
    results = results_of(run)
    kept = await ports.seals.seal(canonical(results.model_dump(mode="json")).decode())
    started = await newest_of(ports.log, delivery_stream(d.id), e.CiStarted)
    report = e.CiReported(
        head=begun.head,
        base=begun.base,
        tested=begun.tested,
        round=d.rounds,
        passed=results.green,
        pushed_at=_pushed_at(d, now),
        started_at=run.started_at or now,
        finished_at=run.finished_at or now,
        tests=len(run.tests),
        failures=tuple(failures),
        run=run.run,
        isolation=run.isolation,
        log=await ports.seals.seal(run.log[-LOG_CHARS:]),
        results=kept,
        decision=verdict(results, kept, started, ports.caller.policy),
        benchmarks=run.benchmarks[:MOST_BENCHMARKS],
        facts=await _facts(ports, run),
    )
    if report.passed:
        return [draft(d, report)]
    names = [t.test for t in run.tests if not t.passed][:FAILURES]
    said = run.reason if results.forged or not names else "\n".join(names)
    rule = FORGED if results.forged else "ci/red"
    then = await send_back(d, ports, f"{rule}: {results.words}", said)
    return [draft(d, report), *then] if then else []


async def _facts(ports: Ports, run: CiRun) -> TestFacts | None:
    """The names of the tests in it go sealed. None: this CI cannot tell."""
    if run.facts is None or not run.named:
        return run.facts
    names = {clear_name(test): test[:NAME_CHARS] for test in run.named}
    kept = await ports.seals.seal(canonical(names).decode())
    return run.facts.model_copy(update={"names": kept})


def results_of(run: CiRun) -> CiResults:
    """A finished run. What is neither passed nor failed is broken."""
    state: Literal["passed", "failed", "broken"] = "broken"
    if run.state in ("passed", "failed"):
        state = "passed" if run.state == "passed" else "failed"
    tests = tuple(
        TestOutcome(test=t.test, passed=t.passed, duration_ms=t.duration_ms, skipped=t.skipped) for t in run.tests
    )
    return CiResults(state=state, tests=tests, forged=run.forged)


def verdict(results: CiResults, kept: Sealed, started: str, policy: Digest) -> Decision:
    """Green or red, from the results alone: whoever opens them decides the same.

    `kept` are they, sealed, and `started` cites the entry that names what was tested.
    """
    choice, other = ("green", "red") if results.green else ("red", "green")
    why_not = "nothing failed" if results.green else results.words
    return decide(
        "Is this head good enough to be classified?",
        choice,
        over={other: why_not},
        because=(
            Claim(text=results.words, evidence=in_blob(kept.digest), digest=kept.digest),
            Claim(text="this is what was tested", evidence=started),
        ),
        would_change="one failed test more, or none, a run that broke, or one in which nothing ran",
        fallback="a red head goes back to its author, and nothing has merged",
        rules=(f"ci/{choice}", *((FORGED,) if results.forged else ())),
        policy=policy,
    )


async def send_back(d: Delivery, ports: Ports, reason: str, said: str) -> list[Draft]:
    """Back to the author, if it may try again. Code that reverts has no second idea. `said` goes sealed."""
    if d.asked.cause is e.Cause.REVERT:
        return await abandon(d, ports, AGENT, f"{reason}; the fix goes forward instead", said)
    if d.rounds >= ports.bounds.ci_rounds:
        reason = f"{reason}; {d.rounds} CI rounds are the bound; a person must look"
        return await abandon(d, ports, AGENT, reason, said)
    return [draft(d, e.SentBack(to="ACCEPTED", reason=reason, detail=await ports.seals.seal(said)))]


async def _failure(ports: Ports, test: str, message: str) -> e.TestFailure:
    """The message begins with the name, for readers who open nothing else."""
    words = f"{test[:NAME_CHARS]}\n{message[-MESSAGE_CHARS:]}"
    message_, name = await ports.seals.seal(words), await ports.seals.seal(test[:NAME_CHARS])
    return e.TestFailure(test=clear_name(test), verdict="unknown", message=message_, name=name)


def _pushed_at(d: Delivery, now: datetime) -> datetime:
    times = [at for phase, at in d.phase_times if phase.value == "AUTHORED"]
    return times[-1] if times else now


def _following(change: e.ChangeAuthored) -> Decision:
    return decide(
        f"Move {change.branch} to its rebased head?",
        "move",
        over={"leave it": "the pull request would show a head that is not the one tested"},
        because=(
            Claim(text=f"{change.head[:12]} is the same change on a newer main", evidence=at_commit(change.head)),
        ),
        would_change="somebody else having moved the branch",
        fallback="the former head is still in the repository",
        rules=("author/own-branch",),
    )


def _decision(d: Delivery, head: Commit, base: Commit, as_it_stands: str) -> Decision:
    return decide(
        f"Run CI on {head[:12]} merged onto {base[:12]}?",
        "run",
        over={"test the head alone": "what lands is the merge, so the merge is what must pass"},
        because=(
            Claim(text=f"{d.rounds} other heads of it have been through CI", evidence=as_it_stands),
            Claim(text="this is the head", evidence=at_commit(head)),
        ),
        would_change="the bound on rounds, or a conflict with main",
        fallback="a run changes nothing outside its sandbox",
        rules=("checker/test-the-merge", "checker/rounds"),
    )
