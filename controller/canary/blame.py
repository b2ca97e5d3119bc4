"""Whose change it was, among several that users met in the same release. Pure: integers in, integers out.

*Veto.* A change that no user met before the first failure cannot have done it, nor can one that touched nothing that
runs. *Evidence.* For each other one, an e-value: failures that passed through its files, canary against baseline
(`evidence`), tempered by phi; what an earlier split has brought is multiplied in, as the canaries are independent.
*Prior.* By size, by risk, and three times as much for whoever stands innermost on most failing stacks. *Posterior.*
Evidence times prior, normalised.

An e-value says that requests through these files fail more on the canary. It does not say that the change did it: a
fault elsewhere may break there (a wrong value returned, a setting, a table), however many requests show it. So evidence
counts only up to the odds of that: (1 - off) / (off * by_chance), `off` being how often a faulty change stands on none
of its failing stacks, `by_chance` how often this change's files stand on stacks that have nothing to do with it. A
change with files that cannot stand on a stack is likelier to be off it, and counts for as much against the others.

A change is reverted alone only when most of its failures break in a file of its own (what breaks below may have been
handed wrong by anything), and when it leads by posterior and by evidence: a prior may hold a blame back and never makes
one. Else they go out again in halves (`first_half`), each canary with its share of alpha: in a batch of B at most
ceil(log2 B) canaries carry no culprit, so dividing alpha by that many keeps the budget of the whole batch.

Numbers that are assumed and not measured: `OFF_STACK_PPM`, `MIXED_OFF_STACK_PPM`, `CHANCE`, `DEPTH`, `RISK`. Size goes
by its logarithm, as in Kamei et al., IEEE TSE 39(6), 2013, where churn, log-transformed, predicts faulty changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controller.canary.eprocess import MICRO, threshold_micro
from controller.canary.evidence import NOBODY, Arms, Standing, standings, worse_micro
from controller.domain.blame import Blame, Candidate, Rival, Share
from controller.domain.counts import TraceGroup
from controller.domain.ids import DeliveryId
from controller.domain.risk import Colour
from controller.domain.verdict import JudgeConfig

OFF_STACK_PPM = 100_000  # assumed: of faulty changes of code, those that stand on none of their failing stacks
MIXED_OFF_STACK_PPM = 500_000  # assumed: the same, where it also changed files that cannot stand on a stack
CHANCE = (1, 5)  # before anything is seen, an innocent file stands on one failing stack in five
DEPTH = 8  # innermost on most failing stacks; below the lead that clears by default, so depth alone never does
RISK = {Colour.GREEN: 1, Colour.YELLOW: 2, Colour.RED: 3}  # weights of ours: no history tells them yet
MOST_CANDIDATES = 200  # of `Blame`
MOST_FILES = 50  # of `Candidate`
ON_STACKS = (".py", ".js", ".mjs", ".cjs", ".ts", ".jsx", ".tsx", ".java", ".kt", ".scala", ".go")
RUNS_NOTHING = (".md", ".rst", "_test.py", "_test.go", ".test.js", ".test.ts", ".spec.js", ".spec.ts")
FOLDERS_THAT_RUN_NOTHING = frozenset({"tests", "test", "docs", "doc"})


@dataclass(frozen=True, slots=True)
class Suspected:
    """One change of the release, as its delivery knows it."""

    delivery: DeliveryId
    files: tuple[str, ...]
    lines: int
    colour: Colour
    exposed_since_ms: int | None  # None: no user has met it
    log_e_micro: int = 0  # from an earlier split

    @property
    def runs(self) -> bool:
        return not self.files or not all(map(_runs_nothing, self.files))

    @property
    def off_stack_ppm(self) -> int:
        """How often a change like this, being at fault, stands on none of its failing stacks."""
        running = [file for file in self.files if not _runs_nothing(file)]
        seen = [file for file in running if file.endswith(ON_STACKS)]
        if not seen:
            return MICRO
        return OFF_STACK_PPM if len(seen) == len(running) else MIXED_OFF_STACK_PPM


@dataclass(frozen=True, slots=True)
class Scene:
    """What was seen of the release while users met it."""

    arms: Arms
    groups: Sequence[TraceGroup]
    phi_milli: int
    onset_ms: int | None  # first failure of the canary. None: none is known
    before: Sequence[TraceGroup] = ()  # of the confirmed release before the canary: what fails anyway, and where


@dataclass(frozen=True, slots=True)
class _Weighed:
    one: Suspected
    standing: Standing
    veto: str
    log_e_micro: int
    score: float  # what its evidence counts for, natural log
    prior: int


def blame(candidates: Sequence[Suspected], scene: Scene, rivals: Sequence[Rival], config: JudgeConfig) -> Blame:
    """`candidates` without reverts, unless there is nothing else; neither their order nor the groups' matters."""
    weighed = _weighed(candidates, scene, config)
    possible = [one for one in weighed if not one.veto]
    ranked = _ranked(weighed)
    share, culprit, reason = _decide(ranked, possible, rivals, config)
    return Blame(share=share, culprit=culprit, candidates=tuple(ranked[:MOST_CANDIDATES]), reason=reason[:600])


def first_half(suspects: Sequence[DeliveryId]) -> tuple[DeliveryId, ...]:
    """Of those that remain, in landing order, the ones that go out next. With two or more it is smaller than they."""
    return tuple(suspects[: -(-len(suspects) // 2)])


def split_alpha_ppm(alpha_ppm: int, batch: int) -> int:
    """Of one canary while a batch of so many is being split."""
    return max(1, alpha_ppm // max(1, (batch - 1).bit_length()))


def _weighed(candidates: Sequence[Suspected], scene: Scene, config: JudgeConfig) -> list[_Weighed]:
    """By name. A veto that would leave nobody is none: something did it."""
    changed: dict[str, Sequence[str]] = {one.delivery: one.files for one in candidates}
    found = standings(changed, scene.groups, scene.arms)
    usual = standings(changed, _usual(scene), scene.arms)
    failing = scene.arms.count(_usual(scene)).baseline_bad
    vetoes = {one.delivery: _veto(one, scene.onset_ms) for one in candidates}
    if all(vetoes.values()):
        vetoes = dict.fromkeys(vetoes, "")
    reached = {
        one.delivery: one.log_e_micro + worse_micro(found[one.delivery].arms, scene.phi_milli, config)
        for one in candidates
    }
    elsewhere = worse_micro(found[NOBODY].arms, scene.phi_milli, config)
    most = max([elsewhere, *(reached[name] for name, veto in vetoes.items() if not veto)]) / MICRO
    innermost = sum(standing.deepest for standing in found.values())
    return [
        _Weighed(
            one,
            found[one.delivery],
            vetoes[one.delivery],
            reached[one.delivery],
            _score(one, found[one.delivery], reached[one.delivery], most, _by_chance(usual[one.delivery], failing)),
            _prior(one) * (DEPTH if 2 * found[one.delivery].deepest > innermost else 1),
        )
        for one in sorted(candidates, key=lambda one: one.delivery)
    ]


def _veto(one: Suspected, onset_ms: int | None) -> str:
    """Why it cannot have been. Empty: it can."""
    if onset_ms is not None and (one.exposed_since_ms is None or one.exposed_since_ms > onset_ms):
        return "no user had met it when the first request failed"
    return "" if one.runs else "it changed only tests and documents"


def _usual(scene: Scene) -> list[TraceGroup]:
    """Traces that have nothing to do with the release, in which something fails now and then all the same."""
    return [group for group in (*scene.before, *scene.groups) if scene.arms.is_canary(group) is False]


def _by_chance(usual: Standing, failing: int) -> float:
    """How often files of a change stand on stacks of failures that it has nothing to do with, by what failed before."""
    return (CHANCE[0] + usual.arms.baseline_bad) / (CHANCE[1] + failing)


def _score(one: Suspected, standing: Standing, log_e_micro: int, most: float, by_chance: float) -> float:
    """Natural log of what the evidence counts for, beside a change of code that is on no failing stack (0).

    Bounded for those on a stack; for those that need not be on one, at most as much as anything else has (`most`).
    """
    off = OFF_STACK_PPM / MICRO
    if log_e_micro or standing.arms.canary_bad:
        on_stack = max(off, 1 - one.off_stack_ppm / MICRO)
        return min(log_e_micro / MICRO, math.log(on_stack / (off * by_chance)))
    return min(math.log(one.off_stack_ppm / MICRO / off), max(0.0, most))


def _prior(one: Suspected) -> int:
    return RISK[one.colour] * (one.lines + 1).bit_length()


def _ranked(weighed: Sequence[_Weighed]) -> list[Candidate]:
    """Likeliest first; the vetoed last."""
    priors = sum(one.prior for one in weighed if not one.veto)
    logs = [math.log(one.prior) + one.score for one in weighed if not one.veto]
    top = max(logs, default=0.0)
    mass = math.fsum(math.exp(log - top) for log in logs)
    found = [
        Candidate(
            delivery=one.one.delivery,
            log_e_micro=one.log_e_micro,
            prior_ppm=0 if one.veto else one.prior * MICRO // priors,
            posterior_ppm=0 if one.veto else round(MICRO * math.exp(math.log(one.prior) + one.score - top) / mass),
            lines=one.one.lines,
            files=one.standing.files[:MOST_FILES],
            exposed=one.standing.arms.canary_bad,
            broke=one.standing.broke,
            veto=one.veto,
            counts_micro=0 if one.veto else math.floor(one.score * MICRO),
        )
        for one in weighed
    ]
    return sorted(found, key=lambda one: (bool(one.veto), -one.posterior_ppm, -one.log_e_micro, one.delivery))


def _decide(
    ranked: Sequence[Candidate], possible: Sequence[_Weighed], rivals: Sequence[Rival], config: JudgeConfig
) -> tuple[Share, DeliveryId | None, str]:
    """Ranked ones that are not vetoed come first."""
    if not possible:
        return Share.SHARED, None, "the release carries no change"
    top = ranked[0]
    if len(possible) == 1:
        return Share.CLEAR, top.delivery, f"{top.delivery} is the only change that can have done it"
    words = _words(ranked)
    held = next((rival for rival in rivals if rival.held and rival.exculpates), None)
    if _stands_out(top, ranked[1 : len(possible)], config, proven=held is not None):
        return Share.CLEAR, top.delivery, words
    if held is not None:
        return Share.SHARED, None, f"{held.name}: {held.reason}"
    return Share.SPLIT, None, f"no change stands out: {words}"


def _stands_out(top: Candidate, others: Sequence[Candidate], config: JudgeConfig, *, proven: bool) -> bool:
    """By posterior, and by evidence alone. `proven`: against another explanation that holds, at the judge's alpha."""
    lead = config.blame_lead_milli
    next_ppm, next_micro = max(one.posterior_ppm for one in others), max(one.counts_micro for one in others)
    needed_micro = math.ceil(math.log(lead / 1000) * MICRO)
    if proven and top.log_e_micro < threshold_micro(config.alpha_ppm):
        return False
    return (
        top.log_e_micro > 0
        and 2 * top.broke > top.exposed
        and top.posterior_ppm >= config.blame_posterior_ppm
        and top.posterior_ppm * 1000 >= lead * next_ppm
        and top.counts_micro - max(0, next_micro) >= needed_micro
    )


def _words(ranked: Sequence[Candidate]) -> str:
    first, second = ranked[0], ranked[1]
    files = ", ".join(first.files[:3]) or "none of its files"
    return (
        f"{first.delivery} {first.posterior_ppm / 10_000:.1f} % against {second.delivery} "
        f"{second.posterior_ppm / 10_000:.1f} %; {first.exposed} failures of the canary passed through {files}, "
        f"log E {first.log_e_micro / MICRO:.2f} against {second.log_e_micro / MICRO:.2f}"
    )


def _runs_nothing(file: str) -> bool:
    folders, name = file.split("/")[:-1], file.rpartition("/")[2]
    return name.startswith("test_") or file.endswith(RUNS_NOTHING) or not FOLDERS_THAT_RUN_NOTHING.isdisjoint(folders)
