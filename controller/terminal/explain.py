"""Three lines about a delivery's colour: why, on what evidence, and what would have made it another.

Everything stands in the log: the verdict's rules and numbers, and the inputs that it was made from. No policy is read,
so an old delivery is explained by the policy that it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from controller.adapters.policy_hints import HINTS, NEAREST_TO_GREEN
from controller.domain import events as e
from controller.domain.change import ChangeFacts, MutantFacts, TestFacts
from controller.domain.delivery import TERMINAL, Delivery, Phase, fold
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId
from controller.domain.risk import Colour, RiskInputs

NEXT_STEP = {
    Phase.STUCK: "look at it, then: flyball unstick {id}",
    Phase.NEW: "it begins when a controller runs: flyball serve",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    delivery: str
    phase: str
    colour: str | None  # None: it has none yet
    rules: tuple[str, ...]
    why: str
    evidence: str
    otherwise: str
    policy: str | None  # None: it has no colour yet

    @property
    def lines(self) -> tuple[str, str, str]:
        return f"{self.delivery}: {self.why}", f"evidence: {self.evidence}", f"otherwise: {self.otherwise}"


def explanation_of(delivery: DeliveryId, entries: list[Entry]) -> Explanation:
    d = fold(delivery, entries)
    risks = [entry.event for entry in entries if isinstance(entry.event, e.RiskClassified)]
    return _of_colour(d, risks[-1]) if risks else _without_colour(d)


def _of_colour(d: Delivery, risk: e.RiskClassified) -> Explanation:
    verdict = risk.verdict
    earlier = " (before it was sent back)" if d.risk is None else ""
    colour = verdict.colour.value.capitalize()
    spoke = [rule for rule in verdict.rules if rule.startswith(f"{verdict.colour.value}/")] or list(verdict.rules)
    why = f"{colour}{earlier} by {', '.join(spoke)}: {verdict.reason.partition(': ')[2]}"
    return Explanation(
        delivery=d.id,
        phase=d.phase.value,
        colour=verdict.colour.value,
        rules=verdict.rules,
        why=why,
        evidence=evidence_of(risk.inputs),
        otherwise=_otherwise(verdict.colour, verdict.rules),
        policy=verdict.policy,
    )


def _otherwise(colour: Colour, rules: tuple[str, ...]) -> str:
    if colour is Colour.GREEN:
        return f"Yellow with {', '.join(NEAREST_TO_GREEN)}; Red with a test that fails or a secret"
    objections = [rule for rule in rules if not rule.startswith("green/")]
    wanted = [HINTS.get(rule, f"{rule} had not spoken") for rule in objections]
    return f"Green if {', and '.join(wanted)}"


def evidence_of(inputs: RiskInputs) -> str:
    """In clear: numbers, paths' kinds and digests, never the author's words."""
    parts = [f"{len(inputs.files)} files, {inputs.lines_changed} lines, CI round {inputs.rounds}"]
    parts += [*_of_change(inputs.change), *_of_tests(inputs.tests), *_of_mutants(inputs.mutants)]
    return "; ".join(parts)


def _of_change(change: ChangeFacts | None) -> Iterator[str]:
    if change is None:
        yield "known by its names alone"
        return
    statuses = Counter(one.status.value for one in change.files)
    yield ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    touched = Counter(one.rule.partition("/")[2].replace("-", " ") for one in change.tests_touched)
    yield "tests: " + (", ".join(f"{count} {what}" for what, count in sorted(touched.items())) or "none touched")
    for words, found in (
        ("tests that prove less", change.weakened),
        ("dependencies", change.dependencies),
        ("irreversible steps", change.irreversible),
        ("secrets", change.secrets),
        ("interfaces removed", change.interfaces_removed),
        ("owned paths", change.owned),
        ("unread", change.unread),
    ):
        if found:
            yield f"{len(found)} {words}"


def _of_tests(tests: TestFacts | None) -> Iterator[str]:
    if tests is None:
        return
    yield f"{tests.ran} tests ran, {tests.skipped} skipped, the base's own {tests.base_verdict.value.replace('_', ' ')}"
    yield f"changed files executed: {tests.executed.value.replace('_', ' ')}"
    if tests.lines_changed is not None and tests.lines_covered is not None:
        yield f"{tests.lines_covered} of {tests.lines_changed} changed lines run"


def _of_mutants(mutants: MutantFacts | None) -> Iterator[str]:
    if mutants is None:
        return
    share = mutants.share_killed
    ended = mutants.killed + mutants.survived
    if share is not None:
        yield f"mutants: {mutants.killed} of {ended} mutants noticed"
        return
    within = f"of {mutants.possible} none came to an end within {mutants.budget_ms // 1000} s"
    yield f"mutants: not measured ({mutants.why_not or within})"


def _without_colour(d: Delivery) -> Explanation:
    waits = f", waiting for {d.waiting.waits_for}: {d.waiting.reason}" if d.waiting else ""
    ended = f": {d.end_reason}" if d.end_reason else ""
    known = f"{d.rounds} CI rounds, {len(d.heads)} heads" if d.heads else "no change has been authored"
    default = "nothing is left to do" if d.phase in TERMINAL else "it gets a colour once CI has passed: flyball serve"
    return Explanation(
        delivery=d.id,
        phase=d.phase.value,
        colour=None,
        rules=(),
        why=f"no colour, it is {d.phase.value}{ended}{waits}",
        evidence=known,
        otherwise=NEXT_STEP.get(d.phase, default).format(id=d.id),
        policy=None,
    )
