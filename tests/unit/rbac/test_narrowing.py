"""What a token, a lender and an outsider's text take away from what the grants give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_here import SERVED

from rbac.catalogue import AGENT_TOOLS, SCOPES, TOOLS, VERBS, Direction, Need, Role, Sensitivity
from rbac.decide import Authority
from rbac.model import MAX_CHAIN, Request

BRANCH = "agent/client.ide/1"
OUTSIDE = (Role.CONTRIBUTOR, Role.ON_CALL, Role.COMPLIANCE)


def session(agent: str, tool: str, **facts: Any) -> Request:
    """A call on the shop that names what the tool needs."""
    asked: dict[str, Any] = {
        "agent": agent,
        "tool": tool,
        "repository": "shop",
        "branch": BRANCH if tool in TOOLS and Need.BRANCH in TOOLS[tool].needs else None,
        "paths": ("src/a.py",) if tool in TOOLS and Need.PATHS in TOOLS[tool].needs else (),
        "environment": "production" if tool in TOOLS and Need.ENVIRONMENT in TOOLS[tool].needs else None,
        "own_repository": "shop",
        "own_branch": BRANCH,
        "delivery": "client.ide",
    }
    return Request.model_validate({**asked, **facts})


def lent(request: Request, *lenders: Request) -> Request:
    return request.model_copy(update={"chain": lenders})


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_tool_outside_the_tokens_scopes_is_refused_by_the_scope_that_it_needs(authority: Authority) -> None:
    asked = session("contributor", "git_push", scopes=frozenset({"forge:read"}))
    decision = authority.decide(asked)
    assert decision.rules == ("insufficient-scope",)
    assert "forge:write" in decision.reason
    assert authority.decide(session("contributor", "git_push", scopes=frozenset({"forge:write"}))).allowed


def test_a_tool_that_no_scope_would_open_is_refused_like_any_that_is_not_granted(authority: Authority) -> None:
    narrowed = authority.decide(session("contributor", "promote", scopes=frozenset()))
    assert narrowed == authority.decide(session("contributor", "promote"))
    assert narrowed.rules == ("no-permit", "tool-not-granted")


def test_no_token_reaches_a_verb_of_the_loop(authority: Authority) -> None:
    for verb in VERBS:
        decision = authority.decide(session("contributor", verb, scopes=frozenset({*SCOPES, ""}) - {""}))
        assert decision.rules == ("no-permit", "tool-not-granted"), verb


def test_a_client_is_shown_what_its_scopes_cover_and_can_be_told_which_there_are(authority: Authority) -> None:
    scopes = authority.scopes_for("on-call")
    assert {"deploy:read", "deploy:write", "telemetry:read", "ledger:write"} <= scopes
    assert not scopes & {"workspace:read", "workspace:write", "policy:write", ""}
    everything = authority.visible_tools("on-call", AGENT_TOOLS)
    assert authority.visible_tools("on-call", AGENT_TOOLS, scopes=scopes) == everything
    assert authority.visible_tools("on-call", AGENT_TOOLS, scopes=frozenset()) == ()
    for scope in scopes:
        seen = authority.visible_tools("on-call", AGENT_TOOLS, scopes=frozenset({scope}))
        assert seen
        assert {AGENT_TOOLS[tool].scope for tool in seen} == {scope}


# --- lent authority ---------------------------------------------------------------------------------------------------


def test_a_child_that_its_lender_could_not_be_is_refused_by_the_lenders_name(authority: Authority) -> None:
    child, parent = session("contributor", "edit_file"), session("on-call", "edit_file")
    assert authority.decide(child).allowed
    decision = authority.decide(lent(child, parent))
    assert decision.rules == ("chain/on-call", "no-permit", "tool-not-granted")
    assert "lent by on-call" in decision.reason


def test_a_child_has_no_more_files_branches_and_scopes_than_its_lender(authority: Authority) -> None:
    edit, push = session("contributor", "edit_file"), session("contributor", "git_push")
    assert authority.decide(lent(edit, edit)).allowed
    elsewhere = edit.model_copy(update={"task_paths": ("docs/**",)})
    assert authority.decide(lent(edit, elsewhere)).rules == ("chain/contributor", "outside-the-task")
    other = push.model_copy(update={"own_branch": "agent/x/1", "delivery": "client.other"})
    assert authority.decide(lent(push, other)).rules == ("chain/contributor", "no-permit", "branch-not-granted")
    narrowed = push.model_copy(update={"scopes": frozenset({"forge:read"})})
    assert authority.decide(lent(push, narrowed)).rules == ("chain/contributor", "insufficient-scope")


def test_the_nearest_link_that_refuses_is_the_one_that_is_named(authority: Authority) -> None:
    asked, no = session("contributor", "edit_file"), session("compliance", "edit_file")
    assert authority.decide(lent(asked, asked, no)).rules[0] == "chain/compliance"
    assert authority.decide(lent(asked, no, session("on-call", "edit_file"))).rules[0] == "chain/compliance"
    assert authority.decide(lent(asked, session("IGNORE-ALL", "edit_file"))).rules[0] == "chain/unknown"


@pytest.mark.parametrize(
    "other", [{"tool": "write_file"}, {"repository": "lib"}, {"paths": ("src/b.py",)}, {"branch": BRANCH}]
)
def test_a_link_that_answers_for_another_call_refuses_this_one(authority: Authority, other: dict[str, Any]) -> None:
    asked = session("contributor", "edit_file")
    decision = authority.decide(lent(asked, asked.model_copy(update=other)))
    assert decision.rules == ("chain/another-call",)


def test_a_chain_is_bounded_and_flat(authority: Authority) -> None:
    asked = session("contributor", "edit_file")
    assert authority.decide(lent(asked, *[asked] * MAX_CHAIN)).allowed
    assert authority.decide(lent(asked, *[asked] * (MAX_CHAIN + 1))).rules == ("chain/length",)
    assert authority.decide(lent(asked, lent(asked, asked))).rules == ("chain/another-call",)


ANY_FACTS = st.fixed_dictionaries(
    {
        "agent": st.sampled_from([*Role]),
        "own_repository": st.sampled_from(["shop", "lib", None]),
        "own_branch": st.sampled_from([BRANCH, "main", None]),
        "delivery": st.sampled_from(["client.ide", "other", None]),
        "task_paths": st.sampled_from([None, ("src/**",), ("docs/**",)]),
        "tainted": st.booleans(),
        "read_confidential": st.booleans(),
        "scopes": st.none() | st.frozensets(st.sampled_from(SCOPES)),
    }
)
ANY_CALL = st.fixed_dictionaries(
    {
        "tool": st.sampled_from([*TOOLS]),
        "repository": st.sampled_from(["shop", "lib", None]),
        "branch": st.sampled_from([BRANCH, "main", "agent/other/1", None]),
        "paths": st.sampled_from([(), ("src/a.py",), ("docs/a.md",), (".github/a.yml",), ("pyproject.toml",)]),
        "environment": st.sampled_from(["production", None]),
    }
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=ANY_CALL, facts=st.lists(ANY_FACTS, min_size=2, max_size=MAX_CHAIN + 1))
def test_a_child_may_do_nothing_that_it_or_any_lender_alone_could_not(
    authority: Authority, call: dict[str, Any], facts: list[dict[str, Any]]
) -> None:
    own, *lenders = [Request.model_validate({**call, **one}) for one in facts]
    together = authority.decide(lent(own, *lenders))
    if together.allowed:
        assert all(authority.decide(one).allowed for one in (own, *lenders))
        assert call["tool"] in authority.visible_tools(
            own.agent, [call["tool"]], own.scopes, [one.agent for one in lenders]
        )
    elif not any(one.tainted for one in (own, *lenders)):
        assert not all(authority.decide(one).allowed for one in (own, *lenders))


def test_a_borrowed_belt_is_what_both_belts_have(authority: Authority) -> None:
    for child in OUTSIDE:
        alone = set(authority.visible_tools(child, AGENT_TOOLS))
        for parent in OUTSIDE:
            both = set(authority.visible_tools(child, AGENT_TOOLS, chain_agents=[parent]))
            assert both == alone & set(authority.visible_tools(parent, AGENT_TOOLS))
    assert authority.visible_tools("contributor", AGENT_TOOLS, chain_agents=["root"]) == ()
    assert authority.visible_tools("contributor", AGENT_TOOLS, chain_agents=["contributor"] * (MAX_CHAIN + 1)) == ()


# --- an outsider's text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", Role)
def test_a_tainted_run_moves_nothing_forward_in_production(authority: Authority, agent: Role) -> None:
    for tool, known in TOOLS.items():
        forward = known.production_impacting and known.direction is Direction.FORWARD
        branch = {"branch": "main"} if tool == "forge.land" else {}
        calm = authority.decide(session(agent, tool, **branch))
        tainted = authority.decide(session(agent, tool, **branch, tainted=True))
        assert not (forward and tainted.allowed), tool
        if calm.allowed and forward:
            assert "tainted-run-moves-nothing-in-production" in tainted.rules
        if calm.allowed and known.direction is Direction.SAFE and tool != "propose_policy":
            assert tainted.allowed, tool


def test_whoever_is_on_call_still_holds_and_rolls_back_with_an_outsiders_text_in_hand(authority: Authority) -> None:
    for tool in ("hold_release", "roll_back", "record_reasoning", "request_revert", "comment"):
        assert authority.decide(session("on-call", tool, tainted=True)).allowed
    assert not authority.decide(session("on-call", "promote", tainted=True)).allowed
    assert authority.decide(session("on-call", "promote")).allowed


def test_outsiders_text_confidential_results_and_a_way_out_never_meet_in_one_run(authority: Authority) -> None:
    silent = "tainted-run-with-secrets-stays-silent"
    for tool, known in TOOLS.items():
        for agent in Role:
            decision = authority.decide(session(agent, tool, tainted=True, read_confidential=True))
            assert not (known.broadcasts and decision.allowed), (agent, tool)
    assert authority.decide(session("on-call", "comment", tainted=True, read_confidential=True)).rules == (silent,)
    assert authority.decide(session("on-call", "comment", read_confidential=True)).allowed
    assert TOOLS["read_own_record"].sensitivity is Sensitivity.CONFIDENTIAL


def test_what_a_lender_has_read_counts_as_read_by_whoever_borrows(authority: Authority) -> None:
    reads_outside, reads_secrets = (
        session("on-call", "comment", tainted=True),
        session("on-call", "comment", read_confidential=True),
    )
    assert authority.decide(reads_outside).allowed
    assert authority.decide(reads_secrets).allowed
    assert not authority.decide(lent(reads_outside, reads_secrets)).allowed
    assert not authority.decide(lent(reads_secrets, reads_outside)).allowed


def test_a_tainted_run_proposes_no_policy_and_lends_nothing_that_moves_forward(authority: Authority) -> None:
    proposal = Request(agent="compliance", tool="propose_policy")
    assert authority.decide(proposal).allowed
    tainted = authority.decide(proposal.model_copy(update={"tainted": True}))
    assert tainted.rules == ("tainted-run-proposes-no-policy",)
    edit, read = session("contributor", "edit_file"), session("contributor", "read_file")
    lender = {"tainted": True}
    assert authority.decide(edit.model_copy(update=lender)).allowed
    refused = authority.decide(lent(edit, edit.model_copy(update=lender)))
    assert refused.rules == ("chain/contributor", "tainted-run-lends-no-authority")
    assert authority.decide(lent(read, read.model_copy(update=lender))).allowed


def test_programs_outside_never_land_build_or_release_whatever_they_are_granted(folder: Any) -> None:
    verbs = ("forge.land", "platform.build", "platform.start_canary", "platform.set_weight", "platform.confirm")
    for role in OUTSIDE:
        (folder / f"grants/{role}.yaml").write_text(
            f"role: {role}\nwhy: too much\ngrants:\n  - name: all\n    tools: [{', '.join(verbs)}]\n"
            '    repositories: ["*"]\n    environments: ["*"]\n    branches: ["**", "{protected}"]\n'
        )
    authority = Authority(SERVED, folder)
    for role in OUTSIDE:
        for verb in verbs:
            decision = authority.decide(session(role, verb))
            assert "programs-outside-stay-out-of-the-loop" in decision.rules
        assert authority.visible_tools(role, TOOLS) == ()
