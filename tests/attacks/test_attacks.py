"""Every attack of the corpus against the real gateway over real HTTP: none comes to anything, no harmless twin is hurt.

After each attack the trees, the refs, the files outside, the effects and the tests that were run are as before, no
secret was told, and the refusal stands once where refusals stand. After each twin what it asked for has been done.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pygit2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from attack_corpus import AttackClass, Call, Case, Expected, Twin, corpus, spelt_out
from attack_stage import SECRETS, Session, Stage, staged
from attack_watch import look
from attack_wire import Answer
from belt_kit import SHOP

from controller.domain.ids import SessionId
from rbac.catalogue import AGENT_TOOLS

CORPUS = corpus()
LEAST_ATTACKS, LEAST_CLASSES, LEAST_TWINS = 492, 32, 265


def test_the_corpus_is_as_large_as_it_says() -> None:
    cases = [case for one in CORPUS.values() for case in one.cases]
    names = [(one.name, case.name) for one in CORPUS.values() for case in one.cases]
    assert len(cases) >= LEAST_ATTACKS
    assert len(CORPUS) >= LEAST_CLASSES
    assert len([case for case in cases if case.twin]) >= LEAST_TWINS
    assert len(set(names)) == len(names)
    assert all(case.expect.nothing == "" or case.expect.nothing.endswith(".") for case in cases)


@pytest.mark.timeout(400)  # classes that run code start a sandbox for each of their cases
@pytest.mark.parametrize("name", CORPUS)
async def test_no_attack_comes_to_anything_and_no_twin_is_refused(name: str, tmp_path: Path) -> None:
    played = CORPUS[name]
    through: list[str] = []
    hurt: list[str] = []
    for at, cases in enumerate(_stages(played)):
        folder = tmp_path / str(at)
        folder.mkdir()
        async with staged(folder) as stage:
            for case in cases:
                through += [f"{case.name}: {wrong}" for wrong in await _attack(stage, case)]
                hurt += [f"{case.name}: {wrong}" for wrong in await _twin(stage, case.twin)] if case.twin else []
    assert (through, hurt) == ([], [])


async def test_a_forbidden_tool_answers_byte_for_byte_like_one_that_nobody_has(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for tool in sorted(AGENT_TOOLS):
            for role in ("author", "on-call", "reviewer"):
                forbidden, unknown = Call(tool=tool), Call(tool="x" * len(tool))
                session = await stage.session()
                session.badge = replace(session.badge, role=role)
                session.token = stage.world.desk.sign_in(session.badge)
                if tool in [one.name for one in stage.world.toolbox.visible(session.badge)]:
                    continue
                answers = [(await stage.send(call, session)).text for call in (forbidden, unknown)]
                assert answers[0].replace(tool, unknown.tool) == answers[1], (role, tool)


def _stages(played: AttackClass) -> Iterator[tuple[Case, ...]]:
    if played.stage == "shared":
        yield played.cases
    else:
        yield from ((case,) for case in played.cases)


async def _attack(stage: Stage, case: Case) -> list[str]:
    """What went wrong, in words."""
    session = await stage.session()
    changes = stage.folder / case.expect.may_change if case.expect.may_change else None
    but = session.root if case.expect.nothing else changes
    async with stage.arranged(case.attack, session):
        before = await look(stage.world, stage.folder, but=but)
        async with stage.broken(case.attack, session):
            answer = await stage.send(case.attack, session)
    after = await look(stage.world, stage.folder, but=but)
    shutil.rmtree(session.root)
    if case.expect.done_without:
        return await _done_without(stage, spelt_out(case.expect.done_without, stage.names(session)), answer)
    wrong = after.differs_from(before, runs=case.expect.runs)
    wrong += [f"told {secret!r}" for secret in SECRETS if secret in answer.text]
    wrong += _said(case.expect, answer)
    return wrong + await _recorded(stage, session, case.expect, after.entries - before.entries - case.expect.beside)


async def _done_without(stage: Stage, secret: str, answer: Answer) -> list[str]:
    wrong = [] if answer.statuses == (200,) and not answer.failed else [f"was not done: {answer.text[:300]}"]
    said = [answer.text, *await stage.pull_requests()]
    said += [entry.leaf.decode(errors="replace") async for entry in stage.world.log.scan()]
    return wrong + [f"{secret[:8]}... went out: {text[:300]}" for text in said if secret in text]


def _said(expect: Expected, answer: Answer) -> Iterator[str]:
    told = f"{answer.statuses} {answer.text[:300]}"
    if expect.told not in answer.text:
        yield f"does not say {expect.told!r}: {told}"
    if expect.status and not set(answer.statuses) & set(expect.status):
        yield f"answered {told}"
    if expect.rule and not (answer.statuses == (200,) and answer.refused and answer.failed):
        yield f"not refused: {told}"
    in_words = any(words in answer.told for words in expect.not_done)
    if expect.not_done and (answer.refused or not answer.failed or not in_words):
        yield f"the tool did not say any of {expect.not_done}: {told}"
    if expect.at_most_bytes is not None and len(answer.text.encode()) > expect.at_most_bytes:
        yield f"answered with {len(answer.text.encode())} bytes"
    if expect.answered is not None and (answer.failed or expect.answered not in answer.told):
        yield f"not answered with {expect.answered!r}: {told}"


async def _recorded(stage: Stage, session: Session, expect: Expected, entries: int) -> list[str]:
    """Exactly one record of a refusal, none of what the door stopped. `entries` are new in the log since the attack."""
    if expect.nothing:
        return []
    whose = (stage.other if expect.kept == "theirs" else session).badge.session
    refusals = [one.rules for one in await stage.world.refusals(SessionId(whose))]
    calls = [one for one in await stage.world.desk.turn_records(whose, 1) if one.index == 0]
    logged = refusals[-entries:] if entries else []
    rules = {*expect.rule} | {expect.logged} - {""}
    in_log = bool(rules) and expect.kept != "turn"
    wanted = {"status": [], "rule": [False], "else": [True]}[
        "status" if expect.status else "rule" if expect.rule else "else"
    ]
    wrong = []
    if entries != int(in_log) or not all(rules & {*found} for found in logged):
        wrong.append(f"{entries} entries in the log, refusals {logged}, wanted {rules}")
    if [one.allowed for one in calls] != wanted:
        wrong.append(f"the desk kept {[(one.allowed, one.rules) for one in calls]}, wanted {wanted}")
    if expect.kept == "turn" and not all(set(one.rules) & set(expect.rule) for one in calls):
        wrong.append(f"recorded as {[one.rules for one in calls]}, wanted {expect.rule}")
    return wrong


async def _twin(stage: Stage, twin: Twin) -> list[str]:
    session = await stage.session()
    async with stage.arranged(twin, session):
        answer = await stage.send(twin, session)
    if answer.statuses != (200,) or answer.failed or twin.shows not in answer.told:
        return [f"the twin was not done: {answer.statuses} {answer.text[:300]}"]
    done = _done(stage, session, twin)
    shutil.rmtree(session.root)
    return done


def _done(stage: Stage, session: Session, twin: Twin) -> list[str]:
    """What the call asked for is in the tree, or on the branch."""
    arguments = spelt_out(twin.arguments, stage.names(session)) if twin.arguments_json is None else {}
    path = session.root / str(arguments.get("path", ""))
    match twin.tool:
        case "write_file" if arguments:
            return [] if path.read_text() == arguments["content"] else [f"{path.name} was not written"]
        case "edit_file" if arguments:
            return [] if arguments["new"] in path.read_text() else [f"{path.name} was not edited"]
        case "delete_file" if arguments:
            return [f"{path.name} was not deleted"] if path.exists() else []
        case "git_push":
            return _pushed(stage, session)
    return []


def _pushed(stage: Stage, session: Session) -> list[str]:
    repository = stage.world.forge.store.open(SHOP)
    try:
        tip = repository.references[f"refs/heads/{session.badge.branch}"].peel(pygit2.Commit)
    except KeyError:
        return [f"{session.badge.branch} was not pushed"]
    return [] if str(tip.parents[0].id) == stage.world.base else ["the branch does not stand on its base"]
