"""A decision cannot be written down without its reasons, and the numbers that it cites are the ones that decide."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.canary.boundaries import no_boundaries
from controller.canary.judge import judge
from controller.domain.benchmark import SlowerBenchmark
from controller.domain.change import ChangeFacts, FileFact, FileStatus, Role
from controller.domain.ci import CiResults, TestOutcome, clear_name
from controller.domain.counts import ArmCounts, WindowCounts
from controller.domain.decision import (
    Claim,
    Decision,
    Evidence,
    Maker,
    Option,
    Reference,
    Where,
    at_commit,
    at_entry,
    decide,
    evidence_of,
    in_blob,
)
from controller.domain.ids import Commit, Digest, SessionId
from controller.domain.risk import Colour, RiskInputs
from controller.domain.sealed import Sealed
from controller.domain.verdict import JudgeConfig, Outcome, Phi, PhiSource
from controller.steps.check import verdict

HEAD, BLOB = Commit("a" * 40), Digest("sha256:" + "b" * 64)
POLICY, OTHER = Digest("sha256:" + "c" * 64), Digest("sha256:" + "d" * 64)


def decision(**given: Any) -> Decision:
    whole: dict[str, Any] = {
        "question": "push?",
        "options": (Option(name="push"), Option(name="keep it", why_not="it is asked for")),
        "choice": "push",
        "claims": (Claim(text="this is the head", evidence=at_commit(HEAD)),),
        "confidence_percent": 100,
        "would_change": "a stop",
        "fallback": "delete the branch",
        "rules": ("author/own-branch",),
    }
    return Decision(**{**whole, **given})


# --- the record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"options": (Option(name="push"),)},
        {"options": (Option(name="push"), Option(name="keep it"))},
        {"options": (Option(name="push", why_not="no"), Option(name="keep it", why_not="no"))},
        {"choice": "keep it"},
        {"claims": ()},
        {"rules": ()},
        {"question": ""},
        {"fallback": ""},
        {"would_change": ""},
        {"confidence_percent": 101},
    ],
    ids=lambda given: f"{next(iter(given))}={str(next(iter(given.values())))[:30]}",
)
def test_a_decision_without_its_reasons_cannot_be_made(given: dict[str, Any]) -> None:
    assert decision()
    with pytest.raises(ValidationError):
        decision(**given)


def test_a_rejected_option_without_a_reason_is_none() -> None:
    with pytest.raises(ValidationError):
        Option(name="keep it", why_not="")


def test_a_decision_of_an_older_log_reads_as_made_by_code_under_a_policy_that_nobody_wrote_down() -> None:
    whole = decision().model_dump(mode="json", exclude={"policy", "maker"})
    read = Decision.model_validate_json(json.dumps(whole))
    assert (read.policy, read.maker) == ("", None)


def test_a_policy_is_filled_in_once_and_never_replaced() -> None:
    assert decision().under(POLICY).policy == POLICY
    assert decision().under(POLICY).under(OTHER).policy == POLICY
    assert decide("q?", "a", over={"b": "no"}, because=decision().claims, would_change="x", fallback="y", rules=("r",))


def test_a_maker_without_anything_that_it_was_given_is_none() -> None:
    made: dict[str, Any] = {
        "agent": "author",
        "model": "claude-sonnet-5-5",
        "version": "claude-sonnet-5-5-20260901",
        "label": "live",
        "prompt_digest": BLOB,
        "context": (Reference(uri=at_entry(3), digest=BLOB),),
        "session": SessionId("shop-1/1"),
        "iteration": 1,
    }
    assert decision(maker=Maker(**made)).maker == Maker(**made)
    for field, empty in (("context", ()), ("iteration", 0)):
        with pytest.raises(ValidationError):
            Maker(**{**made, field: empty})


def test_evidence_is_an_entry_a_blob_or_a_commit_and_nothing_else() -> None:
    assert evidence_of(at_entry(12)) == Evidence(Where.ENTRY, "12")
    assert evidence_of(in_blob(BLOB)) == Evidence(Where.BLOB, BLOB)
    assert evidence_of(at_commit(HEAD)) == Evidence(Where.COMMIT, HEAD)
    for words in (
        "stream delivery/x",
        "bounds",
        "log#",
        "log#1 or so",
        "blob sha256:abc",
        "commit abc",
        "platform status",
    ):
        assert evidence_of(words) is None, words


@given(st.integers(0, 10**12))
def test_an_entry_that_is_cited_is_found_under_the_same_number(index: int) -> None:
    assert evidence_of(at_entry(index)) == Evidence(Where.ENTRY, str(index))


# --- faithful ---------------------------------------------------------------------------------------------------------

KEPT = Sealed(key_id="k", digest=BLOB, size=1)
outcomes = st.builds(TestOutcome, test=st.text(max_size=20), passed=st.booleans(), duration_ms=st.integers(0, 10**6))
runs = st.builds(
    CiResults,
    state=st.sampled_from(("passed", "failed", "broken")),
    tests=st.lists(outcomes, min_size=1, max_size=8).map(tuple),
)


@given(runs)
def test_ci_is_green_if_the_run_passed_and_every_test_did_and_one_failure_flips_it(results: CiResults) -> None:
    said = verdict(results, KEPT, at_entry(1), POLICY)
    assert verdict(results, KEPT, at_entry(1), POLICY) == said
    passing = tuple(test.model_copy(update={"passed": True}) for test in results.tests)
    best = results.model_copy(update={"state": "passed", "tests": passing})
    assert (said.choice == "green") == (results == best)
    assert verdict(best, KEPT, at_entry(1), POLICY).choice == "green"
    broken = (passing[0].model_copy(update={"passed": False}), *passing[1:])
    assert verdict(best.model_copy(update={"tests": broken}), KEPT, at_entry(1), POLICY).choice == "red"
    assert said.claims[0].text.startswith(f"{results.failed} of {len(results.tests)} tests failed")


TABLE = PolicyTable(TableParameters(owner="olga", protected=(".ci/**",)))
small = st.builds(
    RiskInputs,
    cause=st.sampled_from(("task", "fix")),
    files=st.just(("cart.py", "tests/test_cart.py")),
    lines_changed=st.integers(1, 100),
    tests_passed=st.just(value=True),
    tests_added=st.just(value=True),
    tainted=st.just(value=False),
    rounds=st.integers(1, 2),
    change=st.just(
        ChangeFacts(
            files=(
                FileFact(path="cart.py", status=FileStatus.CHANGED, roles=(Role.SOURCE,)),
                FileFact(path="tests/test_cart.py", status=FileStatus.CHANGED, roles=(Role.TEST,)),
            )
        )
    ),
)
FLIPS = {
    "tests_passed": (False, Colour.RED),
    "rounds": (99, Colour.RED),
    "tests_added": (False, Colour.YELLOW),
    "tainted": (True, Colour.YELLOW),
    "lines_changed": (10**6, Colour.YELLOW),
    "files": ((".ci/run",), Colour.YELLOW),
    "change": (None, Colour.YELLOW),
    "slower_benchmarks": (
        (SlowerBenchmark(name="a_ms", before_micro=1, after_micro=2, p_log10_milli=-4_000, landings=20),),
        Colour.YELLOW,
    ),
}


@given(small, st.sampled_from(sorted(FLIPS)))
def test_a_colour_follows_from_its_inputs_and_flips_with_the_one_that_is_cited(inputs: RiskInputs, name: str) -> None:
    value, colour = FLIPS[name]
    said = asyncio.run(TABLE.classify(inputs))
    assert (said.colour, asyncio.run(TABLE.classify(inputs))) == (Colour.GREEN, said)
    assert asyncio.run(TABLE.classify(inputs.model_copy(update={name: value}))).colour is colour


def windows(canary_bad: int, requests: int) -> list[WindowCounts]:
    good = ArmCounts(requests=requests, errors=0)
    bad = ArmCounts(requests=requests, errors=canary_bad)
    return [WindowCounts(start_ms=n * 1_000, end_ms=(n + 1) * 1_000, canary=bad, baseline=good) for n in range(12)]


@settings(deadline=None, max_examples=25)
@given(st.integers(40, 400), st.integers(25, 100))
def test_a_canary_is_rolled_back_for_its_errors_and_for_nothing_else(requests: int, share_percent: int) -> None:
    phi = Phi(milli=1_000, source=PhiSource.MEASURED, instances=10, minutes=60)

    def said(bad: int) -> Outcome:
        return judge(JudgeConfig(), windows(bad, requests), phi, no_boundaries(), weight_percent=25).outcome

    bad = requests * share_percent // 100
    assert said(bad) is Outcome.ROLL_BACK
    assert said(bad) is said(bad)
    assert said(0) is not Outcome.ROLL_BACK


# --- names of others --------------------------------------------------------------------------------------------------


@given(st.text(max_size=60))
def test_a_test_is_called_the_same_in_every_run_and_its_name_is_not_in_it(name: str) -> None:
    called = clear_name(name)
    assert called == clear_name(name)
    assert evidence_of(called) is None
    assert called.startswith("test#")
    assert len(called) == len("test#") + 12
