"""What a reviewer is told of one decision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from served_here import SERVED

from rbac.catalogue import Role
from rbac.decide import Authority
from rbac.explain import Explanation
from rbac.load import SHIPPED
from rbac.model import Request

PUSH = Request(agent="author", tool="git_push", repository="shop", branch="agent/x/1", own_branch="agent/x/1")


def line_at(place: str) -> str:
    name, line = place.rsplit(":", 1)
    return (SHIPPED / name).read_text().splitlines()[int(line) - 1]


def fell_short(found: Explanation) -> dict[str, tuple[str, ...]]:
    return {permit.policy: permit.fell_short for permit in found.permits if not permit.allows and permit.fell_short}


def test_an_allowed_call_shows_its_grant_its_file_and_the_permit_that_spoke(authority: Authority) -> None:
    found = authority.explain(PUSH)
    assert found.decision == authority.decide(PUSH)
    assert found.rules_digest == authority.digest
    assert found.grant == "author/push"
    assert found.granted_at is not None
    assert line_at(found.granted_at).strip() == "- name: push"
    assert [permit.policy for permit in found.permits if permit.allows] == ["granted-in-repository"]
    assert found.forbids == ()
    assert fell_short(found) == {}
    assert found.question is not None
    assert found.question["context"]["branch_granted"] is True
    kinds = [one["uid"]["type"] for one in found.entities]
    assert kinds == ["Agent", "Grant", "Repository"]


def test_every_forbid_that_matches_is_shown_with_its_line_and_its_reason(authority: Authority) -> None:
    found = authority.explain(PUSH.model_copy(update={"branch": "main", "own_branch": "main", "own_repository": "lib"}))
    assert [one.policy for one in found.forbids] == [
        "main-moves-by-landing-only",
        "only-the-merger-moves-main",
        "outside-the-sessions-repository",
    ]
    for one in found.forbids:
        assert line_at(one.place).startswith("forbid (")
        assert one.why
    assert any(permit.allows for permit in found.permits)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"branch": "wip"}, ("branch-not-granted",)),
        ({"environment": "production"}, ("environment-not-granted",)),
        ({"branch": "wip", "environment": "production"}, ("branch-not-granted", "environment-not-granted")),
    ],
)
def test_a_permit_that_fell_short_says_what_would_have_to_be_otherwise(
    authority: Authority, change: dict[str, Any], missing: tuple[str, ...]
) -> None:
    found = authority.explain(PUSH.model_copy(update=change))
    assert not found.decision.allowed
    assert {*found.decision.rules} == {"no-permit", *missing}
    assert fell_short(found)["granted-in-repository"] == missing


def test_a_repository_that_the_grant_does_not_name_is_what_is_missing(folder: Path) -> None:
    file = folder / "grants/author.yaml"
    file.write_text(file.read_text().replace('repositories: ["*"]', "repositories: [lib]"))
    found = Authority(SERVED, folder).explain(PUSH)
    assert fell_short(found) == {"granted-in-repository": ("repository-not-granted",)}
    grant = next(one for one in found.entities if one["uid"]["type"] == "Grant")
    assert grant["attrs"]["repositories"] == [{"__entity": {"type": "Repository", "id": "lib"}}]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"tool": "promote"}, "tool-not-granted"),
        ({"tool": "sudo"}, "unknown-tool"),
        ({"agent": "root"}, "unknown-agent"),
        ({"branch": "../main"}, "branch/characters"),
        ({"scopes": frozenset({"ci:read"})}, "insufficient-scope"),
    ],
)
def test_what_is_refused_before_grants_count_has_no_question(
    authority: Authority, change: dict[str, Any], rule: str
) -> None:
    found = authority.explain(PUSH.model_copy(update=change))
    assert rule in found.decision.rules or rule == "branch/characters"
    assert not found.decision.allowed
    assert (found.grant, found.question, found.permits) == (None, None, ())


def test_each_lender_is_explained_and_the_whole_decision_stands_first(authority: Authority) -> None:
    child = PUSH.model_copy(update={"agent": "contributor"})
    lender = child.model_copy(update={"own_branch": "agent/y/1", "tainted": True})
    found = authority.explain(child.model_copy(update={"chain": (lender,)}))
    assert found.decision.rules[0] == "chain/contributor"
    (link,) = found.chain
    assert [one.policy for one in link.forbids] == ["tainted-run-lends-no-authority"]
    assert fell_short(link) == {"granted-in-repository": ("branch-not-granted",)}


def test_an_explanation_is_json_and_comes_back_the_same(authority: Authority) -> None:
    for asked in (PUSH, PUSH.model_copy(update={"chain": (PUSH,)}), PUSH.model_copy(update={"tool": "sudo"})):
        found = authority.explain(asked)
        assert Explanation.model_validate_json(found.model_dump_json()) == found
        assert json.loads(found.model_dump_json())["decision"]["rules"]


def test_an_explanation_never_disagrees_with_the_decision(authority: Authority) -> None:
    for role in Role:
        for tool in ("chat.tell", "git_push", "promote", "record_reasoning", "platform.restore", "edit_file"):
            asked = Request(agent=role, tool=tool, repository="shop", environment="production", branch="agent/x/1")
            for tried in (asked, asked.model_copy(update={"paths": ("src/a.py",), "environment": None})):
                found = authority.explain(tried)
                assert found.decision == authority.decide(tried)
                if found.question is not None:
                    speaks = any(permit.allows for permit in found.permits)
                    assert found.decision.allowed == (speaks and not found.forbids)
