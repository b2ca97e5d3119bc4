"""PROPOSED: run the tests on the change as it would be on main. At most two different heads ever get this far."""

from __future__ import annotations

from datetime import datetime

from controller.domain import events as e
from controller.domain.decision import Claim, Decision, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import Commit, EffectKey, delivery_stream
from controller.domain.verbs import StartRun
from controller.errors import Permanent
from controller.ports import CiRun, Conflict, Done, Failed, Ports
from controller.provenance.trailers import merge_message
from controller.steps.common import abandon, draft, overdue, push, unsettled, wait

AGENT = "checker"
MESSAGE_CHARS = 4_000
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
    merged = await ports.forge.merge(
        d.repository, tip, change.head, merge_message(d, task, change.head), d.requested_at
    )
    if isinstance(merged, Conflict):
        return await send_back(d, ports, f"it conflicts with {d.branch} in {', '.join(merged.files)}")
    key = EffectKey(f"ci/{d.repository}/{merged.commit}/{d.unstuck + 1}")
    verb = StartRun(repository=d.repository, commit=merged.commit, attempt=d.unstuck + 1)
    outcome = await ports.gate.act(
        AGENT, verb, key=key, decision=_decision(d, change.head, tip), subject=delivery_stream(d.id)
    )
    if isinstance(outcome, Failed):
        return await abandon(d, ports, AGENT, f"CI could not start: {outcome.reason}")
    if (waiting := unsettled(d, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    return [draft(d, e.CiStarted(head=change.head, base=tip, tested=merged.commit, run=outcome.result.run))]


async def _push_rebased(d: Delivery, ports: Ports, change: e.ChangeAuthored) -> list[Draft] | None:
    """After a clean rebase the pull request's branch follows the new head. None: it is there."""
    outcome = await push(d, ports, "author", change.branch, change.head, decision=_following(change))
    return None if outcome is None else unsettled(d, ports, outcome)


async def _report(d: Delivery, ports: Ports, begun: e.CiStarted, run: CiRun) -> list[Draft]:
    now = ports.clock.now()
    failures = [await _failure(ports, t.test, t.message) for t in run.tests if not t.passed][:FAILURES]
    if run.state == "broken":
        failures.append(
            e.TestFailure(test="(the run itself)", verdict="unknown", message=await ports.seals.seal(run.reason))
        )
    report = e.CiReported(
        head=begun.head,
        base=begun.base,
        tested=begun.tested,
        round=d.rounds,
        passed=run.state == "passed",
        pushed_at=_pushed_at(d, now),
        started_at=run.started_at or now,
        finished_at=run.finished_at or now,
        tests=len(run.tests),
        failures=tuple(failures),
        run=run.run,
        isolation=run.isolation,
        log=await ports.seals.seal(run.log[-LOG_CHARS:]),
    )
    if report.passed:
        return [draft(d, report)]
    names = ", ".join(t.test for t in run.tests if not t.passed) or run.reason
    then = await send_back(d, ports, f"CI is red: {names}"[:600])
    return [draft(d, report), *then] if then else []


async def send_back(d: Delivery, ports: Ports, reason: str) -> list[Draft]:
    """Back to the author, if it may try again. Code that reverts has no second idea."""
    if d.asked.cause is e.Cause.REVERT:
        return await abandon(d, ports, AGENT, f"{reason}; the fix goes forward instead")
    if d.rounds >= ports.bounds.ci_rounds:
        return await abandon(d, ports, AGENT, f"{reason}; {d.rounds} CI rounds are the bound; a person must look")
    return [draft(d, e.SentBack(to="ACCEPTED", reason=reason))]


async def _failure(ports: Ports, test: str, message: str) -> e.TestFailure:
    return e.TestFailure(test=test[:300], verdict="unknown", message=await ports.seals.seal(message[-MESSAGE_CHARS:]))


def _pushed_at(d: Delivery, now: datetime) -> datetime:
    times = [at for phase, at in d.phase_times if phase.value == "AUTHORED"]
    return times[-1] if times else now


def _following(change: e.ChangeAuthored) -> Decision:
    return decide(
        f"Move {change.branch} to its rebased head?",
        "move",
        over={"leave it": "the pull request would show a head that is not the one tested"},
        because=(
            Claim(text=f"{change.head[:12]} is the same change on a newer main", evidence=f"commit {change.head}"),
        ),
        would_change="somebody else having moved the branch",
        fallback="the former head is still in the repository",
        rules=("author/own-branch",),
    )


def _decision(d: Delivery, head: Commit, base: Commit) -> Decision:
    return decide(
        f"Run CI on {head[:12]} merged onto {base[:12]}?",
        "run",
        over={"test the head alone": "what lands is the merge, so the merge is what must pass"},
        because=(Claim(text=f"{d.rounds} other heads of it have been through CI", evidence=f"commit {head}"),),
        would_change="the bound on rounds, or a conflict with main",
        fallback="a run changes nothing outside its sandbox",
        rules=("checker/test-the-merge", "checker/rounds"),
    )
