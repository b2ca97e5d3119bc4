"""Whose change it was: over seeded releases, and what holds for any evidence."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.blame import Scene, Suspected, blame, first_half, split_alpha_ppm
from controller.canary.evidence import Arms, same_file
from controller.canary.rivals import rivals
from controller.domain.blame import Blame, Rival, Share
from controller.domain.counts import TraceGroup
from controller.domain.ids import DeliveryId
from controller.domain.risk import Colour
from controller.domain.verdict import JudgeConfig
from controller.sim.incidents import Kind, incident

CONFIG = JudgeConfig()
ARMS = Arms("shop@new", "shop@old")
ONSET_MS = 1_000_000
RELEASES = 250


def change(name: str, *files: str, **more: object) -> Suspected:
    usual = Suspected(DeliveryId(name), files or (f"shop/{name}.py",), 20, Colour.GREEN, ONSET_MS - 1)
    return replace(usual, **more)  # type: ignore[arg-type]


def traces(node: str, count: int, *files: str, failed: bool = True) -> TraceGroup:
    return TraceGroup(through=(node,), route="/pay", origin=node if failed else None, files=files, traces=count)


def scene(*failing: TraceGroup, canary: int = 1_000, baseline: int = 3_000) -> Scene:
    served = traces(ARMS.canary, canary, failed=False), traces(ARMS.baseline, baseline, failed=False)
    return Scene(ARMS, (*failing, *served), 2_000, ONSET_MS)


def blamed(candidates: list[Suspected], seen: Scene, *others: Rival) -> Blame:
    return blame(candidates, seen, others, CONFIG)


@pytest.mark.slow
def test_the_right_change_comes_first_and_an_innocent_one_is_hardly_ever_reverted() -> None:
    first = in_three = on_stack = wrong = 0
    for seed in range(RELEASES):
        one = incident(seed, Kind())
        found = blamed(list(one.suspects), one.scene, *rivals(None, one.scene, CONFIG))
        place = [candidate.delivery for candidate in found.candidates].index(one.culprit or DeliveryId(""))
        first += place == 0
        on_stack += one.on_stack
        in_three += one.on_stack and place < 3
        wrong += found.share is Share.CLEAR and found.culprit != one.culprit
    assert first >= 0.9 * RELEASES, first
    assert in_three == on_stack > 0.8 * RELEASES
    assert wrong <= 0.01 * RELEASES, wrong


def test_an_incident_that_hits_both_arms_is_no_changes_fault() -> None:
    for seed in range(60):
        one = incident(seed, Kind(shared=True))
        found = blamed(list(one.suspects), one.scene, *rivals(None, one.scene, CONFIG))
        assert found.culprit is None, (seed, found)
        assert found.share in (Share.SHARED, Share.SPLIT)


def test_the_change_whose_file_breaks_on_the_canary_alone_is_reverted_alone() -> None:
    found = blamed([change("a"), change("b"), change("c")], scene(traces(ARMS.canary, 60, "srv/x/shop/b.py")))
    assert (found.share, found.culprit) == (Share.CLEAR, "b")
    assert found.candidates[0].files == ("shop/b.py",)
    assert found.candidates[0].exposed == found.candidates[0].broke == 60


def test_failures_without_files_tell_nothing_and_the_release_is_split() -> None:
    found = blamed([change("a"), change("b", lines=100_000, colour=Colour.YELLOW)], scene(traces(ARMS.canary, 60)))
    assert (found.share, found.culprit) == (Share.SPLIT, None)
    assert found.candidates[0].delivery == "b"


def test_two_changes_of_the_file_that_breaks_are_not_told_apart() -> None:
    pair = [change("a", "shop/cart.py"), change("b", "shop/cart.py", lines=5_000), change("c")]
    found = blamed(pair, scene(traces(ARMS.canary, 500, "shop/cart.py")))
    assert found.share is Share.SPLIT
    assert {one.delivery for one in found.candidates[:2]} == {"a", "b"}


def test_a_change_of_settings_keeps_one_of_code_from_being_reverted_alone() -> None:
    code, both = traces(ARMS.canary, 500, "shop/a.py", "shop/app.py"), [change("a"), change("b", "settings/rates.toml")]
    assert blamed(both, scene(code)).share is Share.SPLIT
    assert blamed([change("a"), change("b")], scene(code)).culprit == "a"


def test_a_file_on_the_stack_of_every_usual_failure_proves_little() -> None:
    both = [change("a", "shop/app.py"), change("b"), change("c"), change("d")]
    seen = scene(traces(ARMS.canary, 60, "shop/app.py"))
    usual = [traces(ARMS.baseline, 200, "shop/u.py", "shop/app.py")]
    assert blamed(both, seen).culprit == "a"
    assert blamed(both, replace(seen, before=usual)).share is Share.SPLIT


def test_what_breaks_in_a_file_that_nobody_changed_is_not_laid_at_its_callers_door() -> None:
    found = blamed([change("a"), change("b")], scene(traces(ARMS.canary, 500, "shop/helper.py", "shop/a.py")))
    assert (found.share, found.candidates[0].delivery) == (Share.SPLIT, "a")


def test_failures_of_both_arms_are_no_evidence() -> None:
    seen = scene(traces(ARMS.canary, 100, "shop/a.py"), traces(ARMS.baseline, 300, "shop/a.py"))
    found = blamed([change("a"), change("b")], seen)
    assert found.share is not Share.CLEAR
    assert found.candidates[-1].delivery == "a"


def test_a_change_that_no_user_had_met_when_it_began_is_vetoed() -> None:
    late = change("a", exposed_since_ms=ONSET_MS + 1)
    found = blamed([late, change("b"), change("c")], scene(traces(ARMS.canary, 500, "shop/a.py")))
    assert found.share is Share.SPLIT
    assert (found.candidates[-1].delivery, found.candidates[-1].posterior_ppm) == ("a", 0)
    assert "no user had met it" in found.candidates[-1].veto


def test_a_change_of_tests_and_words_alone_is_vetoed() -> None:
    harmless = change("a", "tests/test_cart.py", "docs/cart.md", "shop/test_more.py")
    found = blamed([harmless, change("b")], scene())
    assert (found.share, found.culprit) == (Share.CLEAR, "b")
    assert found.reason == "b is the only change that can have done it"


def test_a_veto_that_would_leave_nobody_is_none() -> None:
    found = blamed([change("a", "README.md"), change("b", "docs/x.md")], scene())
    assert found.share is Share.SPLIT
    assert [one.veto for one in found.candidates] == ["", ""]


def test_what_an_earlier_split_has_shown_still_counts() -> None:
    weak = scene(traces(ARMS.canary, 2, "shop/a.py"))
    fresh, carried = [change("a"), change("b")], [change("a", log_e_micro=3_000_000), change("b")]
    assert blamed(fresh, weak).share is Share.SPLIT
    assert blamed(carried, weak).culprit == "a"


def test_another_explanation_that_holds_needs_far_stronger_evidence_against_a_change() -> None:
    outage = Rival(name="shared incident", held=True, reason="both arms fail alike")
    weak, strong = (scene(traces(ARMS.canary, count, "shop/a.py")) for count in (8, 200))
    both = [change("a"), change("b")]
    assert blamed(both, weak).culprit == "a"
    assert blamed(both, weak, outage).share is Share.SHARED
    assert blamed(both, strong, outage).culprit == "a"


def test_halves_end_at_one_change_and_the_budget_is_shared_among_the_canaries_that_may_be_innocent() -> None:
    def canaries(batch: int, culprit: int) -> int:
        """How many without the culprit, until it is alone in one."""
        suspects, innocent = [DeliveryId(str(number)) for number in range(batch)], 0
        while True:
            half = first_half(suspects)
            if str(culprit) in half:
                if len(half) == 1:
                    return innocent
                suspects = list(half)
            else:
                innocent, suspects = innocent + 1, [one for one in suspects if one not in half]

    for batch in range(2, 34):
        most = max(canaries(batch, culprit) for culprit in range(batch))
        assert split_alpha_ppm(1_000, batch) * most <= 1_000


@pytest.mark.parametrize(
    ("on_stack", "changed", "same"),
    [
        ("app.py", "app.py", True),
        ("srv/x/shop/app.py", "shop/app.py", True),
        ("com/acme/Cart.java", "src/main/java/com/acme/Cart.java", True),
        ("srv/x/myshop/app.py", "shop/app.py", False),
        ("srv/x/app.py", "app.py", False),
        ("app.py", "shop/app.py", False),
    ],
)
def test_a_path_is_known_by_its_end_if_that_has_a_folder(on_stack: str, changed: str, *, same: bool) -> None:
    assert same_file(on_stack, changed) is same


NAMES = ("a", "b", "c", "d")
FILES = tuple(f"shop/{name}.py" for name in NAMES)
GROUPS = st.builds(
    lambda node, files, failed, count: traces(node, count, *(files if failed else ()), failed=failed),
    st.sampled_from([ARMS.canary, ARMS.baseline, "other@1"]),
    st.lists(st.sampled_from((*FILES, "shop/e.py")), unique=True, max_size=3),
    st.booleans(),
    st.integers(1, 400),
)
CHANGES = st.lists(
    st.builds(
        lambda name, more, lines, colour, carried: change(
            name, f"shop/{name}.py", *more, lines=lines, colour=colour, log_e_micro=carried
        ),
        st.sampled_from(NAMES),
        st.lists(st.sampled_from([*FILES, "settings/x.toml", "README.md"]), max_size=2),
        st.integers(0, 5_000),
        st.sampled_from(Colour),
        st.integers(-(10**6), 10**7),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.delivery,
)


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.lists(GROUPS, max_size=8), st.randoms(use_true_random=False))
def test_no_order_matters(changes: list[Suspected], groups: list[TraceGroup], dice: Random) -> None:
    seen = scene(*groups)
    mixed, other = list(changes), list(seen.groups)
    dice.shuffle(mixed)
    dice.shuffle(other)
    assert blamed(changes, seen) == blamed(mixed, replace(seen, groups=other))


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.lists(GROUPS, max_size=8))
def test_posteriors_add_up_and_the_vetoed_are_never_culprits(
    changes: list[Suspected], groups: list[TraceGroup]
) -> None:
    late = [replace(one, exposed_since_ms=None) if one.delivery == "a" else one for one in changes]
    found = blamed(late, scene(*groups))
    assert abs(sum(one.posterior_ppm for one in found.candidates) - 1_000_000) <= len(changes)
    vetoed = {one.delivery for one in found.candidates if one.veto}
    assert found.culprit not in vetoed
    assert all(one.posterior_ppm == 0 for one in found.candidates if one.veto)
    assert (found.culprit is not None) == (found.share is Share.CLEAR)


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.lists(GROUPS, max_size=8), st.integers(1, 50))
def test_more_failures_in_its_file_never_make_a_change_less_likely(
    changes: list[Suspected], groups: list[TraceGroup], more: int
) -> None:
    """Some served traces of the canary fail in its own file instead, and in no other change's."""
    suspect = changes[0]
    own = [replace(one, files=(f"shop/{one.delivery}.py",)) for one in changes]

    def posterior(failing: int) -> int:
        broken = [traces(ARMS.canary, failing, f"shop/{suspect.delivery}.py")] if failing else []
        found = blamed(own, scene(*groups, *broken, canary=1_000 - failing))
        return next(one.posterior_ppm for one in found.candidates if one.delivery == suspect.delivery)

    assert posterior(more) >= posterior(0) - 1
