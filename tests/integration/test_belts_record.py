"""What an agent says of its reasons, what it reads of its own record, and the rules that it reads and proposes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from belts_kit import OWN, PAGE, SERVED, Belts, called
from facts_kit import sample

from controller.domain import events as e
from controller.domain.ids import StreamId
from controller.ports import Badge
from controller.requests import MOST_REASONINGS
from tools.belt import NotPossible, Tool
from tools.ledger import LedgerBelt
from tools.policy import PolicyBelt, Rules

WHY: dict[str, Any] = {
    "question": "Which way round?",
    "options": [{"name": "left"}, {"name": "right", "why_not": "it is longer"}],
    "choice": "left",
    "claims": [{"text": "left is 3 km", "evidence": "map, page 2"}],
    "confidence_percent": 80,
    "would_change": "a road block",
    "fallback": "turn back",
}
PATH = "      never_classes: [holds-secrets]\n"


class Recorded(Belts):
    @property
    def tools(self) -> list[Tool]:
        rules = Rules(self.authority, self.rules, SERVED, {})
        policy = PolicyBelt(
            rules=rules, requests=self.requests, seals=self.seals, tainted=lambda _: False, page_bytes=PAGE
        )
        return [*LedgerBelt(self.log, self.seals, self.requests, PAGE).tools(), *policy.tools()]

    async def call(self, name: str, badge: Badge, index: int = 0, **arguments: object) -> str:
        return (await called(self.tools, name, badge, index, **arguments)).text

    def grants(self, role: str) -> str:
        return (self.rules / "grants" / f"{role}.yaml").read_text()

    async def proposals(self) -> list[tuple[StreamId, e.PolicyProposed]]:
        found = [entry async for entry in self.log.scan()]
        return [(one.stream, one.event) for one in found if isinstance(one.event, e.PolicyProposed)]


@pytest.fixture
def world(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


# --- reasons ----------------------------------------------------------------------------------------------------------


async def test_reasons_are_sealed_into_the_sessions_own_stream_once(world: Recorded) -> None:
    badge = await world.visited("on-call", "ledger:write")
    for _ in range(2):
        told = await world.call("record_reasoning", badge, 0, **WHY)
        assert told == "Recorded: left, over 1 others, on 1 claims."
    entries = await world.log.read(badge.stream)
    assert [entry.kind for entry in entries] == ["ClientSessionStarted", "ReasoningRecorded"]
    said = entries[1].event
    assert isinstance(said, e.ReasoningRecorded)
    assert (said.options, said.claims, said.confidence_percent) == (2, 1, 80)
    assert b"road block" not in entries[1].leaf
    opened = json.loads(await world.seals.open(said.reasoning))
    assert {name: opened[name] for name in WHY} == WHY
    assert (entries[1].principal, entries[1].on_behalf_of) == (badge.principal, badge.on_behalf_of)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"choice": "straight on"}, "must be the one option without why_not"),
        ({"options": [{"name": "left"}, {"name": "right"}]}, "must be the one option without why_not"),
        ({"question": ""}, "question: String should have at least 1 character"),
    ],
)
async def test_what_is_no_decision_is_not_recorded(world: Recorded, changed: dict[str, Any], words: str) -> None:
    badge = await world.visited("on-call", "ledger:write")
    with pytest.raises(NotPossible, match=words):
        await world.call("record_reasoning", badge, **{**WHY, **changed})
    assert len(await world.log.read(badge.stream)) == 1


async def test_a_session_gives_a_bounded_number_of_reasons(world: Recorded) -> None:
    badge = await world.begun()
    for index in range(MOST_REASONINGS):
        await world.call("record_reasoning", badge, index, **WHY)
    with pytest.raises(NotPossible, match="100 reasons already"):
        await world.call("record_reasoning", badge, MOST_REASONINGS, **WHY)


async def test_a_session_reads_its_own_record_with_its_own_words_and_nobody_elses(world: Recorded) -> None:
    badge = await world.begun()
    await world.visited("on-call")
    record = sample(e.CallRecord, tool="read_file", allowed=True, error=False, rules=("granted-in-repository",))
    await world.add(badge.stream, sample(e.TurnRecorded, turn=0, calls=(record,)))
    refused = sample(e.CallRefused, tool="git_push", rules=("no-permit",), reason="not its branch")
    await world.add(badge.stream, refused)
    await world.call("record_reasoning", badge, 4, **WHY)
    told = await world.call("read_own_record", badge)
    assert "read_file allowed (granted-in-repository)" in told
    assert "git_push refused (no-permit): not its branch" in told
    assert "a road block" in told
    assert "ClientSessionStarted" not in told


async def test_a_long_record_is_read_on_from_where_it_stopped(world: Recorded) -> None:
    badge = await world.begun()
    for number in range(40):
        refused = sample(e.CallRefused, tool="git_push", rules=("no-permit",), reason=f"refusal number {number}")
        await world.add(badge.stream, refused)
    seen, after, left = list[str](), -1, True
    while left:
        arguments = {"after": after} if after >= 0 else {}
        page = await world.call("read_own_record", badge, **arguments)
        assert len(page.encode()) <= PAGE
        seen += [line.rpartition(": ")[2] for line in page.splitlines() if "refusal number" in line]
        more = page.splitlines()[-1]
        left = "read on with after" in more
        after = int(more.rstrip("]").rpartition(" ")[2]) if left else after
    assert seen == [f"refusal number {number}" for number in range(40)]
    assert await world.call("read_own_record", badge, after=10_000) == "There is nothing after that."


# --- rules ------------------------------------------------------------------------------------------------------------


async def test_a_session_reads_its_own_permissions_and_no_other_roles(world: Recorded) -> None:
    told = await world.call("read_policy", await world.begun())
    assert f"branches: {OWN}" in told
    assert "edit: edit_file, write_file, delete_file" in told
    assert "never: (holds-secrets)" in told
    assert f"rules: {world.authority.digest}" in told
    assert "roll_back" not in told, "that is another role's"
    assert "forge.push" not in told, "that is the loop's"


async def test_a_token_with_few_scopes_shows_what_is_left_of_the_grants(world: Recorded) -> None:
    told = await world.call("read_policy", await world.visited("on-call", "deploy:read", "policy:read"))
    assert "the token's scopes: deploy:read, policy:read" in told
    assert "watch: read_deployment\n" in told
    assert "roll_back" not in told


async def test_a_proposal_is_tried_compared_and_written_down_and_changes_nothing(world: Recorded) -> None:
    badge = await world.visited("compliance", "policy:write")
    before, digest = world.grants("author"), world.authority.digest
    loosened = before.replace(PATH, "")
    assert loosened != before
    told = await world.call("propose_policy", badge, 0, file="grants/author.yaml", text=loosened, why="it needs .env")
    [(stream, proposed)] = await world.proposals()
    assert stream == f"policy/{proposed.after.removeprefix('sha256:')[:12]}"
    assert told.startswith(f"Recorded as {stream}. It changes nothing until a person adopts it")
    assert "author gains read_file" in told
    assert proposed.gains > 0
    assert (proposed.before, proposed.agent) == (digest, "compliance")
    assert await world.seals.open(proposed.text) == loosened
    assert await world.seals.open(proposed.why) == "it needs .env"
    assert (world.grants("author"), world.authority.digest) == (before, digest)
    assert await world.call("propose_policy", badge, 0, file="grants/author.yaml", text=loosened, why="x") == told
    again = await world.call("propose_policy", badge, 1, file="grants/author.yaml", text=loosened, why="me too")
    assert again.startswith(f"These very rules have been proposed already, as {stream}.")
    assert len(await world.proposals()) == 1


async def test_a_malformed_proposal_is_told_with_file_line_and_way_out_and_not_recorded(world: Recorded) -> None:
    badge = await world.visited("compliance", "policy:write")
    text = world.grants("checker").replace("tools: [ci.start]", "tools: [ci.begin]")
    line = text.splitlines().index("    tools: [ci.begin]") + 1
    with pytest.raises(NotPossible, match=rf"grants/checker\.yaml:{line}: .*ci\.begin.* Correct that line"):
        await world.call("propose_policy", badge, file="grants/checker.yaml", text=text, why="a slip")
    assert await world.proposals() == []


@pytest.mark.parametrize("file", ["grants/../grants/author.yaml", "grants/nobody.yaml", "/etc/passwd", "load.py"])
async def test_only_files_of_grants_and_policies_that_there_are_can_be_proposed(world: Recorded, file: str) -> None:
    badge = await world.visited("compliance", "policy:write")
    with pytest.raises(NotPossible, match="is none of the files of grants and policies"):
        await world.call("propose_policy", badge, file=file, text="role: author\n", why="to see")


async def test_the_same_text_is_no_proposal(world: Recorded) -> None:
    badge = await world.visited("compliance", "policy:write")
    with pytest.raises(NotPossible, match=r"that is what stands in grants/author\.yaml already"):
        await world.call(
            "propose_policy", badge, file="grants/author.yaml", text=world.grants("author"), why="to be sure"
        )


NEVER_ENDING = "context has a" + ".a" * 20_000  # the engine takes minutes


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("(" * 1_000 + "true" + ")" * 1_000, r"policy/flyball\.cedar:\d+: brackets are nested more than 40 deep"),
        ("[" * 50_000, "brackets are nested more than 40 deep"),
        ("if true then " * 8_000 + "true" + " else true" * 8_000, "larger than 100000 bytes|`if` 8000 times"),
        ("if true then " * 1_000 + "true" + " else true" * 1_000, r"has `if` 10\d\d times, at most 200"),
        (NEVER_ENDING, "the parser ran out of its 8 s"),
    ],
    ids=["parentheses", "sets", "conditionals too long", "conditionals", "attributes"],
)
async def test_a_hostile_policy_is_an_error_and_the_next_proposal_is_read(
    world: Recorded, condition: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    badge = await world.visited("compliance", "policy:write")
    text = (world.rules / "policy" / "flyball.cedar").read_text()
    hostile = f'{text}\n@id("hostile")\npermit(principal, action, resource) when {{ {condition} }};\n'
    monkeypatch.setattr("tools.policy.TRIED_WITHIN_S", 8.0)
    with pytest.raises(NotPossible, match=words):
        await world.call("propose_policy", badge, 0, file="policy/flyball.cedar", text=hostile, why="to see")
    monkeypatch.undo()
    assert await world.proposals() == []
    harmless = world.grants("checker") + "# a remark\n"
    told = await world.call("propose_policy", badge, 1, file="grants/checker.yaml", text=harmless, why="to see")
    assert "No effect found" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 50_000, r"grants/author\.yaml:1: brackets are nested more than 40 deep"),
        ("[" * 900 + "]" * 900, "brackets are nested more than 40 deep"),
        ("\n".join(["["] * 50_000), r"grants/author\.yaml:41: brackets are nested"),
        ("- " * 40_000 + "x", "values are nested more than 40 deep"),
        ("? " * 40_000 + "x", "values are nested more than 40 deep"),
        ("\n".join(" " * at + "a:" for at in range(400)), "values are nested more than 40 deep"),
        ("a: &x 1\nb: *x\n", "anchors and aliases are not read"),
        ("role: !!python/object/apply:os.system [ls]\n", "a value of kind python"),
    ],
    ids=["open", "closed", "a line each", "sequences", "keys", "mappings", "aliases", "tags"],
)
async def test_hostile_yaml_is_an_error_within_seconds(world: Recorded, text: str, words: str) -> None:
    badge = await world.visited("compliance", "policy:write")
    with pytest.raises(NotPossible, match=words):
        await world.call("propose_policy", badge, file="grants/author.yaml", text=text, why="to see")
    assert await world.proposals() == []


async def test_rules_that_are_being_changed_are_not_told_as_those_in_force(world: Recorded) -> None:
    badge = await world.begun()
    file = world.rules / "grants" / "author.yaml"
    file.write_text(file.read_text() + "# edited meanwhile\n")
    with pytest.raises(NotPossible, match="being changed at the moment"):
        await world.call("read_policy", badge)


async def test_no_reason_is_taken_down_for_a_session_that_has_not_begun(world: Recorded) -> None:
    with pytest.raises(NotPossible, match="this session has not begun"):
        await world.call("record_reasoning", world.visitor("on-call"), **WHY)
    assert (await world.log.head()).size == 0
