"""The merge queue of one branch: plan a landing, test it as it will land, land it.

The commit that is tested is the commit that lands: it is made in memory on the branch's tip, CI runs on it, and the
branch is advanced to it if it is still where it was. A change that was tested for its pull request on the very same tip
is the very same commit, and is not tested twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

from controller.domain import events as e
from controller.domain.change import BaseVerdict
from controller.domain.ci import clear_name
from controller.domain.control import fold_people
from controller.domain.decision import Claim, Decision, at_commit, decide
from controller.domain.delivery import Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    EffectKey,
    Repository,
    delivery_stream,
    people_stream,
    rest_of,
)
from controller.domain.queue import Queue, QueuePhase
from controller.domain.sealed import Sealed
from controller.domain.verbs import LandCommit, StartRun, run_key
from controller.errors import PathRefused, Permanent
from controller.history.citing import in_clear, newest_of
from controller.ports import Blocked, CiRun, Conflict, Done, Failed, Outcome, Pending, Ports
from controller.provenance.log_places import audit_entry
from controller.provenance.trailers import merge_message
from controller.queue.attest import attested
from controller.queue.doubting import doubt
from controller.queue.line import InLine, lane_of, ordered
from controller.queue.verifying import doubts_about

AGENT = "merger"
FAILURES = 50  # named; CI has the rest
Step = Callable[[Queue, Ports], Awaitable[list[Draft]]]


async def plan(q: Queue, ports: Ports) -> list[Draft]:
    """IDLE: take the first of the line that can land, and say what the whole line was."""
    repository, branch = place(q)
    line = ordered(await _line(q, ports))
    if not line:
        return []
    if await ports.gate.blocked(AGENT, LandCommit, repository=repository, service=None, branch=branch) is not None:
        return []
    tip = await ports.forge.tip(repository, branch)
    if tip is None:
        raise Permanent(f"{repository} has no branch {branch}", "Create it, or set repository.branch")
    first = line[0].delivery
    change, at = first.change, first.requested_at
    if change is None or at is None:
        raise Permanent(f"{first.id} is in line without a change", "Run `flyball log verify`")
    if await ports.forge.behind(repository, change.base, tip) > ports.bounds.max_behind:
        return [await _rebased(q, ports, first, change, tip)]
    task = await ports.seals.open(first.task)
    message = merge_message(first, task, change.head, await audit_entry(first, ports))
    merged = await ports.forge.merge(repository, tip, change.head, message, at)
    if isinstance(merged, Conflict):
        reason = f"queue/conflict: it conflicts with {branch} in {len(merged.files)} files"
        files = await ports.seals.seal("\n".join(merged.files))
        return [_evict(q, None, first, change.head, "conflict", reason=reason, detail=files)]
    planned = e.LandingPlanned(
        landing=q.landings + 1,
        base=tip,
        tested=merged.commit,
        deliveries=(first.id,),
        heads=(change.head,),
        lane=lane_of(first),
        order=tuple(one.delivery.id for one in line),
        tree=merged.tree,
    )
    return [Draft(q.stream, planned)]


async def check(q: Queue, ports: Ports) -> list[Draft]:
    """PLANNED: CI on the very commit that will land."""
    plan_, repository = _plan(q), place(q)[0]
    first = await _delivery(ports, plan_.deliveries[0])
    if first.ci is not None and first.ci.tested == plan_.tested and first.ci.passed:
        checked = e.LandingChecked(landing=plan_.landing, passed=True, run=first.ci.run, reused=True, failures=())
        return [Draft(q.stream, checked)]
    verb = StartRun(repository=repository, commit=plan_.tested, base=plan_.base)
    decision = _testing(plan_).under(ports.caller.policy)
    outcome = await ports.gate.act(AGENT, verb, key=run_key(verb), decision=decision, subject=q.stream)
    if isinstance(outcome, Failed):
        reason, said = "ci/not-started: CI could not start the run", await ports.seals.seal(outcome.reason)
        return [_evict(q, plan_.landing, first, plan_.heads[0], "red", reason=reason, detail=said)]
    if not isinstance(outcome, Done):
        return _waiting(q, ports, outcome)
    run = await ports.ci.run(outcome.result.run)
    if run is None:
        lost = e.LandingChecked(
            landing=plan_.landing, passed=False, run=outcome.result.run, reused=False, failures=("ci/lost-the-run",)
        )
        return [Draft(q.stream, lost)]
    if run.state in ("queued", "running"):
        return []
    return [Draft(q.stream, await _checked(plan_, ports, run, first.ci))]


async def _checked(
    plan_: e.LandingPlanned, ports: Ports, run: CiRun, for_pull_request: e.CiReported | None
) -> e.LandingChecked:
    """The names of what failed go sealed; in clear each has a name that says nothing."""
    refused = refused_by_facts(run, for_pull_request)
    if run.state == "passed" and not refused:
        return e.LandingChecked(landing=plan_.landing, passed=True, run=run.run, reused=False, failures=())
    names = [test.test[:300] for test in run.tests if not test.passed][:FAILURES]
    if refused:
        return e.LandingChecked(
            landing=plan_.landing,
            passed=False,
            run=run.run,
            reused=False,
            failures=(refused,),
            detail=await ports.seals.seal(run.reason or "\n".join(run.named)),
        )
    return e.LandingChecked(
        landing=plan_.landing,
        passed=False,
        run=run.run,
        reused=False,
        failures=tuple(clear_name(name) for name in names) or ("ci/broken",),
        detail=await ports.seals.seal("\n".join(names) or run.reason),
    )


def refused_by_facts(run: CiRun, for_pull_request: e.CiReported | None) -> str:
    """What the run of the landing says that nobody knew when the change was coloured, by its rule. "": nothing."""
    if run.forged:
        return "ci/forged"
    before = for_pull_request.facts if for_pull_request else None
    if run.facts is None or before is None:
        return ""
    worse = run.facts.base_verdict is BaseVerdict.FAILED and before.base_verdict is not BaseVerdict.FAILED
    return "ci/base-tests" if worse else ""


async def land(q: Queue, ports: Ports) -> list[Draft]:
    """CHECKED: authorise again, advance the branch, and verify what landed."""
    plan_, checked, (repository, branch) = _plan(q), q.check, place(q)
    if checked is None:
        raise Permanent(f"{q.stream} is checked without a check", "Run `flyball log verify`")
    first = await _delivery(ports, plan_.deliveries[0])
    if not checked.passed:
        reason = f"queue/red: {len(checked.failures)} failures in run {checked.run}"
        return [_evict(q, plan_.landing, first, plan_.heads[0], "red", reason=reason, detail=checked.detail)]
    if not await _may_land(ports, first, plan_.heads[0]):
        return [Draft(q.stream, e.LandingVoided(landing=plan_.landing, reason=f"{first.id} may not land any more"))]
    verb = LandCommit(
        repository=repository,
        branch=branch,
        expect=plan_.base,
        commit=plan_.tested,
        pull_requests=(first.pull_request,) if first.pull_request is not None else (),
    )
    decision = (await _landing(q, ports, plan_, checked, first)).under(ports.caller.policy)
    key = EffectKey(f"land/{repository}/{plan_.tested}")
    try:
        outcome = await ports.gate.act(
            AGENT, verb, key=key, decision=decision, subject=q.stream, on_behalf_of=first.asked.asked_by
        )
    except PathRefused as no:
        reason = f"queue/path-refused: {no.message} (rule {', '.join(no.rules)})"
        return [_evict(q, plan_.landing, first, plan_.heads[0], "refused", reason=reason, detail=None)]
    if isinstance(outcome, Failed):
        return [await _not_landed(q, ports, first, plan_, outcome.reason)]
    if not isinstance(outcome, Done):
        return _waiting(q, ports, outcome)
    doubts = await doubts_about(plan_, first, repository, branch, ports.forge)
    landed = e.Landed(
        landing=plan_.landing,
        commit=plan_.tested,
        base=plan_.base,
        deliveries=plan_.deliveries,
        heads=plan_.heads,
        verified=not doubts,
        decision=decision,
        doubts=doubts,
    )
    return [Draft(q.stream, landed)]


async def _not_landed(q: Queue, ports: Ports, first: Delivery, plan_: e.LandingPlanned, reason: str) -> Draft:
    """Void if the branch has moved: the line is looked at again. Else the change itself was refused, for good."""
    repository, branch = place(q)
    said = await ports.seals.seal(reason)
    if await ports.forge.tip(repository, branch) != plan_.base:
        moved = "queue/branch-moved: somebody else has moved the branch"
        return Draft(q.stream, e.LandingVoided(landing=plan_.landing, reason=moved, detail=said))
    no = "queue/refused: the forge does not land it"
    return _evict(q, plan_.landing, first, plan_.heads[0], "refused", reason=no, detail=said)


async def attest_and_plan(q: Queue, ports: Ports) -> list[Draft]:
    """IDLE: say where the last landing came from, and go on. A note that is not settled keeps nobody waiting."""
    return [*await attested(q, ports), *await plan(q, ports)]


TABLE: dict[QueuePhase, Step] = {
    QueuePhase.IDLE: attest_and_plan,
    QueuePhase.PLANNED: check,
    QueuePhase.CHECKED: land,
    QueuePhase.UNVERIFIED: doubt,
}


async def _line(q: Queue, ports: Ports) -> list[InLine]:
    found = []
    for row in await ports.log.waiting_on(q.stream):
        one = await _delivery(ports, DeliveryId(rest_of(row.stream)))
        cleared = one.cleared is not None and one.head == one.cleared.head
        waits = one.phase is Phase.CLEARED and cleared and one.head and q.outcome_of(one.id, one.head) is None
        if waits and one.head and await _may_land(ports, one, one.head):
            found.append(InLine(one, row.waits_since))
    return found


async def _delivery(ports: Ports, delivery: DeliveryId) -> Delivery:
    return fold_delivery(delivery, await ports.log.read(delivery_stream(delivery)))


async def _may_land(ports: Ports, first: Delivery, head: Commit) -> bool:
    said = fold_people(await ports.log.read(people_stream(first.id)))
    return first.phase is Phase.CLEARED and first.head == head and said.held_by is None and said.rejected_by is None


async def _rebased(q: Queue, ports: Ports, first: Delivery, change: e.ChangeAuthored, tip: Commit) -> Draft:
    repository, branch = place(q)
    if first.requested_at is None:
        raise Permanent(f"{first.id} has no first entry", "Run `flyball log verify`")
    rebased = await ports.forge.rebase(repository, change.base, change.head, tip, first.requested_at)
    if isinstance(rebased, Conflict):
        reason = f"queue/conflict: rebasing on {branch} conflicts in {len(rebased.files)} files"
        files = await ports.seals.seal("\n".join(rebased.files))
        return _evict(q, None, first, change.head, "conflict", reason=reason, detail=files)
    reason = f"it was more than {ports.bounds.max_behind} landings behind {branch} and was rebased"
    moved = e.Evicted(
        landing=None,
        delivery=first.id,
        head=change.head,
        why="base_moved",
        reason=reason,
        new_head=rebased.commit,
        new_base=tip,
    )
    return Draft(q.stream, moved)


def _evict(
    q: Queue,
    landing: int | None,
    first: Delivery,
    head: Commit,
    why: Literal["conflict", "red", "refused"],
    *,
    reason: str,
    detail: Sealed | None,
) -> Draft:
    """`detail=None`: there is nothing that somebody else has said."""
    out = e.Evicted(landing=landing, delivery=first.id, head=head, why=why, reason=reason[:600], detail=detail)
    return Draft(q.stream, out)


def _waiting(q: Queue, ports: Ports, outcome: Outcome) -> list[Draft]:
    if isinstance(outcome, Pending) or q.waiting is not None:
        return []
    until = ports.clock.now() + timedelta(seconds=ports.bounds.wait_seconds)
    reason = in_clear(outcome) if isinstance(outcome, Blocked) else "effect/unknown: a person must look"
    return [Draft(q.stream, e.Waited(waits_for=e.WaitsFor.FREEZE, on=None, until=until, reason=reason))]


def _plan(q: Queue) -> e.LandingPlanned:
    if q.plan is None:
        raise Permanent(f"{q.stream} is busy without a plan", "Run `flyball log verify`")
    return q.plan


def place(q: Queue) -> tuple[Repository, Branch]:
    repository, _, branch = rest_of(q.stream).partition("@")
    return Repository(repository), Branch(branch)


def _testing(plan_: e.LandingPlanned) -> Decision:
    return decide(
        f"Test {plan_.tested[:12]} before it lands?",
        "test",
        over={"trust the pull request's run": "it ran on another base"},
        because=(Claim(text=f"it is {plan_.heads[0][:12]} on {plan_.base[:12]}", evidence=at_commit(plan_.tested)),),
        would_change="a passed run of the very same commit",
        fallback="nothing lands",
        rules=("queue/test-what-lands",),
    )


async def _landing(
    q: Queue, ports: Ports, plan_: e.LandingPlanned, checked: e.LandingChecked, first: Delivery
) -> Decision:
    checked_at = await newest_of(ports.log, q.stream, e.LandingChecked)
    cleared_at = await newest_of(ports.log, delivery_stream(first.id), e.Cleared)
    planned_at = await newest_of(ports.log, q.stream, e.LandingPlanned)
    colour = first.risk.verdict.colour.value if first.risk else "unclassified"
    approver = first.cleared.approver if first.cleared else "nobody"
    reused = " (for its pull request)" if checked.reused else ""
    return decide(
        f"Land {plan_.tested[:12]}?",
        "land",
        over={"evict": "its run is green and nobody holds it", "wait": "it is first in line"},
        because=(
            Claim(text=f"run {checked.run} passed on this very commit{reused}", evidence=checked_at),
            Claim(text=f"{colour}, approved by {approver}", evidence=cleared_at),
            Claim(text=f"it was first in a line of {len(plan_.order)}", evidence=planned_at),
        ),
        would_change="a red run, a hold, a withdrawn consent, or a branch that has moved",
        fallback="revert the landing; the branch is advanced only from the tested base",
        rules=("queue/tested-is-landed", "queue/cleared-head", *((first.risk.verdict.rules) if first.risk else ())),
    )
