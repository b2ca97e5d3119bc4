"""Every bound on what writes a change, and on what that may cost: at the bound it may, one beyond never."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, BY, HandClock, sample
from test_steps_deciding import NAME

from controller.agents.course import Ask, End, Times, course_of
from controller.agents.spending import preconditions, too_large
from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.entry import Draft
from controller.domain.ids import (
    DeliveryId,
    MicroUsd,
    SessionId,
    session_of,
    session_stream,
)
from controller.domain.session import Session
from controller.ledger.sqlite import SqliteLog
from controller.ports import Receipt, Rejected

# --- sessions ---------------------------------------------------------------------------------------------------------

SESSION = session_of(NAME, 1)


def course(*, turns_: int = 0, refusals: int = 0, resumed: int = 0, seconds: float = 0.0) -> Any:
    ran = tuple(sample(e.TurnRecorded) for _ in range(turns_))
    session = Session(SESSION, started=sample(e.SessionStarted), turns=ran, refusals=refusals)
    return course_of(session, (), Bounds(), Times(AT, resumed), AT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("within", "beyond", "outcome"),
    [
        ({"turns_": 59}, {"turns_": 60}, "turns"),
        ({"refusals": 7}, {"refusals": 8}, "refused"),
        ({"resumed": 3}, {"resumed": 4}, "failed"),
        ({"seconds": 900}, {"seconds": 901}, "stalled"),
    ],
)
def test_a_session_goes_on_within_every_bound_and_never_beyond(
    within: dict[str, int], beyond: dict[str, int], outcome: str
) -> None:
    assert course(**within) == Ask()
    ended = course(**beyond)
    assert isinstance(ended, End)
    assert ended.outcome == outcome


def test_a_prompt_and_a_call_may_reach_their_bounds_and_not_pass_them() -> None:
    bounds = Bounds()
    assert too_large(bounds.prompt_bytes, bounds.call_micro_usd, bounds) is None
    assert "400001 bytes" in (too_large(bounds.prompt_bytes + 1, bounds.call_micro_usd, bounds) or "")
    assert "may cost" in (too_large(bounds.prompt_bytes, MicroUsd(bounds.call_micro_usd + 1), bounds) or "")


@pytest.mark.parametrize("scope", ["session", "delivery", "day"])
async def test_a_budget_is_spent_to_the_last_millionth_and_not_beyond(scope: str) -> None:
    """Of the one that is the smallest; a session, then another of the delivery, then another delivery's."""
    given = {f"{one}_micro_usd": 10_000 if one == scope else 10**8 for one in ("session", "delivery", "day")}
    bounds = Bounds.model_validate({"call_micro_usd": 10_000, **given})
    log = SqliteLog(":memory:", HandClock(), inline=True)
    other = {"session": SESSION, "delivery": session_of(NAME, 2), "day": session_of(DeliveryId("shop-ffffff"), 1)}

    async def reserve(session: SessionId, amount: int) -> Receipt | Rejected:
        stream = session_stream(session)
        reserved = sample(e.ModelCallReserved, micro_usd=amount)
        guards = preconditions(session, sample(e.SessionStarted), MicroUsd(amount), bounds, AT)
        size = len(await log.read(stream))
        return await log.append([Draft(stream, reserved)], expect={stream: size}, by=BY, guards=guards)

    assert isinstance(await reserve(SESSION, 9_000), Receipt)
    assert isinstance(await reserve(other[scope], 1_001), Rejected)
    assert isinstance(await reserve(other[scope], 1_000), Receipt)
    assert isinstance(await reserve(other[scope], 1), Rejected)
    log.close()
