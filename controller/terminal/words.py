"""An entry of the log as a line for people. What nobody needs to read is silent here and stands in `flyball show`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.markup import escape

from controller.canary.evidence_words import recovery_words
from controller.domain import events as e
from controller.domain.benchmark import in_units
from controller.domain.entry import Entry
from controller.domain.ids import kind_of, rest_of
from controller.domain.money import usd
from controller.domain.sealed import Sealed
from controller.errors import Permanent
from controller.ports import Seals
from controller.terminal.rules import in_words

Tone = Literal["plain", "good", "bad", "care", "quiet"]
DETAIL_CHARS = 400
NAMED_BENCHMARKS = 6
ERASED = "(this text has been erased)"


@dataclass(frozen=True, slots=True)
class Line:
    about: str  # delivery, service or session
    text: str
    tone: Tone = "plain"
    detail: str = ""  # a second line: the reason
    loud: bool = True  # False: shown only on request


async def line_of(entry: Entry, seals: Seals) -> Line | None:  # noqa: PLR0911 - one flat table of streams
    """None: nothing that a person watching wants to hear."""
    event, about = entry.event, rest_of(entry.stream)
    if not isinstance(event, e.Event):
        return Line(about, f"an entry of a newer Flyball ({event.kind})", "care")
    match kind_of(entry.stream):
        case "delivery":
            return await _delivery(about, event, seals)
        case "session":
            return _session(about, event)
        case "queue":
            return await _queue(about, event, seals)
        case "rollout":
            return await _rollout(about, event, seals)
        case "effect":
            return await _effect(event, seals)
        case "people":
            return _person(about, event)
        case _:
            return _turned_away(event) if isinstance(event, e.DoorRefusals) else _control(event)


def plain(text: str) -> str:
    """Without control characters: what others wrote must not move the cursor, nor rename the window."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def shown(text: str) -> str:
    """Text as it is, whatever it says: no control characters, and nothing in it is markup."""
    return escape(plain(text))


async def opened(sealed: Sealed, seals: Seals) -> str:
    try:
        return await seals.open(sealed)
    except Permanent:
        return ERASED


async def _delivery(about: str, event: e.Event, seals: Seals) -> Line | None:  # noqa: C901, PLR0911, PLR0912 - as below
    match event:
        case e.TaskRequested():
            first = (await opened(event.task, seals)).strip().splitlines()[0]
            words = {"task": "asked for", "revert": "revert asked for", "fix": "fix asked for"}[event.cause.value]
            return Line(about, f"{words}: {first}")
        case e.TaskAccepted():
            return Line(
                about,
                f"accepted, may cost {usd(event.budget_micro_usd)}",
                "quiet",
                event.decision.claims[0].text,
                loud=False,
            )
        case e.Waited():
            return Line(about, f"waits for {event.waits_for}: {event.reason}", "quiet", loud=False)
        case e.ChangeAuthored():
            by = f"{event.model} ({event.label})" if event.model else "code, without a model"
            size = f"{event.lines_changed} lines, {usd(event.cost_micro_usd)}"
            return Line(about, f"authored by {by}: {', '.join(event.files)} ({size})")
        case e.PullRequestOpened():
            return Line(about, f"pull request #{event.number}")
        case e.CiStarted():
            return Line(about, f"CI on {event.head[:10]} merged onto {event.base[:10]}", "quiet", loud=False)
        case e.MutantsStarted():
            return Line(about, f"mutants of {event.head[:10]} against its tests", "quiet", loud=False)
        case e.CiReported():
            return await _ci(about, event, seals)
        case e.RiskClassified():
            tone: Tone = {"green": "good", "yellow": "care", "red": "bad"}[event.verdict.colour.value]  # type: ignore[assignment]
            return Line(about, event.verdict.reason[0].upper() + event.verdict.reason[1:], tone)
        case e.ApprovalRequested():
            return Line(
                about, "waits for a person's consent", "care", f"flyball approve {about}  |  flyball reject {about}"
            )
        case e.Cleared():
            own = ", who asked for it (self-approved)" if event.self_approved else ""
            return Line(about, f"cleared by {event.approver}{own}", "quiet", loud=event.self_approved)
        case e.SentBack():
            return Line(about, f"back to {event.to}: {event.reason}", "care", await _detail(event.detail, seals))
        case e.Merged():
            return Line(about, f"merged as {event.commit[:10]}", "good")
        case e.RolloutJoined():
            return Line(about, f"rides in release {event.release}", "quiet", loud=False)
        case e.ReleaseLive():
            return Line(about, f"live in release {event.release}", "quiet", loud=False)
        case e.DeliveryConfirmed():
            return Line(about, "CONFIRMED", "good", event.reason)
        case e.DeliveryRegressed():
            return Line(about, f"REGRESSED in release {event.release}", "bad")
        case e.RolledBack():
            return Line(
                about, f"rolled back to {event.to_commit[:10]}, health verified {event.health_checks} times", "care"
            )
        case e.WentAgain():
            return Line(about, f"goes again: {event.reason}", "care")
        case e.HandedOver():
            return Line(about, f"handed over: {event.revert} reverts it, {event.fix or 'a person'} fixes it", "care")
        case e.Abandoned():
            return Line(about, f"given up: {event.reason}", "bad", await _detail(event.detail, seals))
        case e.Superseded():
            return Line(about, f"superseded by {event.by}", "care")
        case e.StepFailed():
            words = f"{event.step} failed (attempt {event.attempt})"
            return Line(about, words, "care", await _reason(event.error, event.detail, seals))
        case e.Stuck():
            return Line(about, "STUCK: a person must look", "bad", await _reason(event.reason, event.detail, seals))
        case e.Unstuck():
            return Line(about, f"let go on by {event.by}", "care")
        case _:
            return None


async def _detail(sealed: Sealed | None, seals: Seals) -> str:
    """What others said, on one line. Empty: nothing."""
    return " ".join((await opened(sealed, seals)).split())[:DETAIL_CHARS] if sealed else ""


async def _reason(reason: str, sealed: Sealed | None, seals: Seals) -> str:
    said = await _detail(sealed, seals)
    return f"{reason}: {said}" if said else reason


async def _ci(about: str, event: e.CiReported, seals: Seals) -> Line:
    seconds = (event.finished_at - event.started_at).total_seconds()
    words = f"CI round {event.round}: {event.tests} tests in {seconds:.1f} s ({event.isolation})"
    if event.passed:
        return Line(about, f"{words}, all passed", "good", _measured(event))
    failed = event.failures[:5]
    names = [await opened(one.name, seals) if one.name else one.test for one in failed]
    return Line(about, f"{words}, {len(event.failures)} failed", "bad", ", ".join(names))


def _measured(event: e.CiReported) -> str:
    """Empty: no test recorded a benchmark."""
    named = [f"{one.name} {in_units(one.value_micro)}" for one in event.benchmarks[:NAMED_BENCHMARKS]]
    more = len(event.benchmarks) - len(named)
    return ", ".join([*named, *([f"and {more} more"] if more else [])])


def _session(about: str, event: e.Event) -> Line | None:
    match event:
        case e.SessionStarted():
            return Line(about, f"agent {event.role} begins with {event.model} ({event.label})", "quiet")
        case e.TurnRecorded():
            calls = ", ".join(call.tool + ("" if call.allowed else " (refused)") for call in event.calls)
            return Line(about, f"turn {event.turn}: {calls or 'no tools'}", "quiet")
        case e.CallRefused():
            return Line(about, f"REFUSED {event.tool}: {in_words(event.rules)}", "bad", "nothing was changed")
        case e.SessionResumed():
            return Line(about, f"taken up again at turn {event.turn}: {event.reason}", "care")
        case e.SessionEnded():
            tone: Tone = "quiet" if event.outcome == "done" else "care"
            return Line(
                about,
                f"agent {event.outcome} after {event.turns} turns ({usd(event.cost_micro_usd)}): {event.reason}",
                tone,
            )
        case _:
            return None


async def _queue(about: str, event: e.Event, seals: Seals) -> Line | None:  # noqa: PLR0911 - one flat table of words
    match event:
        case e.LandingPlanned():
            return Line(
                about,
                f"landing {event.landing}: {', '.join(event.deliveries)} in the {event.lane} lane",
                "quiet",
                loud=False,
            )
        case e.LandingChecked():
            how = "the very same commit was green for its pull request" if event.reused else f"run {event.run}"
            return Line(
                about,
                f"landing {event.landing} {'green' if event.passed else 'red'} ({how})",
                "quiet" if event.passed else "bad",
            )
        case e.Landed():
            where, how = about.partition("@")[2], "verified" if event.verified else "NOT VERIFIED"
            tone: Tone = "good" if event.verified else "bad"
            return Line(about, f"landing {event.landing} is {where} now, {how}", tone, loud=not event.verified)
        case e.LandingDoubted():
            words = f"landing {event.landing} IS NOT VERIFIED ({', '.join(event.doubts)}): {event.proposal}"
            return Line(about, words, "bad")
        case e.LandingVoided():
            words = f"landing {event.landing} is void: {event.reason}"
            return Line(about, words, "care", await _detail(event.detail, seals))
        case e.Evicted():
            words = f"{event.delivery} leaves the line: {event.reason}"
            return Line(about, words, "care", await _detail(event.detail, seals))
        case _:
            return None


async def _rollout(about: str, event: e.Event, seals: Seals) -> Line | None:  # noqa: C901, PLR0911, PLR0912 - one flat table of words
    match event:
        case e.ReleaseOpened():
            against = f"against release {event.against}" if event.against else "the first one"
            return Line(about, f"release {event.release} of {event.commit[:10]}, {against}")
        case e.ArtefactBuilt():
            how = f" ({event.isolation})" if event.isolation else ""
            words = f"release {event.release} built in {event.duration_ms} ms: {event.artefact[:19]}{how}"
            return Line(about, words, "quiet")
        case e.NothingToDeploy():
            return Line(about, f"release {event.release}: nothing to deploy", "good", event.reason)
        case e.CanaryReady():
            return Line(about, f"canary of release {event.release} is healthy", "quiet", "; ".join(event.caveats))
        case e.StepStarted():
            return Line(about, f"{event.weight_percent} % of traffic to release {event.release}")
        case e.Observed():
            return Line(about, canary_line(event), "quiet")
        case e.Waited():
            passing = event.waits_for is e.WaitsFor.EFFECT
            tone: Tone = "quiet" if passing else "care"
            return Line(about, f"waits for {event.waits_for}: {event.reason}", tone, loud=not passing)
        case e.StepPassed():
            return Line(about, f"step passed: {event.reason}", "good", loud=False)
        case e.RegressionFound():
            return Line(
                about,
                f"release {event.release} hurts users at {event.weight_percent} %: roll back",
                "bad",
                await _reason(event.reason, event.detail, seals),
            )
        case e.TrafficRestored():
            words = f"all traffic on release {event.to_release}, health verified {event.health_checks} times"
            return Line(about, words, "good", event.blame.reason if event.blame else "")
        case e.RecoveryVerified():
            tone = "good" if event.recovered else "care"
            return Line(about, f"release {event.release} is rolled back; {event.reason}", tone, recovery_words(event))
        case e.RecoveryFailed():
            return Line(about, f"users go on being hurt: {event.reason}", "bad", recovery_words(event))
        case e.AlarmRaised():
            return Line(about, f"alarm {event.what}: a person must look", "bad", event.reason)
        case e.ReleaseRetried():
            return Line(about, f"release {event.release} is judged anew: {event.by} asked for another try", "care")
        case e.WeightLapsed():
            return Line(
                about,
                f"nobody renewed the weight of release {event.release}: the platform took the traffic back",
                "care",
            )
        case e.ReleasePaused():
            words = f"release {event.release} pauses, traffic is on the confirmed one: {event.reason}"
            return Line(about, words, "care", await _detail(event.detail, seals))
        case e.ReleaseResumed():
            return Line(about, f"release {event.release} begins again", "care")
        case e.Promoted():
            words = (
                event.verdict.sentence if event.verdict else "the first release: there is nothing to compare it with"
            )
            return Line(about, f"release {event.release} PROMOTED to 100 %", "good", words)
        case e.ReleaseConfirmed():
            return Line(about, f"release {event.release} is confirmed", "good")
        case e.RolloutStuck():
            said = await _reason(event.reason, event.detail, seals)
            return Line(about, "rollout STUCK: a person must look", "bad", said)
        case e.StepFailed():
            return Line(about, f"{event.step} failed (attempt {event.attempt})", "care", event.error)
        case e.RegressionClosed():
            return Line(about, f"{event.bad_commit[:10]} is cured by {event.cured_by[:10]}", "good", loud=False)
        case _:
            return None


BAR = 16


def canary_line(event: e.Observed) -> str:
    """Canary against baseline, and how far the evidence has climbed towards the line at which it is rolled back."""
    verdict = event.verdict
    climbed = max(0, min(BAR, round(BAR * verdict.log_e_micro / max(1, verdict.threshold_micro))))
    bar = "█" * climbed + "░" * (BAR - climbed)
    canary = _rate(verdict.canary.errors, verdict.canary.requests)
    baseline = _rate(verdict.baseline.errors, verdict.baseline.requests)
    evidence = f"log E {verdict.log_e_micro / 1e6:+.1f} of {verdict.threshold_micro / 1e6:.1f} {bar}"
    return f"{event.weight_percent} % canary {canary}, baseline {baseline}, {evidence} {verdict.outcome.value}"


def _rate(errors: int, requests: int) -> str:
    share = 100 * errors / requests if requests else 0.0
    return f"{errors}/{requests} {share:.1f} %"


async def _effect(event: e.Event, seals: Seals) -> Line | None:
    match event:
        case e.EffectUnknown():
            return Line("effect", "an effect may or may not have happened: a person must look", "bad", event.reason)
        case e.EffectFailed():
            said = await _reason(event.reason, event.detail, seals)
            return Line("effect", "the world refused an effect", "care", said)
        case e.EffectClaimed():
            return Line("effect", f"taken over with fence {event.fence}", "quiet", loud=False)
        case _:
            return None


def _person(about: str, event: e.Event) -> Line | None:
    if not isinstance(event, e.PersonActed):
        return None
    return Line(about, f"{event.person}: {event.act}", "care")


def _turned_away(event: e.DoorRefusals) -> Line:
    counts = ", ".join(f"{one.count} {one.kind.value}" for one in event.counts)
    campaign = bool(event.campaigns)
    return Line(
        "gateway", f"turned away within {event.seconds} s: {counts}", "bad" if campaign else "quiet", loud=campaign
    )


def _control(event: e.Event) -> Line | None:
    match event:
        case e.Stopped():
            return Line(event.scope, f"STOPPED by {event.by}: {event.reason}", "bad")
        case e.Resumed():
            return Line(event.scope, f"resumed by {event.by}: {event.reason}", "good")
        case e.SessionRevoked():
            return Line(event.session, f"REVOKED by {event.by}: {event.reason}", "bad")
        case e.ControllerStarted():
            words = f"Flyball {event.version} under policy {event.policy[:19]} ({event.label})"
            return Line("controller", words, "quiet", loud=False)
        case e.Frozen():
            return Line(event.scope, f"FROZEN: {event.reason}", "bad")
        case _:
            return None
