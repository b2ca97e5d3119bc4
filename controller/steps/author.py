"""ACCEPTED: have the change written. A task and a fix go to an agent session; a revert is made by code alone."""

from __future__ import annotations

from datetime import datetime

from controller.agents.brief import brief_for
from controller.domain import events as e
from controller.domain.change import Finding
from controller.domain.decision import Claim, Decision, Maker, at_commit, decide
from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    MicroUsd,
    author_branch,
    delivery_stream,
    session_of,
    session_stream,
)
from controller.domain.session import fold as fold_session
from controller.domain.verbs import PushBranch
from controller.errors import PathRefused, Permanent
from controller.history.citing import in_clear, maker_of
from controller.ports import Conflict, Failed, Ports
from controller.provenance.trailers import title_of, trailers
from controller.steps.common import abandon, draft, overdue, push, refused_path, unsettled, wait

AGENT = "author"
REVERTER = "responder"
STEPS_NAMED = 10  # of an irreversible change, to people


async def author(d: Delivery, ports: Ports) -> list[Draft]:
    repository = ports.repository(d.repository)
    service = repository.service.name if repository.service else None
    if d.asked.cause is not e.Cause.REVERT:
        block = await ports.gate.blocked(AGENT, PushBranch, repository=d.repository, service=service)
        if block is not None:
            seconds = ports.bounds.wait_seconds
            return wait(d, ports, e.WaitsFor.FREEZE, on=None, seconds=seconds, reason=in_clear(block))
    if len(d.heads) >= ports.bounds.heads_per_delivery:
        return await abandon(
            d, ports, AGENT, f"{len(d.heads)} heads were tried, which is the bound; a person must look"
        )
    if d.asked.cause is e.Cause.REVERT:
        return await _revert(d, ports)
    return await _by_agent(d, ports)


async def _by_agent(d: Delivery, ports: Ports) -> list[Draft]:
    session = session_of(d.id, d.iteration + 1)
    stream = session_stream(session)
    state = fold_session(session, await ports.log.read(stream))
    if state.started is None:
        begun = Draft(stream, await brief_for(d, ports))
        reason = f"the agent is at work (session {session})"
        return [
            begun,
            *wait(d, ports, e.WaitsFor.SESSION, on=stream, seconds=ports.bounds.session_seconds, reason=reason),
        ]
    if state.ended is None:
        if overdue(d, ports):
            raise Permanent(
                f"session {session} did not end within {ports.bounds.session_seconds} s", "Is `flyball serve` running?"
            )
        reason = f"the agent is at work (session {session})"
        return wait(d, ports, e.WaitsFor.SESSION, on=stream, seconds=ports.bounds.session_seconds, reason=reason)
    ended, started = state.ended, state.started
    if ended.head is None or ended.outcome != "done":
        words = await ports.seals.open(ended.summary) if ended.summary else None
        refused_calls = f"; the gate refused {state.refusals} of its calls" if state.refusals else ""
        return await abandon(d, ports, AGENT, f"the agent brought no change: {ended.reason}{refused_calls}", words)
    decision = _taking(d, started.branch, ended.head, await maker_of(ports.log, session)).under(ports.caller.policy)
    refused = await _push(d, ports, AGENT, started.branch, ended.head, decision=decision)
    if refused is not None:
        return refused
    event = e.ChangeAuthored(
        base=started.base,
        head=ended.head,
        branch=started.branch,
        iteration=started.iteration,
        files=ended.files,
        lines_changed=ended.lines_changed,
        session=session,
        model=started.model,
        label=started.label,
        prompt_digest=started.prompt_digest,
        transcript_digest=ended.transcript,
        cost_micro_usd=ended.cost_micro_usd,
        tainted=ended.tainted,
        summary=ended.summary,
        decision=decision,
    )
    return [draft(d, event)]


async def _revert(d: Delivery, ports: Ports) -> list[Draft]:
    bad = d.asked.bad_commit
    tip = await ports.forge.tip(d.repository, d.branch)
    if bad is None or tip is None:
        raise Permanent(f"{d.id} is a revert without a commit to revert", "This is a defect: look at its first entry")
    if steps := await _irreversible(d, ports):
        said = "\n".join([f"{one.rule} in {one.path}:{one.line}" for one in steps[:STEPS_NAMED]])
        reason = f"revert/irreversible: {len(steps)} steps of the change cannot be taken back by code, and a revert"
        return await abandon(d, ports, REVERTER, f"{reason} would only hide that; the fix goes forward instead", said)
    made = await ports.forge.revert(d.repository, bad, tip, await _revert_message(d, ports), _when(d))
    if isinstance(made, Conflict):
        reason = f"revert/conflict: the revert conflicts in {len(made.files)} files; the fix goes forward instead"
        return await abandon(d, ports, REVERTER, reason, "\n".join(made.files))
    change = await ports.forge.change(d.repository, tip, made.commit)
    if not change.files:
        return await abandon(d, ports, REVERTER, "there is nothing left to revert")
    branch = author_branch(d.id, d.iteration + 1)
    decision = _taking(d, branch, made.commit, None).under(ports.caller.policy)
    refused = await _push(d, ports, REVERTER, branch, made.commit, decision=decision)
    if refused is not None:
        return refused
    event = e.ChangeAuthored(
        base=tip,
        head=made.commit,
        branch=branch,
        iteration=d.iteration + 1,
        files=change.files,
        lines_changed=change.lines_changed,
        session=None,
        model=None,
        label=None,
        prompt_digest=None,
        transcript_digest=None,
        cost_micro_usd=MicroUsd(0),
        tainted=False,
        decision=decision,
    )
    return [draft(d, event)]


async def _irreversible(d: Delivery, ports: Ports) -> tuple[Finding, ...]:
    """Steps of the change that is to be reverted which no revert takes back, read off its own two trees."""
    caused_by = d.asked.caused_by
    if caused_by is None:
        return ()
    bad = fold_delivery(caused_by, await ports.log.read(delivery_stream(caused_by)))
    if bad.merged is None:
        return ()
    facts = await ports.facts.of(d.repository, bad.merged.base, bad.merged.commit, "")
    return facts.irreversible


async def _push(
    d: Delivery, ports: Ports, agent: str, branch: Branch, head: Commit, *, decision: Decision
) -> list[Draft] | None:
    """None: the branch is there."""
    try:
        outcome = await push(d, ports, agent, branch, head, decision=decision)
    except PathRefused as no:
        return await abandon(d, ports, agent, f"author/path-refused: {refused_path(no)}")
    if isinstance(outcome, Failed):
        reason = "author/push-refused: the forge does not take the branch"
        return await abandon(d, ports, agent, reason, outcome.reason)
    return None if outcome is None else await unsettled(d, ports, outcome)


def _taking(d: Delivery, branch: Branch, head: Commit, maker: Maker | None) -> Decision:
    """`maker=None`: code alone made it."""
    made_by = f"session {maker.session}" if maker else "code, as the inverse of the bad commit"
    return decide(
        f"Push the change of {d.id}?",
        "push",
        over={
            "throw it away": "the gate takes it path by path, on git's own trees, or not at all",
            "push to main": "only the merge queue lands on main",
        },
        because=(
            Claim(
                text=f"{head[:12]} was made by {made_by}",
                evidence=at_commit(head),
            ),
        ),
        would_change="no change in the tree, or a path outside the grant",
        fallback=f"delete {branch}; main is untouched",
        rules=("author/own-branch",),
        maker=maker,
    )


async def _revert_message(d: Delivery, ports: Ports) -> str:
    return "\n".join((title_of(await ports.seals.open(d.task)), "", *trailers(d), ""))


def _when(d: Delivery) -> datetime:
    if d.requested_at is None:
        raise Permanent(f"{d.id} has no first entry", "Run `flyball log verify`")
    return d.requested_at
