"""AUTHORED: open the pull request, and close the one that it replaces."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.decision import Claim, Decision, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, delivery_stream
from controller.domain.verbs import ClosePullRequest, OpenPullRequest
from controller.errors import Permanent
from controller.ports import Done, Failed, Ports
from controller.provenance.trailers import title_of, trailers
from controller.steps.common import draft, unsettled

AGENT = "author"
CLOSER = "merger"


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
    key = EffectKey(f"pull-request/{change.branch}")
    agent = "responder" if d.asked.cause is e.Cause.REVERT else AGENT
    outcome = await ports.gate.act(
        agent,
        verb,
        key=key,
        decision=_decision(d, change),
        subject=delivery_stream(d.id),
        on_behalf_of=d.asked.asked_by,
    )
    if (waiting := unsettled(d, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    number: int = outcome.result.number
    if d.pull_request is not None and d.pull_request != number and not await _close(d, ports, d.pull_request, number):
        return []
    return [draft(d, e.PullRequestOpened(number=number, head=change.head, title=await ports.seals.seal(title)))]


async def _close(d: Delivery, ports: Ports, old: int, new: int) -> bool:
    """False: look again later."""
    verb = ClosePullRequest(repository=d.repository, number=old, reason=f"replaced by #{new}")
    key = EffectKey(f"close/{d.repository}/{old}")
    outcome = await ports.gate.act(CLOSER, verb, key=key, decision=_closing(d, old, new), subject=delivery_stream(d.id))
    return isinstance(outcome, Done | Failed)


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
                evidence=f"commit {change.head}",
            ),
        ),
        would_change="an open pull request on the same branch, which is then taken as this one",
        fallback="close the pull request; nothing has merged",
        rules=("author/one-pull-request-per-branch",),
    )


def _closing(d: Delivery, old: int, new: int) -> Decision:
    return decide(
        f"Close pull request #{old} of {d.id}?",
        "close",
        over={"leave it open": f"#{new} carries the newer change, and two would race for the queue"},
        because=(Claim(text=f"#{new} replaces #{old}", evidence=f"stream {delivery_stream(d.id)}"),),
        would_change="the older one having merged",
        fallback="it can be opened again",
        rules=("author/one-pull-request-per-branch",),
    )
