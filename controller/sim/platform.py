"""A platform with one service per slot: a confirmed release, one canary, and a weight that expires by itself.

A verb for another release than the one in the slot is a definite no. Every effect is done once per key. What has served
when is kept as a list of spans, from which the traffic is reckoned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from controller.domain.base import Fact
from controller.domain.ids import Commit, Digest, EffectKey, Repository, Service, digest_of
from controller.domain.verbs import (
    Build,
    Built,
    CanaryStarted,
    ConfirmRelease,
    Ok,
    Restored,
    RestoreTraffic,
    SetWeight,
    StartCanary,
    Verb,
    WeightSet,
)
from controller.errors import Permanent
from controller.ports import PlatformStatus
from controller.sim.clock import SimClock
from controller.sim.content import has
from controller.sim.forge import Counted, SimForge
from controller.sim.history import tree_id
from controller.sim.merging import Tree

READY_MS = 1_500  # from its start until a canary's health check passes
GIVES_UP_MS = 5_000  # from its start until a canary that is dead says so
CRASHES_AFTER_MS = 2_000  # of traffic
GOOD_CHECKS = 3
Slot = tuple[Service, str]


@dataclass(frozen=True, slots=True)
class Deployed:
    release: int
    commit: Commit
    artefact: Digest
    started_ms: int
    weight_percent: int = 0
    weighted_ms: int = 0  # when it first had traffic
    until_ms: int | None = None  # None: no weight is out, or nothing could take it back

    def weight_at(self, now_ms: int) -> int:
        return 0 if self.until_ms is not None and now_ms >= self.until_ms else self.weight_percent


@dataclass(frozen=True, slots=True)
class Span:
    """From `from_ms` until the next span begins."""

    from_ms: int
    confirmed: Commit | None  # None: nothing is deployed
    canary: Commit | None  # None: the slot is free
    weight_percent: int
    until_ms: int | None


@dataclass
class SlotState:
    confirmed: Deployed | None = None
    canary: Deployed | None = None
    lapsed_release: int | None = None
    spans: list[Span] = field(default_factory=list)


@dataclass
class SimPlatform:
    """`Platform`, and `Hands` for its verbs."""

    clock: SimClock
    forge: SimForge
    repository: Repository
    counted: Counted = lambda _key, _verb: None
    slots: dict[Slot, SlotState] = field(default_factory=dict)
    done: dict[EffectKey, tuple[Digest, Fact]] = field(default_factory=dict)

    def slot(self, service: Service, environment: str) -> SlotState:
        return self.slots.setdefault((service, environment), SlotState())

    def tree(self, commit: Commit) -> Tree:
        return self.forge.repository(self.repository).history.of(commit).tree

    # --- what is so now ----------------------------------------------------------------------------------------------

    async def status(self, service: Service, environment: str) -> PlatformStatus:
        state, now_ms = self.slot(service, environment), self.clock.now_ms()
        canary, confirmed = state.canary, state.confirmed
        weight = canary.weight_at(now_ms) if canary else 0
        expired = canary is not None and canary.until_ms is not None and now_ms >= canary.until_ms
        until = canary.until_ms if canary and weight else None
        healthy, reason = self._health(canary) if canary else (False, "")
        return PlatformStatus(
            confirmed_commit=confirmed.commit if confirmed else None,
            confirmed_release=confirmed.release if confirmed else None,
            canary_release=canary.release if canary else None,
            canary_commit=canary.commit if canary else None,
            canary_healthy=healthy,
            canary_reason=reason,
            weight_percent=weight,
            weight_until=datetime.fromtimestamp(until / 1000, UTC) if until is not None else None,
            lapsed_release=canary.release if canary and expired else state.lapsed_release,
        )

    def _health(self, canary: Deployed) -> tuple[bool, str]:
        tree, now_ms = self.tree(canary.commit), self.clock.now_ms()
        if has(tree, "DEAD"):
            late = now_ms >= canary.started_ms + GIVES_UP_MS
            return False, "its health check answers 500" if late else ""
        if has(tree, "CRASHES") and canary.weighted_ms and now_ms >= canary.weighted_ms + CRASHES_AFTER_MS:
            return False, "its process ended with code 1"
        return now_ms >= canary.started_ms + READY_MS, ""

    # --- acting ------------------------------------------------------------------------------------------------------

    async def act(self, key: EffectKey, verb: Verb) -> Fact:
        found = await self.find(key, verb)
        if found is not None:
            return found
        result = self._do(key, verb)
        self.done[key] = (_intent(verb), result)
        return result

    async def find(self, key: EffectKey, verb: Verb) -> Fact | None:
        """None: it has not happened."""
        found = self.done.get(key)
        if found is None:
            return None
        if found[0] != _intent(verb):
            raise Permanent(f"effect key {key} was used for another intent", "Make a key of its own for every effect")
        return found[1]

    def _do(self, key: EffectKey, verb: Verb) -> Fact:
        match verb:
            case Build():
                result = self._build(verb)
            case StartCanary():
                result = self._start(verb)
            case SetWeight():
                result = self._weigh(verb)
            case ConfirmRelease():
                result = self._confirm(verb)
            case RestoreTraffic():
                result = self._restore(verb)
            case _:
                raise TypeError(f"{verb.name} is no verb of the platform")
        self.counted(key, verb)
        return result

    def _build(self, verb: Build) -> Fact:
        """The digest of what comes out: the same tree gives the same artefact, whatever commit it is of."""
        tree = self.tree(verb.commit)
        if has(tree, "UNBUILDABLE"):
            raise Permanent(f"the build of {verb.commit[:12]} ended with code 1", "Read its log")
        return Built(artefact=digest_of({"tree": tree_id(tree)}), duration_ms=1_000)

    def _start(self, verb: StartCanary) -> Fact:
        state, now_ms = self.slot(verb.service, verb.environment), self.clock.now_ms()
        held = state.canary
        wanted = Deployed(verb.release, verb.commit, verb.artefact, now_ms)
        if held is not None and (held.release, held.commit) == (verb.release, verb.commit):
            state.lapsed_release = None
            return CanaryStarted(instances=verb.instances)
        if held is not None and not (held.weight_at(now_ms) == 0 and verb.release > held.release):
            words = f"release {verb.release} cannot start: the canary slot holds release {held.release}"
            raise Permanent(words, "Restore traffic or confirm it first")
        if state.confirmed is not None and verb.release <= state.confirmed.release:
            raise Permanent(f"release {verb.release} is no newer than the confirmed one", "Open another release")
        state.canary, state.lapsed_release = wanted, None
        self._serve(state)
        return CanaryStarted(instances=verb.instances)

    def _weigh(self, verb: SetWeight) -> Fact:
        state, now_ms = self.slot(verb.service, verb.environment), self.clock.now_ms()
        canary = self._canary_of(state, verb.release)
        if state.confirmed is None and verb.weight_percent not in {0, 100}:
            raise Permanent(f"release {verb.release} is the first one", "Set its weight to 100")
        if verb.until_ms <= now_ms:
            raise Permanent(f"the weight's deadline {verb.until_ms} is not after now, {now_ms}", "Give one ahead")
        healthy, reason = self._health(canary)
        if verb.weight_percent and not healthy:
            raise Permanent(f"release {verb.release} is not healthy: {reason or 'it is starting'}", "Restore traffic")
        until = verb.until_ms if verb.weight_percent and state.confirmed else None
        weighted = canary.weighted_ms or (now_ms if verb.weight_percent else 0)
        state.canary = replace(canary, weight_percent=verb.weight_percent, until_ms=until, weighted_ms=weighted)
        state.lapsed_release = None
        self._serve(state)
        return WeightSet(weight_percent=verb.weight_percent, until_ms=verb.until_ms)

    def _confirm(self, verb: ConfirmRelease) -> Fact:
        state = self.slot(verb.service, verb.environment)
        if state.canary is None and state.confirmed is not None and state.confirmed.release == verb.release:
            return Ok()
        canary = self._canary_of(state, verb.release)
        healthy, reason = self._health(canary)
        if not healthy:
            raise Permanent(
                f"release {verb.release} cannot be confirmed: {reason or 'it is starting'}", "Restore traffic"
            )
        state.confirmed, state.canary = replace(canary, weight_percent=100, until_ms=None), None
        self._serve(state)
        return Ok()

    def _restore(self, verb: RestoreTraffic) -> Fact:
        state, now_ms = self.slot(verb.service, verb.environment), self.clock.now_ms()
        if state.confirmed is not None and state.confirmed.release == verb.release:
            raise Permanent(f"release {verb.release} is the confirmed one", "Deploy a revert as a new release")
        if state.canary is not None:
            canary = self._canary_of(state, verb.release)
            state.canary = None if verb.stop_canary else replace(canary, weight_percent=0, until_ms=None)
            self._serve(state)
        return Restored(at_ms=now_ms, health_checks=GOOD_CHECKS if state.confirmed else 0)

    def _canary_of(self, state: SlotState, release: int) -> Deployed:
        held = state.canary
        if held is None or held.release != release:
            holds = f"release {held.release} is" if held else "the slot is free"
            raise Permanent(f"release {release} is not under canary: {holds}", "Act on the release that holds the slot")
        return held

    def _serve(self, state: SlotState) -> None:
        canary, confirmed = state.canary, state.confirmed
        span = Span(
            self.clock.now_ms(),
            confirmed.commit if confirmed else None,
            canary.commit if canary else None,
            canary.weight_percent if canary else 0,
            canary.until_ms if canary else None,
        )
        state.spans.append(span)


def _intent(verb: Verb) -> Digest:
    return digest_of({"verb": verb.name, "arguments": verb.model_dump(mode="json")})
