"""No verb of a person and no bound without a test of its "no": what is added tomorrow must be entered here.

The tables name, for each, the test that says *while it stands, X never happens*, or *at the bound it may, one beyond
never*. What is held against them is the code itself: the acts that the rules for people know, the methods of the doors
for people, the fields of the bounds, and the limits that modules name.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from controller import intake
from controller.client_registry import ClientRegistry
from controller.domain.bounds import Bounds, RolloutPlan
from controller.intake import Act, Intake
from controller.privacy import Privacy

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "rbac" / "people_rules" / "people.cedarschema"
REFUSALS, INTAKE, PRIVACY = "sim/test_refusals.py", "unit/test_intake.py", "unit/test_privacy.py"
DELIVERIES, ROLLOUTS = "unit/test_bounds_of_deliveries.py", "unit/test_bounds_of_rollouts.py"
SETTINGS, SESSIONS, OUTSIDE = (
    "unit/test_bounds_of_settings.py",
    "unit/agents/test_sessions_ends.py",
    "unit/test_desk_outside.py",
)
SPENDING, LANDINGS, STOPPED = (
    "unit/test_bounds_of_sessions.py",
    "unit/test_cures_and_landings.py",
    "sim/test_stopped.py",
)
STEPS = "unit/test_steps_deciding.py"
Tests = tuple[str, ...]

ACTS: dict[str, Tests] = {  # as the rules for people name them
    "ask": (f"{INTAKE}::test_somebody_who_is_not_listed_is_refused_whatever_they_want",),
    "approve": (
        f"{REFUSALS}::test_without_consent_a_yellow_change_never_lands_and_is_given_up_when_its_time_is_over",
        f"{REFUSALS}::test_consent_to_an_older_head_never_lands_the_newer_one",
    ),
    "reject": (f"{REFUSALS}::test_a_rejection_after_the_consent_keeps_it_from_landing_for_good",),
    "hold": (
        f"{REFUSALS}::test_while_a_delivery_is_held_it_never_lands_whenever_the_hold_came",
        f"{REFUSALS}::test_a_hold_that_comes_while_the_queue_tests_keeps_the_tested_commit_off_main",
        f"{REFUSALS}::test_while_a_merged_change_is_held_no_release_opens_with_it",
        f"{REFUSALS}::test_while_a_canary_is_held_no_more_users_see_it",
        f"{REFUSALS}::test_while_a_promoted_release_is_held_it_is_not_confirmed_though_it_has_baked",
    ),
    "release": (f"{REFUSALS}::test_a_release_of_another_delivery_or_one_told_again_lifts_no_hold",),
    "promote": (
        f"{REFUSALS}::test_a_promotion_takes_a_canary_on_only_after_its_dwell_and_not_while_it_is_held",
        f"{REFUSALS}::test_nobodys_word_promotes_a_canary_that_hurts",
    ),
    "retry": (f"{REFUSALS}::test_one_retry_begins_a_canary_again_once",),
    "unstick": (
        f"{REFUSALS}::test_while_nobody_unsticks_a_rollout_nothing_of_it_moves_and_one_word_frees_it_once",
        f"{STEPS}::test_a_stuck_delivery_asks_for_a_person_once_and_goes_on_by_their_word_where_it_stood",
    ),
    "stop": (f"{STOPPED}::test_while_a_scope_is_stopped_nothing_forward_begins_in_it",),
    "resume": (f"{STOPPED}::test_a_resume_lifts_its_own_scope_and_no_other",),
    "revoke": (f"{REFUSALS}::test_a_revoked_session_asks_no_model_and_brings_no_change",),
    "clients": (
        "unit/test_clients.py::test_whoever_may_not_say_who_comes_in_lets_nobody_in",
        "unit/test_clients.py::test_no_token_is_given_to_a_client_that_is_retired_meanwhile",
    ),
    "keys": ("unit/ledger/test_signer.py::test_a_rotation_that_only_one_key_has_signed_is_not_followed",),
    "read": (f"{PRIVACY}::test_text_is_not_shown_when_the_log_cannot_say_that_it_was",),
    "privacy": (f"{PRIVACY}::test_a_legal_hold_beats_age_and_wish_until_it_is_lifted",),
}
DOORS: dict[str, str | Tests] = {  # public methods of what takes people's acts down; a word: the act that it is
    "Intake.ask": "ask",
    "Intake.act": "hold",
    "Intake.unstick_service": "unstick",
    "Intake.stop": "stop",
    "Intake.resume": "resume",
    "Intake.revoke": "revoke",
    "ClientRegistry.register": "clients",
    "ClientRegistry.retire": "clients",
    "ClientRegistry.listed": (),  # only looks
    "Privacy.erase": (f"{PRIVACY}::test_what_a_delivery_under_way_needs_is_not_erased_unless_somebody_insists",),
    "Privacy.hold": "privacy",
    "Privacy.lift": (f"{PRIVACY}::test_only_what_is_held_is_released",),
    "Privacy.apply_retention": (f"{PRIVACY}::test_a_month_goes_when_its_last_day_is_old_enough_and_later_months_stay",),
    "Privacy.status": (),  # only looks
}
BOUNDS: dict[str, Tests] = {
    "ci_rounds": (
        f"{DELIVERIES}::test_the_second_head_goes_into_ci_and_a_third_never",
        f"{DELIVERIES}::test_a_third_head_is_given_up_before_any_run",
    ),
    "heads_per_delivery": (f"{DELIVERIES}::test_a_fourth_head_is_written_and_a_fifth_never",),
    "fix_depth": (f"{DELIVERIES}::test_a_fix_is_asked_for_within_depth_and_number_and_never_beyond",),
    "spawn_depth": (
        f"{DELIVERIES}::test_what_stands_deeper_than_the_bound_is_never_taken_on",
        "unit/test_requests.py::test_reverts_are_bounded_in_depth_and_number",
        "unit/test_clients_lending.py::test_authority_is_lent_no_deeper_than_the_bound",
    ),
    "fan_out_per_root": (
        f"{DELIVERIES}::test_what_a_request_has_brought_about_before_counts",
        "unit/test_clients_lending.py::test_a_session_lends_to_few_at_a_time",
    ),
    "step_seconds": (f"{DELIVERIES}::test_a_step_has_its_seconds_and_not_one_more",),
    "lease_seconds": (
        f"{DELIVERIES}::test_a_lease_is_another_workers_when_its_seconds_are_over_and_not_before",
        f"{SETTINGS}::test_a_step_must_end_before_its_lease",
    ),
    "step_attempts": (
        f"{DELIVERIES}::test_the_last_attempt_of_a_step_makes_it_stuck_and_none_before",
        f"{SPENDING}::test_a_session_goes_on_within_every_bound_and_never_beyond",
    ),
    "ci_seconds": (f"{DELIVERIES}::test_ci_has_its_seconds_and_is_given_up_then",),
    "session_seconds": (f"{SPENDING}::test_a_session_goes_on_within_every_bound_and_never_beyond",),
    "session_turns": (f"{SPENDING}::test_a_session_goes_on_within_every_bound_and_never_beyond",),
    "session_refusals": (
        f"{SPENDING}::test_a_session_goes_on_within_every_bound_and_never_beyond",
        f"{SESSIONS}::test_too_many_refused_calls_end_the_session_in_the_middle_of_a_turn",
        "unit/test_desk.py::test_refusals_are_counted_across_processes_and_end_all_calls_at_the_bound",
    ),
    "session_calls_per_minute": (
        f"{OUTSIDE}::test_over_its_rate_a_session_is_refused_and_one_refusal_stands_for_all_of_the_minute",
    ),
    "role_calls_per_minute": (f"{OUTSIDE}::test_the_sessions_of_a_role_share_its_rate",),
    "nonsense_replies": (
        f"{SESSIONS}::test_nonsense_is_never_carried_out_and_ends_the_session_the_third_time",
        f"{SESSIONS}::test_told_once_the_model_may_come_to_its_senses",
    ),
    "reply_max_tokens": (f"{SESSIONS}::test_a_model_is_asked_for_as_many_tokens_as_the_bound_says_and_no_more",),
    "model_stall_seconds": (f"{SETTINGS}::test_a_model_that_stalls_and_a_reply_that_trickles_have_their_seconds",),
    "prompt_bytes": (f"{SPENDING}::test_a_prompt_and_a_call_may_reach_their_bounds_and_not_pass_them",),
    "tool_result_bytes": (f"{SETTINGS}::test_a_result_is_told_whole_at_its_bound_and_cut_one_byte_beyond",),
    "consent_seconds": (f"{DELIVERIES}::test_a_consent_has_its_time_to_the_second",),
    "wait_seconds": (
        f"{DELIVERIES}::test_what_comes_first_has_its_time_and_is_not_waited_for_longer",
        f"{DELIVERIES}::test_a_line_that_does_not_move_is_a_persons_when_its_time_is_over",
    ),
    "max_behind": (f"{DELIVERIES}::test_a_change_lands_at_the_bound_of_what_it_is_behind_and_is_rebased_beyond",),
    "call_micro_usd": (f"{SPENDING}::test_a_prompt_and_a_call_may_reach_their_bounds_and_not_pass_them",),
    "session_micro_usd": (f"{SPENDING}::test_a_budget_is_spent_to_the_last_millionth_and_not_beyond",),
    "delivery_micro_usd": (f"{SPENDING}::test_a_budget_is_spent_to_the_last_millionth_and_not_beyond",),
    "day_micro_usd": (f"{SPENDING}::test_a_budget_is_spent_to_the_last_millionth_and_not_beyond",),
    "rollbacks_in_window": (
        f"{DELIVERIES}::test_a_service_freezes_at_its_bound_of_roll_backs_in_the_window_and_never_below",
        "sim/test_mishaps.py::test_too_many_rollbacks_in_an_hour_freeze_the_service_until_a_person_lifts_it",
    ),
    "rollback_window_seconds": (
        f"{DELIVERIES}::test_a_service_freezes_at_its_bound_of_roll_backs_in_the_window_and_never_below",
    ),
}
STEP = f"{ROLLOUTS}::test_a_step_is_over_at_its_dwell_its_requests_and_its_doubt_and_never_one_short"
PLAN: dict[str, Tests] = {
    "steps_percent": (f"{ROLLOUTS}::test_a_plan_rises_to_everybody_or_is_none",),
    "step_requests": (STEP,),
    "step_dwell_ms": (STEP,),
    "step_doubt_milli": (STEP,),
    "step_limit_ms": (f"{ROLLOUTS}::test_a_person_is_told_when_a_step_reaches_its_limit_and_not_before",),
    "window_ms": (f"{ROLLOUTS}::test_windows_begin_on_their_width_at_the_first_that_is_judged_and_never_before",),
    "segment_ms": (f"{ROLLOUTS}::test_counts_are_sealed_when_a_segment_is_full_and_not_before",),
    "weight_ttl_ms": (f"{ROLLOUTS}::test_a_weight_is_renewed_when_half_its_time_is_over_for_its_whole_time",),
    "warmup_ms": (f"{ROLLOUTS}::test_only_the_first_step_has_a_warm_up_that_is_not_judged",),
    "bake_ms": (f"{ROLLOUTS}::test_a_promoted_release_is_confirmed_when_it_has_baked_and_not_before",),
    "recovery_ms": (f"{ROLLOUTS}::test_a_recovery_that_nobody_can_see_has_its_time_and_is_never_called_one",),
    "canary_instances": (f"{ROLLOUTS}::test_a_canary_has_its_time_to_become_healthy_and_never_gets_users_after_it",),
    "changes_per_release": (f"{REFUSALS}::test_a_release_carries_as_many_changes_as_the_plan_says_and_no_more",),
    "baseline_ms": (f"{ROLLOUTS}::test_a_baseline_is_as_long_as_the_plan_says",),
    "ready_seconds": (f"{ROLLOUTS}::test_a_canary_has_its_time_to_become_healthy_and_never_gets_users_after_it",),
}
NAMED: dict[str, Tests] = {  # limits that modules name themselves, where people's and agents' words come in
    "intake.TASK_BYTES": (f"{INTAKE}::test_a_task_beyond_the_bound_is_refused_with_both_numbers",),
    "intake.EVENT_ID_CHARS": (
        f"{SETTINGS}::test_an_event_is_known_by_its_own_name_at_the_bound_and_by_a_digest_beyond",
    ),
    "intake.WORDS_BYTES": (f"{SETTINGS}::test_a_persons_words_are_kept_whole_at_the_bound_and_cut_beyond",),
    "intake.ATTEMPTS": (f"{INTAKE}::test_acts_that_race_all_stand_once",),
    "gate.ACT_MARGIN_S": (f"{LANDINGS}::test_an_act_is_given_up_its_margin_before_anybody_else_may_take_it_over",),
    "requests.MOST_REASONINGS": ("integration/test_belts_record.py::test_a_session_gives_a_bounded_number_of_reasons",),
}
EVERY = {**ACTS, **{k: v for k, v in DOORS.items() if isinstance(v, tuple)}, **BOUNDS, **PLAN, **NAMED}


@cache
def declared(path: Path) -> dict[str, str]:
    """Name and decorators of every test of a file."""
    functions = (
        one for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {one.name: " ".join(ast.unparse(by) for by in one.decorator_list) for one in functions}


def test_every_act_that_the_rules_know_has_a_test_of_its_no() -> None:
    known = set(re.findall(r'"(\w+)"', SCHEMA.read_text().partition("action")[2].partition("appliesTo")[0]))
    assert known == set(ACTS)
    assert set(get_args(Act)) <= known


def test_every_door_for_people_has_a_test_of_its_no() -> None:
    doors = {
        f"{door.__name__}.{name}"
        for door in (Intake, ClientRegistry, Privacy)
        for name, _ in inspect.getmembers(door, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert doors == set(DOORS)
    assert {act for act in DOORS.values() if isinstance(act, str)} <= set(ACTS)


def test_every_bound_and_every_number_of_a_plan_is_tested_where_it_ends() -> None:
    assert set(Bounds.model_fields) == set(BOUNDS)
    assert set(RolloutPlan.model_fields) == set(PLAN)
    limits = {f"intake.{name}" for name, value in vars(intake).items() if name.isupper() and isinstance(value, int)}
    assert limits <= set(NAMED)


@pytest.mark.parametrize("what", EVERY)
def test_the_tests_that_are_named_are_there_and_run_every_time(what: str) -> None:
    for name in EVERY[what]:
        file, _, test = name.partition("::")
        assert test in declared(ROOT / "tests" / file), name
        decorators = declared(ROOT / "tests" / file)[test]
        assert not re.search(r"mark\.(skip|xfail|slow)", decorators), name


def test_nothing_is_without_a_test() -> None:
    looks_only = {"ClientRegistry.listed", "Privacy.status"}
    assert {what for what, tests in EVERY.items() if not tests} == looks_only
