"""A part of CHECKED: whether the change's tests notice when its lines are broken.

Asked only of a change that would land by itself, and answered by a run in CI's sandbox that costs no round. Nothing
here stops a delivery: a run that cannot be had, broke or is overdue is `measured=False` with the reason, and policy
decides what that is worth.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from controller.domain import events as e
from controller.domain.change import MutantFacts
from controller.domain.decision import Claim, Decision, at_commit, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, delivery_stream
from controller.domain.verbs import StartRun
from controller.history.citing import newest
from controller.mutants.lines import is_source
from controller.ports import CiRun, Done, Failed, Ports, Unknown
from controller.steps.common import draft, overdue, unsettled, wait

AGENT = "checker"
LANGUAGES = frozenset({".py"})
CODE = frozenset(
    [
        ".c",
        ".cc",
        ".cpp",
        ".cs",
        ".ex",
        ".go",
        ".java",
        ".js",
        ".jsx",
        ".kt",
        ".mjs",
        ".php",
        ".pl",
        ".rb",
        ".rs",
        ".scala",
        ".sh",
        ".swift",
        ".ts",
        ".tsx",
    ]
)  # languages with tests of their own, and without a mutator here
NAMED = 5  # of them, in words


async def mutants(d: Delivery, ports: Ports) -> MutantFacts | list[Draft]:
    """The fact, once there is one; until then what to append, which is nothing while a run goes on."""
    if d.change is None or d.ci is None or d.asked.cause is e.Cause.REVERT:
        return not_measured("mutants/reverted: what is brought back has been judged before")
    if (missing := _no_mutator(d.change.files)) is not None:
        return missing
    if d.mutants_started is None:
        return await _start(d, ports, d.ci)
    if (waiting := await under_way(d, ports)) is not None:
        return waiting
    return _ended(ports, await ports.ci.run(d.mutants_started.run))


async def under_way(d: Delivery, ports: Ports) -> list[Draft] | None:
    """What to append while a run goes on: mostly nothing. None: there is none, or it has ended, or is overdue."""
    run = await ports.ci.run(d.mutants_started.run) if d.mutants_started else None
    if run is None or run.state not in ("queued", "running") or overdue(d, ports):
        return None
    reason = f"mutants of the change, run {run.run}"
    return wait(d, ports, e.WaitsFor.CI, on=None, seconds=ports.bounds.ci_seconds, reason=reason)


def not_measured(why: str) -> MutantFacts:
    return MutantFacts(measured=False, why_not=why)


def words_of(found: MutantFacts) -> str:
    """In clear: numbers, or a rule id of ours."""
    if not found.measured:
        return f"its mutants were not measured: {found.why_not}"
    late = f", and {found.timed_out} came to no end" if found.timed_out else ""
    return f"the tests noticed {found.killed} of {found.killed + found.survived} mutants of {found.possible}{late}"


def _no_mutator(files: tuple[str, ...]) -> MutantFacts | None:
    """None: something of the change is in a language that can be mutated."""
    suffixes = {PurePosixPath(path).suffix for path in files if PurePosixPath(path).suffix not in LANGUAGES}
    if any(PurePosixPath(path).suffix in LANGUAGES and is_source(path) for path in files):
        return None
    if known := sorted(suffixes & CODE):
        return not_measured(f"mutants/language: no mutator for {', '.join(known[:NAMED])}")
    return not_measured("mutants/nothing: no source file has changed")


async def _start(d: Delivery, ports: Ports, ci: e.CiReported) -> MutantFacts | list[Draft]:
    attempt = d.unstuck + 1
    verb = StartRun(repository=d.repository, commit=ci.tested, attempt=attempt, base=ci.base, purpose="mutants")
    key = EffectKey(f"mutants/{d.repository}/{ci.tested}/{ci.base}/{attempt}")
    stream = delivery_stream(d.id)
    decision = _decision(d, ci, await newest(ports.log, stream)).under(ports.caller.policy)
    outcome = await ports.gate.act(AGENT, verb, key=key, decision=decision, subject=stream)
    match outcome:
        case Done(result):
            started = e.MutantsStarted(head=ci.head, base=ci.base, tested=ci.tested, run=result.run)
            return [draft(d, started)]
        case Failed() | Unknown():
            return not_measured("mutants/not-started: CI could not start the run")
        case _:
            return await unsettled(d, ports, outcome) or []


def _ended(ports: Ports, run: CiRun | None) -> MutantFacts:
    if run is None:
        return not_measured("mutants/lost: CI does not know the run any more")
    if run.state in ("queued", "running"):
        return not_measured(f"mutants/overdue: no result within {ports.bounds.ci_seconds} s")
    return run.mutants or not_measured("mutants/broken: the run ended without a result")


def _decision(d: Delivery, ci: e.CiReported, as_it_stands: str) -> Decision:
    return decide(
        f"Run mutants of {ci.head[:12]} against its tests?",
        "run",
        over={"trust the tests": f"{ci.tests} tests passed, and nobody knows what they would notice"},
        because=(
            Claim(text=f"everything else about {d.id} is green", evidence=as_it_stands),
            Claim(text="this is what was tested", evidence=at_commit(ci.tested)),
        ),
        would_change="another colour, or a language without a mutator",
        fallback="not measured, which policy may ask a person about",
        rules=("checker/mutants",),
    )
