"""The join of world and log finds what is missing: each way of being incomplete is built once, and is found."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from completeness_kit import Act, incomplete, told, unseen
from facts_kit import AT, entry, sample
from pydantic import ValidationError

from controller.domain import events as e
from controller.domain.decision import Claim, at_commit, decide

KEY, HEAD = "push/agent/x/1/abc/new", "a" * 40
WHY = decide(
    "push?",
    "push",
    over={"keep it": "it is asked for"},
    because=(Claim(text="this is the head", evidence=at_commit(HEAD)),),  # type: ignore[arg-type]
    would_change="a stop",
    fallback="delete the branch",
    rules=("author/own-branch",),
)


def intent(index: int = 0, key: str = KEY, **given: Any) -> bytes:
    event = sample(e.EffectIntended, key=key, verb="forge.push", decision=WHY).model_copy(update=given)
    return entry(f"effect/{key}", event, index=index).leaf


def ending(kind: type[e.Event], key: str = KEY, **given: Any) -> bytes:
    return entry(f"effect/{key}", sample(kind, **given), index=9, version=2).leaf


DONE = ending(e.EffectDone, result='{"message":"1"}')


def test_an_effect_that_was_announced_and_ended_is_accounted_for() -> None:
    acts = [Act("git", verb="forge.push", commit=HEAD), Act("platform", key=KEY, size=1), Act("chat", key=KEY)]
    assert list(incomplete(told([intent(), DONE]), acts)) == []


@pytest.mark.parametrize("act", [Act("chat", key="tell/x"), Act("git", verb="forge.push", commit="b" * 40)])
def test_an_effect_that_no_entry_announced_is_found(act: Act) -> None:
    (found,) = incomplete(told([intent(), DONE]), [act])
    assert "which no entry announced" in found


def test_a_commit_that_another_verb_announced_does_not_count() -> None:
    (found,) = incomplete(told([intent(), DONE]), [Act("git", verb="forge.land", commit=HEAD)])
    assert "forge.land" in found


@pytest.mark.parametrize("when", [{"size": 3}, {"at": (AT - timedelta(seconds=1)).isoformat()}], ids=["place", "time"])
def test_an_effect_that_came_before_its_entry_is_found(when: Any) -> None:
    (found,) = incomplete(told([intent(index=3), DONE]), [Act("platform", key=KEY, **when)])
    assert "before log#3, which announced it" in found


def test_an_intent_without_an_outcome_is_found() -> None:
    assert list(incomplete(told([intent()]), [])) == [f"{KEY} (log#0) has 0 outcomes"]


def test_an_unknown_that_nobody_was_told_of_is_found() -> None:
    unknown, told_as = ending(e.EffectUnknown), f"unknown/{KEY}"
    (found,) = incomplete(told([intent(), unknown]), [])
    assert "nobody was told" in found
    telling = [intent(1, told_as), ending(e.EffectDone, told_as, result="{}")]
    assert list(incomplete(told([intent(), unknown, *telling]), [])) == []


def test_a_call_that_had_an_effect_without_an_intent_is_found() -> None:
    call = sample(e.CallRecord, effect="agent/x/1/0/0", error=False)
    turn = entry("session/x/1", sample(e.TurnRecorded, calls=(call,))).leaf
    (found,) = incomplete(told([turn]), [])
    assert "agent/x/1/0/0" in found


def test_what_the_log_calls_done_and_the_world_does_not_show_is_found() -> None:
    log = told([intent(), DONE])
    assert unseen(log, "forge.push", []) == [KEY]
    assert unseen(log, "forge.push", [Act("git", key=KEY)]) == []


@pytest.mark.parametrize("missing", ["decision", "allowed_by", "subject"])
def test_an_intent_without_its_reasons_cannot_be_recorded(missing: str) -> None:
    fields = sample(e.EffectIntended, decision=WHY).model_dump()
    with pytest.raises(ValidationError):
        e.EffectIntended.model_validate({name: value for name, value in fields.items() if name != missing})
