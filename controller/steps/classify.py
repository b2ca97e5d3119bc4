"""CHECKED: the colour of the change, by versioned policy from facts. No model has a say."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.control import by_agent
from controller.domain.decision import Claim, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.risk import Colour, RiskInputs
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import draft

WHY_NOT = {
    Colour.GREEN: "a rule asks for more care",
    Colour.YELLOW: "no rule asks for a person, or a rule forbids it outright",
    Colour.RED: "no rule forbids it",
}


async def classify(d: Delivery, ports: Ports) -> list[Draft]:
    change, ci = d.change, d.ci
    if change is None or ci is None:
        raise Permanent(f"{d.id} is checked without a change or a CI report", "Run `flyball log verify`")
    inputs = RiskInputs(
        cause=d.asked.cause.value,
        files=change.files,
        lines_changed=change.lines_changed,
        tests_passed=ci.passed,
        tests_added=any(_is_test(path) for path in change.files),
        tainted=d.tainted,
        rounds=d.rounds,
        asked_by_agent=by_agent(d.asked.asked_by),
    )
    verdict = await ports.policy.classify(inputs)
    decision = decide(
        f"Which colour is {d.id}?",
        verdict.colour.value,
        over={colour.value: WHY_NOT[colour] for colour in Colour if colour is not verdict.colour},
        because=(
            Claim(text=verdict.reason, evidence=f"commit {change.head}"),
            Claim(
                text=f"{ci.tests} tests passed on {ci.tested[:12]} (run {ci.run})",
                evidence=f"blob {ci.log.digest}",
                digest=ci.log.digest,
            ),
        ),
        would_change="other files, more lines, no tests, taint, or another policy version",
        fallback="yellow waits for a person, red goes back to its author",
        rules=verdict.rules,
    )
    return [draft(d, e.RiskClassified(inputs=inputs, verdict=verdict, decision=decision))]


def _is_test(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.startswith("test_") or name.endswith("_test.py") or "/tests/" in f"/{path}"
