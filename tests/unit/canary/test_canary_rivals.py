"""Other explanations than a change of the release, each with numbers."""

from __future__ import annotations

from dataclasses import replace

from test_canary_blame import ARMS, CONFIG, scene, traces

from controller.canary.blame import Scene
from controller.canary.rivals import deepest, rivals
from controller.domain.blame import Rival
from controller.domain.counts import TraceGroup


def ended_in(origin: str, canary: int, baseline: int, *through: str) -> list[TraceGroup]:
    return [
        TraceGroup(through=tuple(sorted((node, *through))), route="/pay", origin=origin, traces=count)
        for node, count in ((ARMS.canary, canary), (ARMS.baseline, baseline))
        if count
    ]


def named(seen: Scene) -> dict[str, Rival]:
    return {one.name: one for one in rivals(None, seen, CONFIG)}


def test_a_dependency_that_fails_behind_both_arms_explains_the_failures() -> None:
    found = named(scene(*ended_in("stock@s1", 200, 600, "stock@s1")))
    assert found["dependency stock@s1"].held
    assert found["shared incident"].held
    assert "canary 200/1200, baseline 600/3600 traces" in found["dependency stock@s1"].reason


def test_a_dependency_that_fails_behind_the_canary_alone_is_the_canarys_doing() -> None:
    found = named(scene(*ended_in("ledger@unknown", 200, 0)))
    assert not found["dependency ledger@unknown"].held
    assert "behind the canary only, so the canary does it" in found["dependency ledger@unknown"].reason
    assert not found["shared incident"].held


def test_a_dependency_that_fails_now_and_then_does_not_excuse_what_the_canary_breaks() -> None:
    found = named(scene(*ended_in("stock@s1", 50, 150), traces(ARMS.canary, 300, "shop/a.py")))
    assert not found["dependency stock@s1"].held
    assert not found["shared incident"].held


def test_a_few_failures_excuse_nothing() -> None:
    found = named(scene(*ended_in("stock@s1", 1, 3)))
    assert not any(one.held for one in found.values())


def test_a_new_version_of_another_service_is_named_and_held_where_both_arms_break_in_it() -> None:
    before = [TraceGroup(through=(ARMS.baseline, "stock@s1"), route="/pay", traces=500)]
    seen = replace(scene(*ended_in("stock@s2", 200, 600, "stock@s2")), before=before)
    found = named(seen)["deployment of stock@s2"]
    assert found.held
    assert found.reason.startswith("it is new, and it fails behind both arms alike")


def test_a_new_version_in_which_nothing_breaks_is_named_and_let_go() -> None:
    before = [TraceGroup(through=(ARMS.baseline,), route="/pay", traces=500)]
    broken = [TraceGroup(through=(ARMS.canary, "stock@s2"), route="/pay", origin=ARMS.canary, traces=200)]
    found = named(replace(scene(*broken), before=before))
    assert not found["deployment of stock@s2"].held
    assert "no failure of the canary ends in it" in found["deployment of stock@s2"].reason


def test_origins_are_ranked_by_how_many_failures_of_the_canary_end_in_them() -> None:
    seen = scene(*ended_in("stock@s1", 10, 90), traces(ARMS.canary, 30), traces(ARMS.baseline, 7))
    found = deepest(seen.groups, ARMS)
    assert [(one.node, one.arms.canary_bad, one.arms.baseline_bad) for one in found] == [
        (ARMS.canary, 30, 7),
        ("stock@s1", 10, 90),
    ]
