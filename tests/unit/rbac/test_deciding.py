from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_here import SERVED

from controller.domain.verbs import VERBS as LOOP_VERBS
from rbac.catalogue import SCOPES, TOOLS, VERBS, Need, Role
from rbac.decide import Authority
from rbac.model import Request

MOVES_A_BRANCH = ("forge.push", "forge.land", "git_push")
OUTSIDE = {Role.CONTRIBUTOR, Role.ON_CALL, Role.COMPLIANCE}
BRANCHES = (
    "main",
    "trunk",
    "Main",
    "MAIN",
    "TRUNK",
    "refs/heads/main",
    "heads/main",
    "agent/shop-1/1",
    "agent/x",
    "agent/main",
    "other",
)
PATHS = ((), ("src/a.py",), (".github/a.yml",), ("src/a.py", "rbac/x"))


def test_the_catalogue_has_exactly_the_verbs_of_the_loop() -> None:
    assert {name: verb.direction for name, verb in LOOP_VERBS.items()} == {
        name: tool.direction.value for name, tool in VERBS.items()
    }


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_with_a_branch_or_an_environment_is_not_decided_without_it(name: str) -> None:
    fields = {*LOOP_VERBS[name].model_fields} & {need.value for need in Need}
    assert fields == {need.value for need in VERBS[name].needs}


def test_nobody_but_the_merger_moves_main(authority: Authority) -> None:
    movers = set()
    facts = itertools.product(
        Role, MOVES_A_BRANCH, ("shop", "lib"), BRANCHES, BRANCHES, ("*", "shop-1", None), (False, True)
    )
    for agent, tool, repository, branch, own, delivery, tainted in facts:
        asked = Request(
            agent=agent,
            tool=tool,
            repository=repository,
            branch=branch,
            own_branch=own,
            delivery=delivery,
            own_repository=repository,
            tainted=tainted,
        )
        main = {"shop": "main", "lib": "trunk"}[repository]
        if authority.decide(asked).allowed and branch.lower() == main:
            movers.add((agent, tool, branch == main, tainted))
    assert movers == {(Role.MERGER, "forge.land", True, False)}


def test_no_grant_can_hand_main_to_anybody_else(folder: Path) -> None:
    tools = "[forge.push, forge.land, git_push, platform.build, platform.confirm, promote, edit_file]"
    for role in Role:
        everything = f"role: {role}\nwhy: too much\ngrants:\n  - name: all\n    tools: {tools}\n"
        everything += '    repositories: ["*"]\n    environments: ["*"]\n'
        (folder / f"grants/{role}.yaml").write_text(
            everything + '    branches: ["**", "{own}", "{protected}"]\n    paths: {allowed: ["**"]}\n'
        )
    authority = Authority(SERVED, folder)

    def allowed(tool: str, **facts: Any) -> set[str]:
        asked = [Request.model_validate({"agent": role, "tool": tool, "repository": "shop", **facts}) for role in Role]
        return {one.agent for one in asked if authority.decide(one).allowed}

    assert allowed("forge.land", branch="main") == {Role.MERGER}
    assert allowed("forge.land", branch="agent/x/1") == {Role.MERGER}
    assert allowed("forge.push", branch="main") == set()
    assert allowed("git_push", branch="MAIN", own_branch="MAIN") == set()
    assert allowed("platform.confirm", environment="production") == {Role.RELEASER}
    assert allowed("platform.build", environment="production") == {Role.RELEASER}
    assert allowed("promote", environment="production") == {Role.RELEASER, Role.ON_CALL}
    assert not allowed("edit_file", paths=("a.py",)) & {Role.INTAKE, Role.REVIEWER, Role.OBSERVER, Role.COMPLIANCE}


def _every_call() -> list[Request]:
    facts = itertools.product(
        Role, TOOLS, ("shop", "lib", None), ("main", "trunk", "agent/shop-1/1", None), PATHS, ("production", None)
    )
    return [
        Request(
            agent=agent,
            tool=tool,
            repository=repository,
            branch=branch,
            paths=paths,
            environment=environment,
            own_branch="agent/shop-1/1",
            delivery="shop-1",
        )
        for agent, tool, repository, branch, paths, environment in facts
    ]


def test_an_agent_sees_exactly_the_tools_of_which_some_call_is_allowed(authority: Authority) -> None:
    usable: dict[str, set[str]] = {role: set() for role in Role}
    for asked in _every_call():
        if authority.decide(asked).allowed:
            usable[asked.agent].add(asked.tool)
    for role in Role:
        assert set(authority.visible_tools(role, TOOLS)) == usable[role], role
    assert usable["compliance"] == {
        "read_pull_request",
        "read_ci_results",
        "propose_policy",
        "record_reasoning",
        "read_own_record",
        "read_policy",
    }
    assert {role for role, tools in usable.items() if "promote" in tools} == {"on-call"}
    assert {role for role, tools in usable.items() if "chat.tell" in tools} == {*Role} - OUTSIDE
    assert usable["observer"] == usable["intake"] == usable["reviewer"] == {"chat.tell"}


def test_an_unknown_agent_sees_nothing_and_an_unknown_tool_is_not_seen(authority: Authority) -> None:
    assert authority.visible_tools("root", TOOLS) == ()
    assert authority.visible_tools("author", ["sudo", "read_file"]) == ("read_file",)


def test_tools_without_a_place_to_use_them_are_not_seen(folder: Path) -> None:
    (folder / "grants/author.yaml").write_text(
        "role: author\nwhy: nowhere\ngrants:\n  - name: all\n"
        "    tools: [read_file, git_push, chat.tell, platform.restore]\n"
    )
    assert Authority(SERVED, folder).visible_tools("author", TOOLS) == ("chat.tell",)


def test_another_forbid_never_allows_anything_more(folder: Path, authority: Authority) -> None:
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write('\n@id("no-lib")\nforbid (principal, action, resource == Repository::"lib");\n')
    stricter = Authority(SERVED, folder)
    changed = 0
    for asked in _every_call():
        before, after = authority.decide(asked), stricter.decide(asked)
        assert before.allowed or not after.allowed
        changed += before.allowed and not after.allowed
    assert changed > 0


def test_every_forbid_that_stands_in_the_way_is_named(authority: Authority) -> None:
    asked = Request(
        agent="author", tool="git_push", repository="shop", branch="main", own_branch="main", own_repository="lib"
    )
    assert authority.decide(asked).rules == (
        "main-moves-by-landing-only",
        "only-the-merger-moves-main",
        "outside-the-sessions-repository",
    )


def test_a_default_deny_names_what_the_grant_does_not_cover(authority: Authority) -> None:
    asked = Request(agent="author", tool="forge.push", repository="shop", branch="wip", delivery="shop-1")
    decision = authority.decide(asked)
    assert decision.rules == ("no-permit", "branch-not-granted")
    assert "propose" in decision.reason


def test_an_engine_that_breaks_refuses_and_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """As the engine's own panics, which are no Exception."""

    def broken(*_: object, **__: object) -> None:
        raise Panic

    authority = Authority(SERVED)
    asked = Request(agent="merger", tool="forge.land", repository="shop", branch="main")
    with monkeypatch.context() as patch:
        patch.setattr(cedarpy, "is_authorized", broken)
        assert authority.decide(asked).rules == ("engine-error",)
        assert authority.visible_tools("merger", TOOLS) == ()
    assert authority.decide(asked).allowed


def test_a_forbid_that_errs_refuses_what_cedar_would_have_allowed(folder: Path) -> None:
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write('\n@id("overflows")\nforbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };\n')
    asked = Request(agent="merger", tool="forge.land", repository="shop", branch="main")
    decision = Authority(SERVED, folder).decide(asked)
    assert not decision.allowed
    assert decision.rules[0] == "engine-error"
    assert "overflow" in decision.reason


TEXT = st.one_of(
    st.none(), st.text(max_size=12), st.sampled_from(["shop", "lib", "main", "production", "agent/shop-1/1"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_asked_gets_an_answer_and_the_same_one_after_a_round_trip(
    authority: Authority, data: st.DataObject
) -> None:
    asked = Request(
        agent=data.draw(st.one_of(st.sampled_from([*Role]), st.text(max_size=8))),
        tool=data.draw(st.one_of(st.sampled_from([*TOOLS]), st.text(max_size=8))),
        repository=data.draw(TEXT),
        paths=tuple(data.draw(st.lists(st.text(max_size=12), max_size=3))),
        branch=data.draw(TEXT),
        environment=data.draw(TEXT),
        own_branch=data.draw(TEXT),
        own_repository=data.draw(TEXT),
        delivery=data.draw(TEXT),
        tainted=data.draw(st.booleans()),
        read_confidential=data.draw(st.booleans()),
        scopes=data.draw(st.none() | st.frozensets(st.sampled_from(SCOPES) | st.text(max_size=4), max_size=3)),
    )
    if data.draw(st.booleans()):
        asked = asked.model_copy(
            update={"chain": (asked.model_copy(update={"agent": data.draw(st.sampled_from([*Role]))}),)}
        )
    answer = authority.decide(asked)
    assert answer.rules
    try:
        text = asked.model_dump_json()
    except ValueError:
        assert not answer.allowed  # a lone surrogate has no JSON
        return
    assert authority.decide(Request.model_validate_json(text)) == answer
