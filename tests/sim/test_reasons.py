"""Reasons as data, over whole simulated worlds: every claim can be looked up, and every number decides what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenarios import BAD, BROKEN, CRASHING, DEADLY, GOOD, MENDED, UNBUILDABLE, YELLOW, begun, one_by_one
from simulated import POLICY, ROLLOUT, Simulation

from controller.canary.court import pack, unpack
from controller.canary.replay import replayed
from controller.domain import events as e
from controller.domain.base import Fact
from controller.domain.ci import CiResults
from controller.domain.decision import Claim, Decision, Maker, Reference, Where, at_entry, evidence_of
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, Digest, delivery_stream, rest_of, session_stream
from controller.domain.verdict import Outcome
from controller.errors import Permanent
from controller.ledger.seals import LocalSeals
from controller.ports import TestResult
from controller.sim.ci import SimCi, _Run
from controller.sim.platform import Deployed, SimPlatform
from controller.sim.world import SHOP
from controller.steps.check import verdict
from controller.steps.classify import inputs_of
from controller.terminal.words import line_of

SAID = "XYZZY-what-a-program-printed"


async def told(*titles: str) -> Simulation:
    sim = begun(1)
    sim.start("w1")
    await one_by_one(sim, *titles)
    return sim


def within(fact: object, kind: type[Any]) -> Iterator[Any]:
    """Every value of a kind, however deep it lies."""
    if isinstance(fact, kind):
        yield fact
    if isinstance(fact, Fact):
        for name in type(fact).model_fields:
            yield from within(getattr(fact, name), kind)
    elif isinstance(fact, tuple):
        for one in fact:
            yield from within(one, kind)


async def unresolved(sim: Simulation, entry: Entry, uri: str, digest: Digest | None) -> str | None:
    """Why a piece of evidence cannot be looked up. None: it can."""
    found = evidence_of(uri)
    if found is None:
        return f"log#{entry.index} {entry.kind}: {uri!r} is no place to look"
    if found.where is Where.ENTRY:
        return None if int(found.name) < entry.index else f"log#{entry.index} cites {uri}, which came later"
    if found.where is Where.BLOB:
        if digest != found.name:
            return f"log#{entry.index} cites {uri} and gives it digest {digest}"
        await sim.blobs.get(Digest(found.name))
        return None
    known = sim.world.forge.repository(SHOP).history.commits
    return None if found.name in known else f"log#{entry.index} cites {uri}, which the repository does not have"


async def test_every_claim_of_a_whole_world_can_be_looked_up_and_came_before_what_it_supports() -> None:
    sim = await told(GOOD, MENDED, BROKEN, YELLOW, BAD, CRASHING)
    wrong, claims = [], 0
    for entry in await sim.entries():
        cited = [(claim.evidence, claim.digest) for claim in within(entry.event, Claim)]
        cited += [(one.uri, one.digest) for one in within(entry.event, Reference)]
        claims += len(cited)
        wrong += [why for uri, digest in cited if (why := await unresolved(sim, entry, uri, digest)) is not None]
    assert wrong == []
    assert claims > 300
    sim.close()


async def test_every_decision_names_its_policy_and_says_why_not_the_other_way() -> None:
    sim = await told(GOOD, MENDED, BAD)
    decisions = [(entry, one) for entry in await sim.entries() for one in within(entry.event, Decision)]
    assert {entry.kind for entry, _ in decisions} >= {
        "TaskAccepted",
        "ChangeAuthored",
        "CiReported",
        "RiskClassified",
        "EffectIntended",
        "Landed",
        "ReleaseOpened",
        "RegressionFound",
        "Promoted",
        "HandedOver",
    }
    for entry, one in decisions:
        assert one.policy.startswith("sha256:"), (entry.index, entry.kind, one.question)
        assert [option.why_not for option in one.options if option.why_not], one.question
    sim.close()


async def test_what_rests_on_a_models_work_names_the_model_its_prompt_and_its_session() -> None:
    sim = await told(MENDED, BAD)
    starts = {entry.stream: entry.event for entry in await sim.entries() if isinstance(entry.event, e.SessionStarted)}
    made: list[Maker] = []
    for entry in await sim.entries():
        match entry.event:
            case e.ChangeAuthored(session=session, decision=decision):
                assert decision is not None
                assert (decision.maker is None) == (session is None)  # None: the revert, which code makes
                made += [decision.maker] if decision.maker else []
            case e.EffectIntended(
                verb="forge.push" | "forge.open_pull_request" as verb, decision=decision, agent="author"
            ):
                assert decision.maker is not None, verb
                made.append(decision.maker)
    for one in made:
        begun_as = starts[session_stream(one.session)]
        assert (one.model, one.prompt_digest) == (begun_as.model, begun_as.prompt_digest)
        assert (one.iteration, one.label) == (begun_as.iteration, "simulated")
    assert len({one.session for one in made}) == 4  # two tries of one, and one each of the bad change and its fix
    sim.close()


# --- faithful: what was cited decides ---------------------------------------------------------------------------------


async def test_a_recorded_ci_verdict_follows_from_its_results_and_flips_with_them() -> None:
    sim = await told(MENDED)
    reports = [(entry, entry.event) for entry in await sim.entries() if isinstance(entry.event, e.CiReported)]
    assert [report.passed for _, report in reports] == [False, True]
    for _, report in reports:
        assert report.results is not None
        assert report.decision is not None
        results = CiResults.model_validate_json(await sim.seals.open(report.results))
        started, policy = report.decision.claims[1].evidence, report.decision.policy
        assert report.decision.claims[0].digest == report.results.digest
        assert verdict(results, report.results, started, policy) == report.decision
        flipped = tuple(one.model_copy(update={"passed": not report.passed}) for one in results.tests)
        state = "failed" if report.passed else "passed"
        other = results.model_copy(update={"state": state, "tests": flipped})
        assert verdict(other, report.results, started, policy).choice != report.decision.choice
    sim.close()


async def test_a_recorded_colour_follows_from_the_entries_it_cites_and_flips_with_them() -> None:
    sim = await told(GOOD, YELLOW)
    seen = set()
    for entry in await sim.entries():
        if not isinstance(entry.event, e.RiskClassified):
            continue
        decision, stream = entry.event.decision, entry.stream
        cited = max(int(claim.evidence.removeprefix("log#")) for claim in decision.claims)
        until = [one for one in await sim.log.read(stream) if one.index <= cited]
        ports = sim.controllers[0].sweep.ports
        inputs = await inputs_of(fold_delivery(DeliveryId(rest_of(stream)), until), ports)
        recorded = entry.event.inputs
        assert inputs == recorded.model_copy(update={"mutants": None})  # of a run, which only the colour records
        assert (recorded.mutants is not None) == (decision.choice == "green")
        again = await POLICY.classify(inputs)
        assert (again.colour.value, again.policy) == (decision.choice, decision.policy)
        worse = await POLICY.classify(inputs.model_copy(update={"tests_passed": False}))
        assert worse.colour.value == "red" != decision.choice
        other = await POLICY.classify(inputs.model_copy(update={"tests_added": not inputs.tests_added}))
        assert other.colour.value != decision.choice
        seen.add(decision.choice)
    assert seen == {"green", "yellow"}
    sim.close()


async def test_a_recorded_roll_back_follows_from_its_counts_and_flips_without_the_errors() -> None:
    sim = await told(GOOD, BAD)
    rollout = await sim.log.read(ROLLOUT)
    verdicts = [entry for entry in rollout if isinstance(entry.event, e.RegressionFound | e.Promoted)]
    judged = [entry for entry in verdicts if entry.event.verdict is not None]  # type: ignore[union-attr]
    assert {entry.kind for entry in judged} == {"RegressionFound", "Promoted"}
    for entry in judged:
        event: Any = entry.event
        until = [one for one in rollout if one.index < entry.index]
        assert await replayed(ROLLOUT, until, event.decision.policy, sim.blobs) == event.verdict
    bad = next(entry for entry in judged if isinstance(entry.event, e.RegressionFound))
    cited = bad.event.decision.claims[0]  # type: ignore[union-attr]
    last = [one for one in rollout if one.index < bad.index and isinstance(one.event, e.Observed)][-1]
    assert cited.digest == last.event.counts  # type: ignore[union-attr]
    healthy = [await without_errors(sim, one) for one in rollout if one.index < bad.index]
    again = await replayed(ROLLOUT, healthy, bad.event.decision.policy, sim.blobs)  # type: ignore[union-attr]
    assert (bad.event.verdict.outcome, again.outcome is Outcome.ROLL_BACK) == (Outcome.ROLL_BACK, False)  # type: ignore[union-attr]
    sim.close()


async def without_errors(sim: Simulation, entry: Entry) -> Entry:
    """The same segment of counts, had no request of the canary failed."""
    if not isinstance(entry.event, e.Observed):
        return entry
    windows = unpack(await sim.blobs.get(entry.event.counts))
    clean = [window.model_copy(update={"canary": window.canary.model_copy(update={"errors": 0})}) for window in windows]
    counts = await sim.blobs.put(pack(clean))
    changed = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    return Entry(**{**changed, "event": entry.event.model_copy(update={"counts": counts})})


async def test_a_verdict_whose_counts_are_gone_is_not_made_up() -> None:
    sim = await told(GOOD, BAD)
    rollout = await sim.log.read(ROLLOUT)
    found = next(entry for entry in rollout if isinstance(entry.event, e.RegressionFound))
    until = [one for one in rollout if one.index < found.index]
    with pytest.raises(Permanent):
        await replayed(ROLLOUT, until[:1], found.event.decision.policy, sim.blobs)  # type: ignore[union-attr]
    sim.close()


# --- words of others --------------------------------------------------------------------------------------------------


class TalkingCi(SimCi):
    """Its tests have names and messages that somebody wrote."""

    def _tests(self, run: _Run) -> tuple[TestResult, ...]:
        return tuple(
            TestResult(f"{one.test}::{SAID}-name", one.passed, one.duration_ms, f"{one.message} {SAID}-message")
            for one in super()._tests(run)
        )


class TalkingPlatform(SimPlatform):
    """What goes down or does not build quotes what it printed last."""

    def _health(self, canary: Deployed) -> tuple[bool, str]:
        healthy, reason = super()._health(canary)
        return healthy, f"{reason}: {SAID}-crash" if reason else ""

    def _build(self, verb: Any) -> Fact:
        try:
            return super()._build(verb)
        except Permanent as no:
            raise Permanent(f"{no.message}; it said last: {SAID}-build", no.way_out) from no


async def test_no_word_of_a_test_a_build_or_an_instance_stands_in_clear_and_people_can_read_them_all() -> None:
    sim = begun(1)
    world = sim.world
    world.ci = TalkingCi(world.seed, world.clock, world.forge, world._count)
    world.platform = TalkingPlatform(world.clock, world.forge, SHOP, world._count)
    world.telemetry.platform = world.platform
    sim.start("w1")
    await one_by_one(sim, GOOD, MENDED, CRASHING, UNBUILDABLE, DEADLY)
    entries = await sim.entries()
    spoken = [f"log#{entry.index} {entry.kind}" for entry in entries if SAID.encode() in entry.leaf]
    assert spoken == []
    lines = [await line_of(entry, sim.seals) for entry in entries]
    shown = "\n".join(f"{line.text} {line.detail}" for line in lines if line is not None)
    for what in ("name", "crash", "build"):
        assert f"{SAID}-{what}" in shown, what
    prompts = [
        await sim.seals.open(entry.event.prompt) for entry in entries if isinstance(entry.event, e.SessionStarted)
    ]
    for what in ("name", "message", "crash"):  # whoever mends it is told what it said
        assert any(f"{SAID}-{what}" in prompt for prompt in prompts), what
    sim.close()


async def test_files_in_conflict_are_named_to_the_author_and_not_to_the_log() -> None:
    sim = begun(1)
    sim.world.plays("Say two", {"app.py": "def price(): return 2\n", "tests/test_two.py": "2\n"})
    sim.world.plays("Say three", {"app.py": "def price(): return 3\n", "tests/test_three.py": "3\n"})
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.ask("Say two")
    await sim.ask("Say three")
    assert await sim.run(), await sim.state()
    (back,) = [entry for entry in await sim.entries() if isinstance(entry.event, e.SentBack)]
    event: Any = back.event
    assert "conflicts with main in 1 files" in event.reason
    assert "app.py" not in event.reason
    assert await sim.seals.open(event.detail) == "app.py"
    second = f"session/{rest_of(back.stream)}/2"
    (begun_again,) = [one.event for one in await sim.entries() if one.stream == second and one.version == 1]
    assert "app.py" in await sim.seals.open(begun_again.prompt)  # type: ignore[union-attr]
    sim.close()


async def test_with_every_sealed_word_gone_every_stream_folds_as_before(tmp_path: Any) -> None:
    sim = await told(MENDED, CRASHING)
    entries = await sim.entries()
    sim.blobs.contents.clear()
    lost = LocalSeals(tmp_path, sim.blobs)
    lines = [await line_of(entry, lost) for entry in entries]
    assert any("erased" in f"{line.text} {line.detail}" for line in lines if line is not None)
    for name, before in (await sim.deliveries()).items():
        assert fold_delivery(name, await sim.log.read(delivery_stream(name))) == before
    assert at_entry(0) == "log#0"
    sim.close()
