"""What steps share: how to wait, how to tell people, what to make of the gate's answers. No step imports another."""

from __future__ import annotations

from datetime import timedelta

from controller.domain import events as e
from controller.domain.control import People, by_agent, fold_people
from controller.domain.decision import Claim, Decision, Maker, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    EffectKey,
    StreamId,
    delivery_stream,
    people_stream,
)
from controller.domain.sealed import Sealed
from controller.domain.verbs import ClosePullRequest, PushBranch, Tell
from controller.errors import PathRefused
from controller.history.citing import in_clear, maker_of, newest, opened
from controller.ports import Blocked, Done, Failed, Outcome, Pending, Ports, Unknown

NEW_BRANCH = "new"
CLOSER = "merger"
TOLD_CHARS = 600  # of what others said, in a message
ON_CALL = "on-call"  # who is told of what an agent asked for: agents read the log, people are told


def draft(d: Delivery, event: e.Event) -> Draft:
    return Draft(delivery_stream(d.id), event)


def wait(
    d: Delivery, ports: Ports, waits_for: e.WaitsFor, *, on: StreamId | None, seconds: int, reason: str
) -> list[Draft]:
    """Say what the delivery waits for, once. The same wait again says nothing, unless a step has failed in between.

    Whose last word is a failure waits on nothing as the guards have it, and would never be called from a line again.
    """
    now, until = d.waiting, ports.clock.now() + timedelta(seconds=seconds)
    if now is not None and (now.waits_for, now.on, now.reason) == (waits_for, on, reason):
        if not d.failures:
            return []
        until = now.until
    return [draft(d, e.Waited(waits_for=waits_for, on=on, until=until, reason=reason))]


def overdue(d: Delivery, ports: Ports) -> bool:
    """It has waited longer than it said it would."""
    return d.waiting is not None and ports.clock.now() >= d.waiting.until


async def people(ports: Ports, delivery: DeliveryId) -> People:
    return fold_people(await ports.log.read(people_stream(delivery)))


async def unsettled(d: Delivery, ports: Ports, outcome: Outcome) -> list[Draft] | None:
    """Drafts for an effect that is not done. None: it is done, go on.

    Whoever has a use for a Failed one judges it before; here it is a person's to look at.
    """
    match outcome:
        case Done():
            return None
        case Pending(until):
            seconds = max(1, int((until - ports.clock.now()).total_seconds()))
            return wait(d, ports, e.WaitsFor.EFFECT, on=None, seconds=seconds, reason="an effect is under way")
        case Blocked():
            seconds = ports.bounds.wait_seconds
            return wait(d, ports, e.WaitsFor.FREEZE, on=None, seconds=seconds, reason=in_clear(outcome))
        case Failed(reason):
            return [await stuck(d, ports, "effect/refused: the world refused an effect", reason)]
        case Unknown(reason):
            return [await stuck(d, ports, "effect/unknown: an effect may or may not have happened", reason)]


async def stuck(d: Delivery, ports: Ports, reason: str, said: str) -> Draft:
    """`said` by the world, sealed."""
    return draft(d, e.Stuck(reason=reason, detail=await ports.seals.seal(said)))


async def maker(d: Delivery, ports: Ports) -> Maker | None:
    """The model that wrote the change under way. None: code alone did."""
    session = d.change.session if d.change else None
    return await maker_of(ports.log, session) if session else None


def telling(question: str, because: str, evidence: str, policy: Digest) -> Decision:
    return decide(
        question,
        "tell",
        over={"stay silent": "people who asked must not have to look"},
        because=(Claim(text=because, evidence=evidence),),
        would_change="nothing: telling is always allowed",
        fallback="the same words stand in `flyball show`",
        rules=("tell/always",),
        policy=policy,
    )


async def tell(d: Delivery, ports: Ports, agent: str, what: str, text: str, *, to: str | None = None) -> bool:
    """Tell `to`; None: whoever asked, or whoever is on call where an agent did. Once per `what`. False: look again.

    A message that fails is recorded and stops nothing.
    """
    asked_by = d.asked.asked_by
    to = to or (ON_CALL if by_agent(asked_by) else asked_by)
    verb = Tell(to=to, thread=d.asked.root, text=text)
    key = EffectKey(f"tell/{d.id}/{what}")
    evidence = await newest(ports.log, delivery_stream(d.id))
    decision = telling(f"Tell {to} about {d.id}?", f"{d.id}: {what}", evidence, ports.caller.policy)
    outcome = await ports.gate.act(
        agent, verb, key=key, decision=decision, subject=delivery_stream(d.id), on_behalf_of=asked_by
    )
    return not isinstance(outcome, Pending)


async def push(
    d: Delivery, ports: Ports, agent: str, branch: Branch, head: Commit, *, decision: Decision
) -> Outcome | None:
    """Point the delivery's own branch at `head`, from wherever it is now. None: it is there already.

    The key holds what the branch is expected to be at, so that an attempt that a crash cut off is found and settled
    with the same arguments.
    """
    prefix = f"push/{branch}/{head[:16]}/"
    begun = await ports.log.live(f"effect/{prefix}")
    now = await ports.forge.tip(d.repository, branch)
    if begun:
        at = begun[0].stream.rpartition("/")[2]
        now = None if at == NEW_BRANCH else Commit(at)
    elif now == head:
        return None
    verb = PushBranch(repository=d.repository, branch=branch, commit=head, expect=now)
    key = EffectKey(prefix + (now or NEW_BRANCH))
    subject = delivery_stream(d.id)
    return await ports.gate.act(agent, verb, key=key, decision=decision, subject=subject, on_behalf_of=d.asked.asked_by)


def refused_path(no: PathRefused) -> str:
    """What a delivery says of a commit that the gate did not take."""
    return f"{no.message} (rule {', '.join(no.rules)})"


async def close(d: Delivery, ports: Ports, number: int, why: str) -> bool:
    """Close a pull request of this delivery. False: not settled yet, look again.

    One that the forge will not close (it has merged) stops nothing.
    """
    verb = ClosePullRequest(repository=d.repository, number=number, reason=why)
    key, stream = EffectKey(f"close/{d.repository}/{number}"), delivery_stream(d.id)
    decision = _closing(d, number, why, await newest(ports.log, stream)).under(ports.caller.policy)
    outcome = await ports.gate.act(CLOSER, verb, key=key, decision=decision, subject=stream)
    return isinstance(outcome, Done | Failed)


def _closing(d: Delivery, number: int, why: str, evidence: str) -> Decision:
    return decide(
        f"Close pull request #{number} of {d.id}?",
        "close",
        over={"leave it open": "nobody works on it any more, and it must not land by accident"},
        because=(Claim(text=why, evidence=evidence),),
        would_change="its having merged",
        fallback="it can be opened again",
        rules=("author/one-pull-request-per-branch",),
    )


async def abandon(
    d: Delivery, ports: Ports, agent: str, reason: str, detail: str | Sealed | None = None
) -> list[Draft]:
    """End a delivery before it merged: its pull request is closed, and people are told.

    `detail` is text from outside, which the log has sealed. None: there is none.
    """
    if d.pull_request is not None and not await close(d, ports, d.pull_request, f"{d.id} was given up"):
        return []
    said = detail if isinstance(detail, str) else await opened(ports.seals, detail)
    words = f"{d.id} was given up: {reason}" + (f"\n{said[:TOLD_CHARS]}" if said else "")
    if not await tell(d, ports, agent, "abandoned", words):
        return []
    sealed = await ports.seals.seal(detail) if isinstance(detail, str) and detail else detail or None
    return [draft(d, e.Abandoned(reason=reason[:600], detail=sealed))]
