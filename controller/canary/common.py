"""What the rollout's steps share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.canary.blame import split_alpha_ppm
from controller.domain import events as e
from controller.domain.control import People, fold_people
from controller.domain.decision import Claim, decide, in_blob
from controller.domain.entry import Draft
from controller.domain.ids import Digest, EffectKey, Service, canonical, effect_stream, people_stream, rest_of
from controller.domain.rollout import Release, Rollout
from controller.domain.verbs import SetWeight, Tell
from controller.domain.verdict import JudgeConfig
from controller.errors import Permanent
from controller.history.citing import in_clear, newest, newest_of
from controller.ports import Blocked, Failed, Outcome, Pending, Ports, RepositoryConfig, ServiceConfig, Unknown

RELEASER = "releaser"
OBSERVER = "observer"
RESPONDER = "responder"
ON_CALL = "on-call"
LOOKS_BACK_MS = 3_600_000  # of the two hours for which the edge keeps counts; what is older is refused


def place(r: Rollout, ports: Ports) -> tuple[RepositoryConfig, ServiceConfig]:
    name, _, environment = rest_of(r.stream).partition("@")
    try:
        repository, service = ports.service(Service(name), environment)
    except KeyError:
        raise Permanent(
            f"{r.stream} has no service configured any more", "Put [service] back into flyball.toml"
        ) from None
    return repository, _splitting(r, service)


def _splitting(r: Rollout, service: ServiceConfig) -> ServiceConfig:
    """While suspects go out in halves, each canary has its share of one release's alpha."""
    if not r.suspects:
        return service
    alpha_ppm = split_alpha_ppm(service.judge.alpha_ppm, r.batch)
    return replace(service, judge=service.judge.model_copy(update={"alpha_ppm": alpha_ppm}))


def current(r: Rollout) -> Release:
    if r.current is None:
        raise Permanent(f"{r.stream} has no release under way", "Run `flyball log verify`")
    return r.current


def windows_from(ports: Ports, since_ms: int, width_ms: int) -> int:
    """Where the first window since then begins, and no longer ago than LOOKS_BACK_MS: a controller may have slept."""
    start = max(since_ms, ms(ports.clock.now()) - LOOKS_BACK_MS)
    return -(-start // width_ms) * width_ms


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def draft(r: Rollout, event: e.Event) -> Draft:
    return Draft(r.stream, event)


def wait(r: Rollout, ports: Ports, waits_for: e.WaitsFor, seconds: float, reason: str) -> list[Draft]:
    """Say what the rollout waits for, once."""
    if r.waiting is not None and (r.waiting.waits_for, r.waiting.reason) == (waits_for, reason):
        return []
    until = ports.clock.now() + timedelta(seconds=seconds)
    return [draft(r, e.Waited(waits_for=waits_for, on=None, until=until, reason=reason[:600]))]


async def unsettled(r: Rollout, ports: Ports, outcome: Outcome) -> list[Draft] | None:
    """Drafts for an effect that is not done and not refused by the world. None: it is done."""
    match outcome:
        case Pending():
            return []
        case Blocked():
            return wait(r, ports, e.WaitsFor.FREEZE, ports.bounds.wait_seconds, in_clear(outcome))
        case Failed(reason):
            return [await stuck(r, ports, "effect/refused: the platform refused it", reason)]
        case Unknown(reason):
            return [await stuck(r, ports, "effect/unknown: it may or may not have happened", reason)]
        case _:
            return None


async def stuck(r: Rollout, ports: Ports, reason: str, said: str) -> Draft:
    """`said` by the world, sealed."""
    return draft(r, e.RolloutStuck(release=r.releases, reason=reason, detail=await ports.seals.seal(said)))


@dataclass(frozen=True, slots=True)
class Ground:
    """What a decision about a canary stands on."""

    evidence: str  # the entry, or the blob of counts, that was looked at
    counts: Digest | None  # None: an entry, which carries its own
    policy: Digest  # of the judge's parameters: a blob, from which the verdict can be computed again

    def claim(self, text: str) -> Claim:
        return Claim(text=text[:600], evidence=self.evidence, digest=self.counts)


async def ground(r: Rollout, ports: Ports, counts: Digest | None = None, *kinds: type[e.Event]) -> Ground:
    """`counts=None`: the newest entry of these kinds, or the rollout as it stands."""
    policy = await policy_of(r, ports)
    if counts is not None:
        return Ground(in_blob(counts), counts, policy)
    return Ground(await newest_of(ports.log, r.stream, *(kinds or (e.Event,))), None, policy)


async def policy_of(r: Rollout, ports: Ports) -> Digest:
    """Of the blob with the judge's parameters, from which a verdict can be computed again."""
    return await ports.blobs.put(parameters(place(r, ports)[1].judge))


def parameters(config: JudgeConfig) -> bytes:
    """The judge's parameters as a blob: its digest is the policy that a verdict stands under."""
    return canonical(config.model_dump(mode="json"))


async def page(r: Rollout, ports: Ports, what: str, words: str, said: str = "") -> None:
    """Tell whoever is on call, once for each `what` of a release. A message that does not get through stops nothing.

    `said` by the world is in the message and not in the log. Later looks have other numbers: the first ones are told.
    """
    key = EffectKey(f"page/{rest_of(r.stream)}/{r.releases}/{what}")
    if await ports.log.stream(effect_stream(key)) is not None:
        return
    verb = Tell(to=ON_CALL, thread=rest_of(r.stream), text=f"{words}\n{said}" if said else words)
    decision = decide(
        f"Tell whoever is on call about {rest_of(r.stream)}?",
        "tell",
        over={"stay silent": "only a person can settle this"},
        because=(Claim(text=words[:600], evidence=await newest(ports.log, r.stream)),),
        would_change="nothing: telling is always allowed",
        fallback="the same words stand in `flyball status`",
        rules=("tell/always",),
        policy=ports.caller.policy,
    )
    await ports.gate.act(OBSERVER, verb, key=key, decision=decision, subject=r.stream)


async def blocked(r: Rollout, ports: Ports) -> Blocked | None:
    repository, service = place(r, ports)
    return await ports.gate.blocked(
        RELEASER, SetWeight, repository=repository.name, service=service.name, branch=repository.branch
    )


async def said(release: Release, ports: Ports) -> list[People]:
    return [fold_people(await ports.log.read(people_stream(who))) for who in release.deliveries]


def held_by(people: Sequence[People]) -> str | None:
    """Who holds one of the release's deliveries. None: nobody does."""
    return next((one.held_by for one in people if one.held_by is not None), None)
