"""Other explanations of what was seen than a change of the release, each tried and answered with its numbers. Pure.

The canary's failing traces end at an origin: the canary itself, or a service that it called. A dependency that fails
behind both arms alike explains the failures; one that fails behind the canary only is something that the canary does to
it. What fails behind both is found by the same test as a bad canary, turned round (`evidence.fail_alike`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from controller.canary.blame import Scene
from controller.canary.eprocess import TwoArms
from controller.canary.evidence import Arms, fail_alike
from controller.domain.blame import Rival
from controller.domain.counts import TraceGroup
from controller.domain.verdict import JudgeConfig, Rule, Verdict

MOST_DEPENDENCIES = 3  # looked at, those that most failures ended in
MOST_DEPLOYED = 5
SHARED_INCIDENT, STARVATION = "shared incident", "starvation"
OF_FAILURES = (Rule.ERRORS, Rule.SHARED_INCIDENT)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where failing traces ended."""

    node: str  # "service@version", or "peer@unknown"
    arms: TwoArms  # bad: those that ended here


def deepest(groups: Sequence[TraceGroup], arms: Arms) -> tuple[Origin, ...]:
    """Origins of the canary's failing traces, the most frequent first. Empty: none failed.

    An arm's own node stands for the arm, under the canary's name: what each breaks by itself is compared.
    """
    failed = Counter[str]()
    for group in groups:
        if arms.is_canary(group) and group.origin is not None:
            failed[group.origin] += group.traces
    return tuple(
        Origin(node, arms.count(groups, [group for group in groups if _ends_in(group, node, arms)]))
        for node, _ in sorted(failed.items(), key=lambda one: (-one[1], one[0]))
    )


def rivals(verdict: Verdict | None, scene: Scene, config: JudgeConfig) -> tuple[Rival, ...]:
    """`verdict=None`: nothing was counted."""
    found = deepest(scene.groups, scene.arms)
    foreign = [one for one in found if one.node not in (scene.arms.canary, scene.arms.baseline)]
    return (
        _told(_shared_incident(verdict, scene, config), verdict),
        *(_told(_dependency(one, found, scene, config), verdict) for one in foreign[:MOST_DEPENDENCIES]),
        _starvation(verdict),
        *(_told(one, verdict) for one in _deployed(found, scene, config)),
    )


def _told(rival: Rival, verdict: Verdict | None) -> Rival:
    """What explains failures does not explain another finding, such as slowness or a canary that went down."""
    if verdict is None or verdict.rule in OF_FAILURES or not rival.held:
        return rival
    reason = f"failures do not explain {verdict.rule}: {rival.reason}"
    return rival.model_copy(update={"held": False, "reason": reason[:600]})


def _ends_in(group: TraceGroup, node: str, arms: Arms) -> bool:
    if node in (arms.canary, arms.baseline):
        return group.origin in (arms.canary, arms.baseline)
    return group.origin == node


def _shared_incident(verdict: Verdict | None, scene: Scene, config: JudgeConfig) -> Rival:
    counts = scene.arms.count(scene.groups)
    alike = fail_alike(counts, scene.phi_milli, config)
    ruled = verdict is not None and verdict.rule is Rule.SHARED_INCIDENT
    if alike or ruled:
        why = (
            f"both arms fail alike: {_both(counts)}"
            if alike
            else "the judge found the baseline failing beyond its history"
        )
    else:
        why = f"the arms are not shown to fail alike: {_both(counts)}"
    return Rival(name=SHARED_INCIDENT, held=alike or ruled, reason=why)


def _dependency(one: Origin, found: Sequence[Origin], scene: Scene, config: JudgeConfig) -> Rival:
    """It explains the failures where most of the canary's end in it, and the baseline's do as often."""
    most = 2 * one.arms.canary_bad > sum(each.arms.canary_bad for each in found)
    alike = fail_alike(one.arms, scene.phi_milli, config)
    share = f"{one.arms.canary_bad} of {sum(each.arms.canary_bad for each in found)} failures of the canary end in it"
    if alike:
        why = f"{share}; it fails behind both arms alike: {_both(one.arms)}"
    elif one.arms.baseline_bad:
        why = f"{share}; it is not shown to fail behind both arms alike: {_both(one.arms)}"
    else:
        why = f"{share}; it fails behind the canary only, so the canary does it: {_both(one.arms)}"
    return Rival(name=f"dependency {one.node}"[:200], held=most and alike, reason=why)


def _starvation(verdict: Verdict | None) -> Rival:
    """Fewer requests than it was given: what arrives may be another kind of request. Never clears a change."""
    sample = verdict.sample_ratio if verdict else None
    if sample is None or sample.seen_ppm is None:
        reason = "whether the canary got its share of requests was not counted"
        return Rival(name=STARVATION, held=False, reason=reason, exculpates=False)
    held = sample.log_e_micro >= sample.threshold_micro
    got, meant = sample.seen_ppm / 10_000, sample.intended_ppm / 10_000
    seen = f"the canary got {got:.2f} % of requests, {meant:.2f} % were meant for it"
    return Rival(name=STARVATION, held=held, reason=seen, exculpates=False)


def _deployed(found: Sequence[Origin], scene: Scene, config: JudgeConfig) -> list[Rival]:
    """Versions of other services that were not there before; one explains it where traces of both arms end in it."""
    if not scene.before:
        return []
    known = {node for group in scene.before for node in group.through}
    now = {node for group in scene.groups for node in group.through}
    new = sorted(now - known - {scene.arms.canary, scene.arms.baseline})
    return [_new_version(node, found, scene, config) for node in new[:MOST_DEPLOYED]]


def _new_version(node: str, found: Sequence[Origin], scene: Scene, config: JudgeConfig) -> Rival:
    through = scene.arms.count(group for group in scene.groups if node in group.through)
    ends = next((one for one in found if one.node == node), None)
    name = f"deployment of {node}"[:200]
    if ends is None:
        why = f"it is new, and no failure of the canary ends in it: through it {_both(through)}"
        return Rival(name=name, held=False, reason=why)
    held = _dependency(ends, found, scene, config).held
    both = "it fails behind both arms alike" if held else "it is not shown to fail behind both arms alike"
    return Rival(name=name, held=held, reason=f"it is new, and {both}: {_both(ends.arms)}")


def _both(arms: TwoArms) -> str:
    return f"canary {arms.canary_bad}/{arms.canary_total}, baseline {arms.baseline_bad}/{arms.baseline_total} traces"
