"""What is said about a commit once it has landed: who wrote its lines, and a signed statement of how it came.

The queue says it when it next looks, oldest landing first, before it plans another one. Everything said is made from
entries up to the landing's own, so whoever takes over after a crash says the same; the envelope is a blob before the
intent names its digest, so that even a newer version finishes what an older one began. The notes are an effect like any
other, through the gate. Its stream, attestation/<commit>, holds one entry, whatever came of it.
"""

from __future__ import annotations

from functools import reduce
from itertools import islice
from typing import TypeVar

from controller.domain import events as e
from controller.domain.decision import Claim, Decision, decide
from controller.domain.delivery import Delivery, evolve
from controller.domain.entry import Draft, Entry
from controller.domain.events.provenance import attestation_stream
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    EffectKey,
    Repository,
    delivery_stream,
    digest_bytes,
    rest_of,
)
from controller.domain.queue import Queue
from controller.domain.verbs import AnnotateCommit, Author
from controller.errors import Permanent
from controller.ports import Attestor, Done, Failed, Ports, Unknown
from controller.provenance import dsse
from controller.provenance.attestation import Carried, Landing, authors_of, claimed, statement
from controller.provenance.attestation_key import public_key
from controller.provenance.log_places import origin, spelt
from controller.provenance.trailers import AGENT as AUTHOR

AGENT = "merger"
LOOKED_BACK = 50  # landings; older ones landed before this log's controller attested any
E = TypeVar("E", bound=e.Event)


async def attested(q: Queue, ports: Ports) -> list[Draft]:
    """The entry about the oldest landing that has none. Empty: there is none, or its notes are not settled yet."""
    if ports.attestor is None:
        return []
    entries = await ports.log.read(q.stream)
    landed = await _oldest_unattested(entries, ports)
    if landed is None:
        return []
    event = _as(landed, e.Landed)
    repository, branch = _place(q)
    envelope = await _envelope(q, entries, landed, ports, ports.attestor)
    digest = digest_bytes(envelope)
    said = dsse.verified(envelope, [public_key(ports.attestor.vkey)])
    verb = AnnotateCommit(
        repository=repository,
        base=event.base,
        commit=event.commit,
        authors=authors_of(said),
        envelope=envelope.decode(),
    )
    key = EffectKey(_prefix(repository, event.commit) + digest.removeprefix("sha256:"))
    decision = _decision(landed, event, digest, claimed(said))
    outcome = await ports.gate.act(AGENT, verb, key=key, decision=decision, subject=q.stream)
    stream = attestation_stream(event.commit)
    match outcome:
        case Done(result):
            kept = e.MergeAttested(
                repository=repository,
                branch=branch,
                commit=event.commit,
                landed=landed.index,
                levels=claimed(said),
                envelope=digest,
                vkey=ports.attestor.vkey,
                agent_lines=result.agent_lines,
                commits=result.commits,
            )
            return [Draft(stream, kept)]
        case Failed(reason) | Unknown(reason):
            missed = e.MergeUnattested(
                repository=repository, commit=event.commit, landed=landed.index, reason=reason[:600]
            )
            return [Draft(stream, missed)]
        case _:
            return []


async def _oldest_unattested(entries: list[Entry], ports: Ports) -> Entry | None:
    """None: the newest landing has been spoken of, and so have those before it."""
    oldest = None
    landings = (entry for entry in reversed(entries) if isinstance(entry.event, e.Landed))
    for entry in islice(landings, LOOKED_BACK):
        if await ports.log.stream(attestation_stream(_as(entry, e.Landed).commit)) is not None:
            break
        oldest = entry
    return oldest


async def _envelope(q: Queue, entries: list[Entry], landed: Entry, ports: Ports, attestor: Attestor) -> bytes:
    """The one that an open intent names, or a new one, durable."""
    prefix = _prefix(_place(q)[0], _as(landed, e.Landed).commit)
    begun = await ports.log.live(f"effect/{prefix}")
    if begun:
        return await ports.blobs.get(Digest("sha256:" + begun[0].stream.rpartition("/")[2]))
    envelope = attestor.envelope(statement(await landing_of(q, entries, landed, ports)))
    await ports.blobs.put(envelope)
    return envelope


async def landing_of(q: Queue, entries: list[Entry], landed: Entry, ports: Ports) -> Landing:
    """A landing as the log has it, from entries that stood before it; `entries` are the queue's."""
    event, (repository, branch) = _as(landed, e.Landed), _place(q)
    before = [entry for entry in entries if entry.index < landed.index]
    planned = _last(before, e.LandingPlanned, event.landing)
    checked = _last(before, e.LandingChecked, event.landing)
    earlier = [x.event for x in before if isinstance(x.event, e.Landed)]
    named = await origin(ports)
    carried = [
        await _carried(delivery, head, landed, named, ports)
        for delivery, head in zip(event.deliveries, event.heads, strict=True)
    ]
    return Landing(
        origin=named,
        repository=repository,
        branch=branch,
        commit=event.commit,
        base=event.base,
        landed=landed,
        verified=event.verified,
        tested=_as(checked, e.LandingChecked).passed and _as(planned, e.LandingPlanned).tested == event.commit,
        unbroken=bool(earlier) and earlier[-1].commit == event.base,
        carried=tuple(carried),
        evidence=(planned, checked),
    )


async def _carried(delivery: DeliveryId, head: Commit, landed: Entry, named: str, ports: Ports) -> Carried:
    entries = [x for x in await ports.log.read(delivery_stream(delivery)) if x.index < landed.index]
    d = reduce(evolve, entries, Delivery(delivery))
    if d.change is None or d.risk is None or d.cleared is None:
        raise Permanent(f"{delivery} landed without a change, a colour or a clearance", "Run `flyball log verify`")
    authored = _newest(entries, e.ChangeAuthored)
    rests_on = (e.ChangeAuthored, e.CiReported, e.RiskClassified, e.Cleared)
    return Carried(
        delivery=delivery,
        requested_by=d.asked.asked_by,
        head=head,
        colour=d.risk.verdict.colour,
        rules=d.risk.verdict.rules,
        approver=d.cleared.approver,
        by_person=d.cleared.by_person,
        policy=d.risk.verdict.policy,
        tainted=d.tainted,
        author=_author(d.change, delivery, head, spelt(named, authored.index)),
        evidence=tuple(_newest(entries, kind) for kind in rests_on),
    )


def _author(change: e.ChangeAuthored, delivery: DeliveryId, head: Commit, audit_entry: str) -> Author | None:
    """None: made by code alone."""
    if change.session is None or change.model is None:
        return None
    return Author(
        head=head,
        session=change.session,
        agent=AUTHOR,
        model=change.model,
        delivery=delivery,
        audit_entry=audit_entry,
        prompt_digest=change.prompt_digest,
    )


def _newest(entries: list[Entry], kind: type[e.Event]) -> Entry:
    found = [entry for entry in entries if isinstance(entry.event, kind)]
    if not found:
        raise Permanent(f"something landed without {kind.kind()}", "Run `flyball log verify`")
    return found[-1]


def _last(entries: list[Entry], kind: type[e.LandingPlanned | e.LandingChecked], landing: int) -> Entry:
    return _newest([x for x in entries if isinstance(x.event, kind) and x.event.landing == landing], kind)


def _as(entry: Entry, kind: type[E]) -> E:
    if not isinstance(entry.event, kind):
        raise TypeError(f"entry {entry.index} is {entry.kind}, not {kind.kind()}")
    return entry.event


def _prefix(repository: Repository, commit: Commit) -> str:
    return f"annotate/{repository}/{commit}/"


def _place(q: Queue) -> tuple[Repository, Branch]:
    repository, _, branch = rest_of(q.stream).partition("@")
    return Repository(repository), Branch(branch)


def _decision(landed: Entry, event: e.Landed, envelope: Digest, levels: tuple[str, ...]) -> Decision:
    claim = ", ".join(levels) or "that verification failed"
    return decide(
        f"Say beside {event.commit[:12]} where it came from?",
        "annotate",
        over={
            "say nothing": "whoever reads the repository must not have to ask us",
            "claim level 4": "agents landed it",
        },
        because=(
            Claim(text=f"landing {event.landing} put it there", evidence=f"log#{landed.index}"),
            Claim(text=f"the statement claims {claim}"[:600], evidence=f"blob {envelope}", digest=envelope),
        ),
        would_change="nothing: whatever landed is spoken of",
        fallback="the same stands in the log, and the notes can be written again",
        rules=("provenance/every-landing", "provenance/at-most-level-3"),
    )
