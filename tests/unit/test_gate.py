"""The one way out: what is written before the world is touched, who may touch it, and that it is touched once."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, WHY, HandClock

from controller.adapters.grants import RbacGrants
from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.guards import ControlRow
from controller.domain.ids import (
    CONTROL,
    Branch,
    Commit,
    DeliveryId,
    EffectKey,
    Repository,
    StreamId,
    delivery_stream,
    effect_stream,
)
from controller.domain.verbs import Ok, Port, PushBranch, Tell, Told, Verb
from controller.errors import FlyballError, PathRefused, Permanent, Refused, Unavailable
from controller.gate import EffectGate, Grant
from controller.ledger.sqlite import SqliteLog
from controller.ports import Blocked, Done, Failed, Hands, Outcome, Pending, Unknown
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Served

DELIVERY = DeliveryId("shop-1a2b3c")
SUBJECT = delivery_stream(DELIVERY)
KEY = EffectKey(f"tell/{DELIVERY}/confirmed")
TELL = Tell(to="person:0123456789ab", thread=DELIVERY, text="it is live")
PUSH_KEY = EffectKey("push/agent/shop-1a2b3c/1/new")
PUSH = PushBranch(
    repository=Repository("shop"), branch=Branch("agent/shop-1a2b3c/1"), commit=Commit("a" * 40), expect=None
)


@cache
def _grants() -> RbacGrants:
    return RbacGrants(Authority([Served(repository="shop", branch="main")]))


@dataclass
class Outside:
    """A world that remembers: what was done under which key, and how often it was asked."""

    done: dict[EffectKey, Any] = field(default_factory=dict)
    acts: list[EffectKey] = field(default_factory=list)
    looks: list[EffectKey] = field(default_factory=list)
    answer: Callable[[], BaseException | None] = lambda: None  # what goes wrong after the deed
    refuses: str = ""  # a definite no, and nothing is done
    dark: bool = False  # nothing can be looked for
    door: asyncio.Event | None = None  # None: open. Else an act waits behind it
    meanwhile: Callable[[], None] = lambda: None

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        self.acts.append(key)
        self.meanwhile()
        if self.refuses:
            raise Permanent(self.refuses, "Ask for something else")
        if self.door is not None:
            await self.door.wait()
        self.done.setdefault(key, Told(message="1") if isinstance(verb, Tell) else Ok())
        if (error := self.answer()) is not None:
            raise error
        return self.done[key]

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        assert verb.single != "neither"
        self.looks.append(key)
        if self.dark:
            raise Unavailable("no answer came")
        return self.done.get(key)


async def _at_once(_: int) -> None: ...


class StaleLog(SqliteLog):
    """Whoever asks it for stops is told of none: they may be written in the very next moment."""

    async def control(self) -> list[ControlRow]:
        return []


class SomePaths:
    """What a commit changes, as a test has it. `no`: None lets every branch move."""

    def __init__(self) -> None:
        self.no: PathRefused | None = None
        self.asked: list[tuple[str, Verb]] = []

    async def may_change(self, agent: str, verb: Verb, subject: StreamId) -> Grant | None:
        del subject
        if not isinstance(verb, PushBranch):
            return None
        self.asked.append((agent, verb))
        if self.no is not None:
            raise self.no
        return Grant(True, ("granted-in-repository",), "12 paths inside src/**")


class Bench:
    """One log, one world, and as many workers as a test wants."""

    def __init__(self, log: type[SqliteLog] = SqliteLog) -> None:
        self.paths = SomePaths()
        self.clock = HandClock()
        self.world = Outside()
        self.forbidden: Callable[[tuple[Draft, ...]], bool] = lambda _: False
        self.log = log(":memory:", self.clock, inline=True, before_append=self._before)

    def _before(self, drafts: tuple[Draft, ...]) -> None:
        if self.forbidden(drafts):
            raise Unavailable("the disk is full", "Free some space")

    def worker(
        self,
        name: str,
        *,
        gone: Callable[[str], bool] = lambda _: False,
        grants: RbacGrants | None = None,
        covered: Callable[[int], Awaitable[None]] = _at_once,
    ) -> EffectGate:
        """`grants=None`: those that Flyball ships."""
        hands: dict[Port, Hands] = {"chat": self.world, "forge": self.world}
        return EffectGate(
            log=self.log,
            clock=self.clock,
            grants=grants or _grants(),
            hands=hands,
            worker=name,
            gone=gone,
            covered=covered,
            paths=self.paths,
        )

    async def dies_before_the_act(self, asked: Callable[[EffectGate], Any]) -> None:
        """A first worker that has claimed the effect and done nothing."""
        self.world.door = asyncio.Event()
        dying = asyncio.ensure_future(asked(self.worker("w1")))
        await asyncio.sleep(0)
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
        self.world.door = None
        self.clock.pass_(max(TELL.deadline_s, PUSH.deadline_s))

    async def effect(self, key: EffectKey = KEY) -> list[Any]:
        return [entry.event for entry in await self.log.read(effect_stream(key))]

    async def say(self, event: e.Event) -> None:
        size = len(await self.log.read(CONTROL))
        await self.log.append([Draft(CONTROL, event)], expect={CONTROL: size}, by=BY)


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = Bench()
    yield found
    found.log.close()


async def tell(gate: EffectGate, *, agent: str = "merger", verb: Verb = TELL, key: EffectKey = KEY) -> Outcome:
    return await gate.act(agent, verb, key=key, decision=WHY, subject=SUBJECT)


async def push(gate: EffectGate, agent: str = "author") -> Outcome:
    return await gate.act(agent, PUSH, key=PUSH_KEY, decision=WHY, subject=SUBJECT)


def stopped(scope: str) -> e.Stopped:
    return e.Stopped(scope=scope, by="person:0123456789ab", reason="it smells", event_id="1")


# --- once -------------------------------------------------------------------------------------------------------------


async def test_the_intent_with_its_reasons_is_durable_before_the_world_is_touched(bench: Bench) -> None:
    seen: list[int] = []
    bench.world.meanwhile = lambda: seen.append(
        len(bench.log._writer.db.execute("select 1 from entries where kind = 'EffectIntended'").fetchall())
    )
    outcome = await tell(bench.worker("w1"))
    intent, done = await bench.effect()
    assert seen == [1]
    assert outcome == Done(Told(message="1"), 0)
    assert (intent.owner, intent.fence, intent.agent) == ("w1", 1, "merger")
    assert intent.decision == WHY.under(_grants().digest)
    assert intent.allowed_by
    assert (done.how, json.loads(done.result)) == ("acted", {"message": "1"})


async def test_asking_again_gives_the_recorded_answer_and_touches_nothing(bench: Bench) -> None:
    first = await tell(bench.worker("w1"))
    assert await tell(bench.worker("w2")) == first
    assert bench.world.acts == [KEY]
    assert len(await bench.effect()) == 2


async def test_a_key_means_one_effect_for_ever(bench: Bench) -> None:
    gate = bench.worker("w1")
    await tell(gate)
    with pytest.raises(Permanent, match="other arguments"):
        await tell(gate, verb=TELL.model_copy(update={"text": "it is not live"}))
    assert bench.world.acts == [KEY]


async def test_one_worker_that_asks_twice_at_once_acts_once(bench: Bench) -> None:
    bench.world.door = asyncio.Event()
    gate = bench.worker("w1")
    first = asyncio.ensure_future(tell(gate))
    await asyncio.sleep(0)
    assert isinstance(await tell(gate), Pending)
    bench.world.door.set()
    assert isinstance(await first, Done)
    assert bench.world.acts == [KEY]


async def test_a_second_worker_waits_for_the_first_ones_deadline(bench: Bench) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    assert isinstance(await tell(bench.worker("w1")), Pending)
    intent = (await bench.effect())[0]
    bench.clock.pass_(TELL.deadline_s - 1)
    assert await tell(bench.worker("w2")) == Pending(intent.deadline)
    assert (bench.world.acts, bench.world.looks) == ([KEY], [])


async def test_after_the_deadline_another_worker_claims_looks_and_finds_what_was_done(bench: Bench) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    await tell(bench.worker("w1"))
    bench.clock.pass_(TELL.deadline_s)
    assert isinstance(await tell(bench.worker("w2")), Done)
    _, claim, done = await bench.effect()
    assert (claim.owner, claim.fence) == ("w2", 2)
    assert (done.how, done.fence) == ("found", 2)
    assert (bench.world.acts, bench.world.looks) == ([KEY], [KEY])


async def test_what_the_world_does_not_know_is_done_after_looking(bench: Bench) -> None:
    await bench.dies_before_the_act(tell)
    assert isinstance(await tell(bench.worker("w2")), Done)
    assert bench.world.looks == [KEY]
    assert (await bench.effect())[-1].how == "acted"


async def test_a_worker_known_to_be_dead_is_not_waited_for(bench: Bench) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    await tell(bench.worker("w1"))
    bench.world.answer = lambda: None
    assert isinstance(await tell(bench.worker("w2", gone=lambda name: name == "w1")), Done)
    assert (await bench.effect())[-1].how == "found"


async def test_a_late_workers_outcome_is_turned_away_by_its_fence(bench: Bench) -> None:
    door = bench.world.door = asyncio.Event()
    late = asyncio.ensure_future(tell(bench.worker("late")))
    await asyncio.sleep(0)
    bench.clock.pass_(TELL.deadline_s)
    bench.world.door = None
    assert isinstance(await tell(bench.worker("prompt")), Done)
    door.set()
    assert isinstance(await late, Pending)
    ends = [event for event in await bench.effect() if isinstance(event, e.EffectDone)]
    assert [end.fence for end in ends] == [2]
    assert isinstance(await tell(bench.worker("late")), Done)


async def test_two_workers_that_claim_at_once_act_once(bench: Bench) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    await tell(bench.worker("w1"))
    bench.world.answer, bench.world.done = lambda: None, {}
    bench.clock.pass_(TELL.deadline_s)
    outcomes = await asyncio.gather(tell(bench.worker("w2")), tell(bench.worker("w3")))
    assert {type(one) for one in outcomes} <= {Done, Pending}
    assert bench.world.acts == [KEY, KEY]
    assert len([event for event in await bench.effect() if isinstance(event, e.EffectClaimed)]) == 1


async def test_what_can_neither_be_found_nor_repeated_ends_unknown_and_is_never_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tell, "single", "neither")
    bench.world.answer = lambda: Unavailable("no answer came")
    await tell(bench.worker("w1"))
    for _ in range(3):
        bench.clock.pass_(TELL.deadline_s + 1)
        assert isinstance(await tell(bench.worker("w2")), Unknown)
    assert (bench.world.acts, bench.world.looks) == ([KEY], [])
    assert [event.kind() for event in await bench.effect()] == ["EffectIntended", "EffectClaimed", "EffectUnknown"]


# --- when the world does not do as it is told -------------------------------------------------------------------------


async def test_a_definite_no_of_the_world_is_recorded_and_final(bench: Bench) -> None:
    bench.world.refuses = "the channel is archived"
    gate = bench.worker("w1")
    outcome = await tell(gate)
    assert isinstance(outcome, Failed)
    assert "the channel is archived" in outcome.reason
    bench.world.refuses = ""
    assert isinstance(await tell(gate), Failed)
    assert bench.world.acts == [KEY]
    assert (await bench.effect())[-1].kind() == "EffectFailed"


async def test_an_act_that_takes_too_long_stays_open_and_is_looked_for_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tell, "deadline_s", 1)  # the bound is real time: one second is the least there is
    bench.world.door = asyncio.Event()
    outcome = await tell(bench.worker("w1"))
    assert outcome == Pending((await bench.effect())[0].deadline)
    assert [event.kind() for event in await bench.effect()] == ["EffectIntended"]
    bench.world.door.set()
    bench.clock.pass_(1)
    assert isinstance(await tell(bench.worker("w1")), Done)
    assert bench.world.looks == [KEY]


async def test_nobody_acts_again_while_the_world_cannot_be_looked_at(bench: Bench) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    await tell(bench.worker("w1"))
    bench.world.dark = True
    for _ in range(4):
        bench.clock.pass_(TELL.deadline_s)
        assert isinstance(await tell(bench.worker("w2")), Pending)
    bench.world.dark = False
    bench.clock.pass_(TELL.deadline_s)
    assert isinstance(await tell(bench.worker("w2")), Done)
    assert bench.world.acts == [KEY]


async def test_a_defect_in_the_hands_is_no_outcome(bench: Bench) -> None:
    bench.world.answer = lambda: ZeroDivisionError("of all things")
    with pytest.raises(ZeroDivisionError):
        await tell(bench.worker("w1"))
    assert [event.kind() for event in await bench.effect()] == ["EffectIntended"]


async def test_without_the_log_nothing_is_done(bench: Bench) -> None:
    bench.forbidden = lambda _: True
    with pytest.raises(Unavailable, match="the disk is full"):
        await tell(bench.worker("w1"))
    assert bench.world.acts == []
    bench.log.close()
    with pytest.raises(Unavailable):
        await tell(bench.worker("w1"))
    assert bench.world.acts == []


async def test_a_deed_whose_outcome_could_not_be_written_is_found_and_not_done_twice(bench: Bench) -> None:
    bench.forbidden = lambda drafts: isinstance(drafts[0].event, e.EffectDone)
    with pytest.raises(Unavailable):
        await tell(bench.worker("w1"))
    bench.forbidden = lambda _: False
    bench.clock.pass_(TELL.deadline_s)
    assert isinstance(await tell(bench.worker("w1")), Done)
    assert bench.world.acts == [KEY]
    assert (await bench.effect())[-1].how == "found"


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["nobody", "observer", ""])
async def test_an_agent_without_the_grant_is_refused_and_leaves_the_world_alone(bench: Bench, agent: str) -> None:
    with pytest.raises(Refused) as refused:
        await push(bench.worker("w1"), agent)
    assert refused.value.rules
    assert refused.value.way_out
    assert bench.world.acts == []
    assert await bench.effect(PUSH_KEY) == []


async def test_an_author_pushes_the_branch_of_its_own_delivery_and_of_no_other(bench: Bench) -> None:
    gate = bench.worker("w1")
    other = StreamId("delivery/shop-ffffff")
    with pytest.raises(Refused):
        await gate.act("author", PUSH, key=PUSH_KEY, decision=WHY, subject=other)
    assert isinstance(await push(gate), Done)


@pytest.mark.parametrize("scope", ["all", "agent:author", "repository:shop"])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_stop_blocks_what_moves_forward_and_nothing_that_is_safe(bench: Bench, scope: str, how: str) -> None:
    await bench.say(stopped(scope) if how == "stopped" else e.Frozen(scope=scope, reason="it smells"))
    gate = bench.worker("w1")
    assert await push(gate) == Blocked(scope, f"{how}: it smells")
    assert await gate.blocked("author", PushBranch, repository=Repository("shop"), service=None) is not None
    assert isinstance(await tell(gate, agent="author"), Done)
    assert await gate.blocked("author", Tell, repository=Repository("shop"), service=None) is None
    assert (bench.world.acts, await bench.effect(PUSH_KEY)) == ([KEY], [])
    await bench.say(e.Resumed(scope=scope, by="person:0123456789ab", reason="aired", event_id="2"))
    assert isinstance(await push(gate), Done)


class Published:
    """How far the log is signed, or witnessed."""

    def __init__(self) -> None:
        self.size = 0
        self.asked: list[int] = []

    async def __call__(self, index: int) -> None:
        self.asked.append(index)
        if index >= self.size:
            raise Unavailable(f"entry {index} has no witness yet", "Look at the witness")


async def test_a_forward_effect_is_not_acted_before_its_intent_is_published_as_far_as_it_must_be(bench: Bench) -> None:
    published = Published()
    gate = bench.worker("w1", covered=published)
    assert isinstance(await push(gate), Pending)
    assert bench.world.acts == []
    assert [event.kind() for event in await bench.effect(PUSH_KEY)] == ["EffectIntended"]
    published.size = 100
    bench.clock.pass_(PUSH.deadline_s)
    assert isinstance(await push(gate), Done)
    assert bench.world.acts == [PUSH_KEY]


async def test_what_is_safe_waits_for_no_signature_and_no_witness(bench: Bench) -> None:
    published = Published()
    assert isinstance(await tell(bench.worker("w1", covered=published)), Done)
    assert published.asked == []


async def test_what_lay_about_is_not_done_once_its_grant_is_gone(bench: Bench, tmp_path: Path) -> None:
    await bench.dies_before_the_act(push)
    before = list(bench.world.acts)
    shutil.copytree(SHIPPED, tmp_path / "rbac", ignore=shutil.ignore_patterns("*.py", "__pycache__", "tests"))
    grants = tmp_path / "rbac/grants/author.yaml"
    grants.write_text(grants.read_text().replace("[forge.push, forge.open_pull_request]", "[forge.open_pull_request]"))
    narrowed = RbacGrants(Authority([Served(repository="shop", branch="main")], tmp_path / "rbac"))
    outcome = await push(bench.worker("w2", grants=narrowed))
    assert isinstance(outcome, Failed)
    assert "not allowed any more" in outcome.reason
    assert bench.world.acts == before
    assert [event.kind() for event in await bench.effect(PUSH_KEY)] == [
        "EffectIntended",
        "EffectClaimed",
        "EffectFailed",
    ]


async def test_what_was_done_before_its_grant_was_gone_is_found_and_recorded(bench: Bench, tmp_path: Path) -> None:
    bench.world.answer = lambda: Unavailable("no answer came")
    await push(bench.worker("w1"))
    bench.clock.pass_(PUSH.deadline_s)
    shutil.copytree(SHIPPED, tmp_path / "rbac", ignore=shutil.ignore_patterns("*.py", "__pycache__", "tests"))
    (tmp_path / "rbac/grants/author.yaml").unlink()
    narrowed = RbacGrants(Authority([Served(repository="shop", branch="main")], tmp_path / "rbac"))
    assert isinstance(await push(bench.worker("w2", grants=narrowed)), Done)
    assert (await bench.effect(PUSH_KEY))[-1].how == "found"


async def test_what_lay_about_waits_while_there_is_a_stop_and_is_done_afterwards(bench: Bench) -> None:
    await bench.dies_before_the_act(push)
    before = list(bench.world.acts)
    await bench.say(stopped("repository:shop"))
    assert isinstance(await push(bench.worker("w2")), Blocked)
    assert bench.world.acts == before
    await bench.say(e.Resumed(scope="repository:shop", by="person:0123456789ab", reason="go on", event_id="2"))
    bench.clock.pass_(PUSH.deadline_s)
    assert isinstance(await push(bench.worker("w2")), Done)


@pytest.mark.parametrize("scope", ["agent:merger", "repository:billing", "service:shop"])
async def test_a_stop_elsewhere_is_nobody_elses_business(bench: Bench, scope: str) -> None:
    await bench.say(stopped(scope))
    assert isinstance(await push(bench.worker("w1")), Done)


async def test_a_stop_that_lands_between_the_look_and_the_intent_still_blocks() -> None:
    bench = Bench(StaleLog)
    await bench.say(stopped("all"))
    assert isinstance(await push(bench.worker("w1")), Blocked)
    assert (bench.world.acts, await bench.effect(PUSH_KEY)) == ([], [])
    bench.log.close()


async def test_every_refusal_is_an_error_with_a_way_out(bench: Bench) -> None:
    with pytest.raises(FlyballError) as refused:
        await tell(bench.worker("w1"), agent="nobody")
    assert "nobody" in refused.value.message
    assert refused.value.way_out


# --- words ------------------------------------------------------------------------------------------------------------

FREE_WORDS = {"title", "body", "text", "reason", "message", "words", "note", "summary"}


def test_every_verb_names_the_fields_in_which_free_text_leaves_the_house() -> None:
    verbs = Verb.__subclasses__()
    assert len(verbs) > 10
    for verb in verbs:
        assert FREE_WORDS & set(verb.model_fields) == set(verb.says), verb.name


async def test_the_world_is_told_the_words_without_what_must_not_go_out(bench: Bench) -> None:
    told: list[Verb] = []
    gate = bench.worker("w1")
    gate._clean = lambda text: text.replace("live", "[redacted]")

    async def act(key: EffectKey, verb: Verb) -> Any:
        told.append(verb)
        return Told(message="1")

    bench.world.act = act  # type: ignore[method-assign]
    assert isinstance(await tell(gate), Done)
    assert [verb.text for verb in told if isinstance(verb, Tell)] == ["it is [redacted]"]
    assert isinstance(await tell(gate), Done), "the same words again are the same effect"
    assert isinstance(await tell(gate, verb=TELL.model_copy(update={"text": "it is [redacted]"})), Done)


# --- paths ------------------------------------------------------------------------------------------------------------


async def test_a_commit_with_a_refused_path_moves_no_branch_and_begins_no_effect(bench: Bench) -> None:
    bench.paths.no = PathRefused("rbac/grants/author.yaml may not be changed", rules=("path-never-granted",))
    with pytest.raises(PathRefused, match=r"author\.yaml") as refused:
        await push(bench.worker("w1"))
    assert refused.value.rules == ("path-never-granted",)
    assert (bench.world.acts, await bench.effect(PUSH_KEY)) == ([], [])


async def test_what_was_decided_of_the_paths_stands_in_the_recorded_decision(bench: Bench) -> None:
    await push(bench.worker("w1"))
    intent = (await bench.effect(PUSH_KEY))[0]
    assert intent.decision.claims[-1].text == "decided on git's own trees: 12 paths inside src/**"
    assert intent.decision.claims[-1].evidence == f"commit {PUSH.commit}"
    assert bench.paths.asked, "asked before the intent"


async def test_paths_are_decided_again_when_an_effect_is_taken_over(bench: Bench) -> None:
    await bench.dies_before_the_act(push)
    before = list(bench.world.acts)
    bench.paths.no = PathRefused("AGENTS.md may not be changed", rules=("path-never-granted",))
    outcome = await push(bench.worker("w2"))
    assert isinstance(outcome, Failed)
    assert bench.world.acts == before


async def test_a_gate_that_nobody_gave_paths_moves_no_branch(bench: Bench) -> None:
    gate = EffectGate(log=bench.log, clock=bench.clock, grants=_grants(), hands={"forge": bench.world}, worker="w1")
    with pytest.raises(PathRefused, match="nobody here decides paths"):
        await push(gate)
    assert bench.world.acts == []
