"""CHECKED: the colour of the change, by versioned policy from facts. No model has a say."""

from __future__ import annotations

from controller.canary.slower import slower_ones
from controller.domain import events as e
from controller.domain.benchmark import SlowerBenchmark
from controller.domain.control import by_agent
from controller.domain.decision import Claim, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import delivery_stream
from controller.domain.risk import Colour, RiskInputs
from controller.errors import Permanent
from controller.history.benchmarks import landings, series
from controller.history.citing import newest_of
from controller.ports import Ports
from controller.steps.common import draft
from controller.steps.mutants import mutants, under_way, words_of

WHY_NOT = {
    Colour.GREEN: "a rule asks for more care",
    Colour.YELLOW: "no rule asks for a person, or a rule forbids it outright",
    Colour.RED: "no rule forbids it",
}


async def classify(d: Delivery, ports: Ports) -> list[Draft]:
    if (waiting := await under_way(d, ports)) is not None:
        return waiting
    inputs, stream = await inputs_of(d, ports), delivery_stream(d.id)
    changed = await newest_of(ports.log, stream, e.ChangeAuthored, e.SentBack)
    tested = await newest_of(ports.log, stream, e.CiReported)
    broken = await newest_of(ports.log, stream, e.MutantsStarted, e.CiReported)
    verdict = await ports.policy.classify(inputs)
    if verdict.colour is Colour.GREEN and d.asked.cause is not e.Cause.REVERT:
        found = await mutants(d, ports)
        if isinstance(found, list):
            return found
        inputs = inputs.model_copy(update={"mutants": found})
        verdict = await ports.policy.classify(inputs)
    decision = decide(
        f"Which colour is {d.id}?",
        verdict.colour.value,
        over={colour.value: WHY_NOT[colour] for colour in Colour if colour is not verdict.colour},
        because=(
            Claim(text=verdict.reason, evidence=changed),
            Claim(text=f"the tests passed: {inputs.tests_passed}, in round {inputs.rounds}", evidence=tested),
            *([Claim(text=words_of(inputs.mutants), evidence=broken)] if inputs.mutants else []),
        ),
        would_change="other files, more lines, no tests, taint, a slower benchmark, or another policy version",
        fallback="yellow waits for a person, red goes back to its author",
        rules=verdict.rules,
        policy=verdict.policy,
    )
    return [draft(d, e.RiskClassified(inputs=inputs, verdict=verdict, decision=decision))]


async def slower_than_landed(d: Delivery, ports: Ports) -> tuple[SlowerBenchmark, ...]:
    """Of what CI measured on this head. A head without benchmarks costs no look at the others."""
    if d.ci is None or not d.ci.benchmarks:
        return ()
    return slower_ones(d.ci.benchmarks, series(await landings(ports.log, d.repository, d.branch)))


async def inputs_of(d: Delivery, ports: Ports) -> RiskInputs:
    """What the colour depends on: facts of what was tested, as both trees and CI tell them.

    Raises Permanent before it was checked.
    """
    change, ci = d.change, d.ci
    if change is None or ci is None:
        raise Permanent(f"{d.id} is checked without a change or a CI report", "Run `flyball log verify`")
    facts = await ports.facts.of(d.repository, ci.base, ci.tested, await ports.seals.open(d.task))
    return RiskInputs(
        cause=d.asked.cause.value,
        files=tuple(one.path for one in facts.files),
        lines_changed=facts.lines_changed,
        tests_passed=ci.passed,
        tests_added=facts.tests_added,
        tainted=d.tainted,
        rounds=d.rounds,
        asked_by_agent=by_agent(d.asked.asked_by),
        slower_benchmarks=await slower_than_landed(d, ports),
        change=facts,
        tests=ci.facts,
    )
