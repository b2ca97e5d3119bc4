"""The belt for releases: see one, slow it down, take users off it. Nothing here speeds one up.

What an agent says here is an entry that the rollout's own table reads: a hold keeps a canary at its weight, a stop
takes it to the confirmed release, and `promote` takes both back. From there the numbers decide, as if nobody had
spoken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.domain.decision import Claim, Decision, decide
from controller.domain.ids import Repository
from controller.domain.rollout import Release, Rollout, RolloutPhase
from controller.history.citing import newest
from controller.ports import (
    Badge,
    Log,
    Platform,
    PlatformStatus,
    RepositoryConfig,
    ServiceConfig,
    ToolDefinition,
    ToolResult,
)
from controller.requests import AgentRequests
from tools.belt import Call, NotPossible, Tool, schema, text_schema
from tools.effects import in_plain_words, place_of
from tools.releases import Releases, under_way

MAX_REASON = 600  # characters: as much as a claim in a decision holds
NOT_STATED = 0  # percent: a stop asks for no confidence
GOING_BACK = (RolloutPhase.REGRESSED, RolloutPhase.STUCK)


@dataclass(frozen=True, slots=True)
class DeployBelt:
    platform: Platform
    log: Log
    requests: AgentRequests
    repositories: Mapping[Repository, RepositoryConfig]

    def tools(self) -> list[Tool]:
        return [
            Tool(READ_DEPLOYMENT, self.read_deployment),
            Tool(HOLD_RELEASE, self.hold_release),
            Tool(PROMOTE, self.promote),
            Tool(ROLL_BACK, self.roll_back),
        ]

    async def read_deployment(self, call: Call) -> ToolResult:
        releases, service, rollout = await self._seen(call)
        status = await self.platform.status(service.name, service.environment)
        held = await releases.held_by(rollout.current) if rollout.current else []
        return ToolResult("\n".join(_told(service, rollout, status, held)))

    async def hold_release(self, call: Call) -> ToolResult:
        _, service, rollout = await self._seen(call)
        release = under_way(rollout, service)
        if not release.deliveries:
            raise NotPossible(f"release {release.number} carries no delivery that could be held; roll_back stops it")
        decision = _holding(call.badge, service, release, await newest(self.log, call.badge.stream))
        await self.requests.hold(place_of(call), release.deliveries, call.arguments["reason"], decision)
        return ToolResult(
            f"Release {release.number} is held where it is ({rollout.weight_percent} % of users): it is shown to nobody"
            " else until `promote` takes this hold back, or a person does. A verdict to roll back still wins."
        )

    async def promote(self, call: Call) -> ToolResult:
        releases, service, rollout = await self._seen(call)
        release = under_way(rollout, service)
        place, badge = place_of(call), call.badge
        at = await newest(self.log, badge.stream)
        released = await self.requests.release(place, release.deliveries, _releasing(badge, service, release, at))
        others = await self.requests.resume(place, service.name)
        done = f"The hold of {badge.role} on release {release.number} is taken back" if released else ""
        told = [done or f"{badge.role} held nothing of release {release.number}"]
        told += [f"the service stays stopped by {', '.join(others)}: only a person lifts that"] if others else []
        held = await releases.held_by(release)
        told += [f"it stays held by {', '.join(held)}"] if held else []
        return ToolResult(
            f"{'; '.join(told)}. It goes on when its numbers say so, and no faster than without this call."
        )

    async def roll_back(self, call: Call) -> ToolResult:
        _, service, rollout = await self._seen(call)
        release = under_way(rollout, service)
        if rollout.phase in GOING_BACK:
            raise NotPossible(f"release {release.number} is {rollout.phase} already: users are being taken off it")
        if rollout.confirmed is None:
            raise NotPossible(f"release {release.number} is the first, and there is none to go back to")
        at = await newest(self.log, call.badge.stream)
        why = _stopping(service, rollout, release, call.arguments["reason"], at)
        with in_plain_words():
            stopped = await self.requests.stop(place_of(call), service.name, why)
        if not stopped:
            return ToolResult(f"{service.name} is stopped already; users are on release {rollout.confirmed.number}.")
        return ToolResult(
            f"{service.name} is stopped: all users go back to release {rollout.confirmed.number}, and release"
            f" {release.number} waits. A person lifts it with `flyball resume service:{service.name}`, or"
            f" {call.badge.role} with `promote`; then its canary begins again."
        )

    async def _seen(self, call: Call) -> tuple[Releases, ServiceConfig, Rollout]:
        releases = Releases(self.log, self.repositories)
        service = releases.service(call.badge, call.arguments["environment"])
        return releases, service, await releases.rollout(service)


def _told(service: ServiceConfig, r: Rollout, status: PlatformStatus, held: list[str]) -> list[str]:
    lines = [f"{service.name}@{service.environment}: {r.phase}"]
    confirmed = f"release {r.confirmed.number} at {r.confirmed.version[:12]}" if r.confirmed else "none yet"
    lines.append(f"confirmed: {confirmed}")
    if r.current is not None:
        carried = ", ".join(r.current.deliveries) or "no delivery"
        lines.append(f"under way: release {r.current.number} at {r.current.commit[:12]}, carrying {carried}")
        lines.append(f"canary: {_canary(status)}")
    if r.waiting is not None:
        lines.append(f"waits for {r.waiting.waits_for}: {r.waiting.reason}")
    if held:
        lines.append(f"held by {', '.join(held)}")
    if r.stuck_reason is not None:
        lines.append(f"stuck: {r.stuck_reason}")
    if r.current is not None and r.last_verdict is not None:
        lines.append(f"verdict: {r.last_verdict.sentence}")
    return lines


def _canary(status: PlatformStatus) -> str:
    if status.canary_release is None:
        return "no instance"
    until = f" until {status.weight_until.isoformat(timespec='seconds')}" if status.weight_until else ""
    health = "healthy" if status.canary_healthy else f"not healthy: {status.canary_reason or 'it is starting'}"
    return f"{status.weight_percent} % of users{until}, {health}"


def _asked(badge: Badge, what: str, at: str) -> tuple[Claim, ...]:
    return (Claim(text=f"session {badge.session} {what}", evidence=at),)


def _holding(badge: Badge, service: ServiceConfig, release: Release, at: str) -> Decision:
    return decide(
        f"Hold release {release.number} of {service.name}?",
        "hold",
        over={"let it go on": f"{badge.role} may slow a release down, and asks for it"},
        because=_asked(badge, "asks for it; its words are sealed beside", at),
        would_change="its own `promote`, or a person's `flyball release`",
        fallback="a verdict to roll back wins over any hold",
        rules=("agent/may-slow-down",),
    )


def _releasing(badge: Badge, service: ServiceConfig, release: Release, at: str) -> Decision:
    return decide(
        f"Take back the hold of {badge.role} on release {release.number} of {service.name}?",
        "take it back",
        over={"keep it": f"{badge.role} has set it, and takes it back"},
        because=_asked(badge, "takes back what its own role has said", at),
        would_change="a hold of somebody else's, which stays",
        fallback="the release goes on only as far as its numbers carry it",
        rules=("agent/takes-back-its-own", "agent/never-speeds-up"),
    )


def _stopping(service: ServiceConfig, r: Rollout, release: Release, words: str, at: str) -> Decision:
    """In the agent's own words, which go sealed."""
    verdict = r.last_verdict.sentence if r.last_verdict else "no verdict yet"
    return decide(
        f"Take users off release {release.number} of {service.name}?",
        "roll back",
        over={"leave it to the numbers": verdict},
        because=(Claim(text=words, evidence=at),),
        would_change="not stated",
        fallback="all users on the confirmed release until a person or this role lifts it",
        rules=("agent/may-slow-down",),
        confidence_percent=NOT_STATED,
    )


def _release_schema(*, reason: bool) -> Mapping[str, object]:
    environment = text_schema(minLength=1, maxLength=100)
    if not reason:
        return schema(("environment",), environment=environment)
    words = text_schema(minLength=1, maxLength=MAX_REASON)
    return schema(("environment", "reason"), environment=environment, reason=words)


READ_DEPLOYMENT = ToolDefinition(
    "read_deployment",
    "What runs in an environment: confirmed release, canary with weight and health, what it waits for, the verdict.",
    _release_schema(reason=False),
    tool_class="read",
    environment_argument="environment",
)
HOLD_RELEASE = ToolDefinition(
    "hold_release",
    "Keep the release that is under way at the share of users that it has. It goes no further while it is held.",
    _release_schema(reason=True),
    tool_class="effect",
    environment_argument="environment",
)
PROMOTE = ToolDefinition(
    "promote",
    "Take back your own role's hold and stop of the release under way, nobody else's. It then goes on as its numbers"
    " allow: this never makes a release faster than the numbers do.",
    _release_schema(reason=False),
    tool_class="effect",
    environment_argument="environment",
)
ROLL_BACK = ToolDefinition(
    "roll_back",
    "Take all users off the release under way, to the confirmed one, and stop the service's releases until a person"
    " lifts it, or your role does with promote.",
    _release_schema(reason=True),
    tool_class="effect",
    environment_argument="environment",
)
