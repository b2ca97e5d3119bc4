"""AUTHORED: open the pull request, and close the one that it replaces."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.decision import Claim, Decision, at_commit, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, delivery_stream
from controller.domain.verbs import OpenPullRequest
from controller.errors import Permanent
from controller.ports import Done, Ports
from controller.provenance.trailers import title_of, trailers
from controller.steps.common import close, draft, maker, unsettled

AGENT = "author"


async def propose(d: Delivery, ports: Ports) -> list[Draft]:
    change = d.change
    if change is None:
        raise Permanent(f"{d.id} is authored without a change", "Run `flyball log verify`")
    task = await ports.seals.open(d.task)
    title = title_of(task)
    verb = OpenPullRequest(
        repository=d.repository,
        branch=change.branch,
        head=change.head,
        base=d.branch,
        title=title,
        body=await _body(d, ports, task),
    )
    key = EffectKey(f"pull-request/{change.branch}/{d.unstuck}")
    agent = "responder" if d.asked.cause is e.Cause.REVERT else AGENT
    decision = _decision(d, change).model_copy(update={"maker": await maker(d, ports), "policy": ports.caller.policy})
    outcome = await ports.gate.act(
        agent,
        verb,
        key=key,
        decision=decision,
        subject=delivery_stream(d.id),
        on_behalf_of=d.asked.asked_by,
    )
    if (waiting := await unsettled(d, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    number: int = outcome.result.number
    old = d.pull_request
    if old is not None and old != number and not await close(d, ports, old, f"replaced by #{number}"):
        return []
    return [draft(d, e.PullRequestOpened(number=number, head=change.head, title=await ports.seals.seal(title)))]


async def _body(d: Delivery, ports: Ports, task: str) -> str:
    summary = await ports.seals.open(d.change.summary) if d.change and d.change.summary else ""
    return "\n".join((task.strip(), "", summary.strip(), "", *trailers(d), "")).strip() + "\n"


def _decision(d: Delivery, change: e.ChangeAuthored) -> Decision:
    return decide(
        f"Open a pull request for {d.id}?",
        "open",
        over={"wait": "the change is complete and nothing is gained by waiting"},
        because=(
            Claim(
                text=f"{len(change.files)} files, {change.lines_changed} lines, iteration {change.iteration}",
                evidence=at_commit(change.head),
            ),
        ),
        would_change="an open pull request on the same branch, which is then taken as this one",
        fallback="close the pull request; nothing has merged",
        rules=("author/one-pull-request-per-branch",),
    )
