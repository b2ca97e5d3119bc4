"""The table of what agents reach is what the authority answers, and its words say no more than the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from served_here import SERVED

from controller.errors import Permanent
from rbac import reach as reach_module
from rbac.canonical import path as canonical_path
from rbac.catalogue import TOOLS, Role
from rbac.decide import Authority
from rbac.load import load
from rbac.model import Request
from rbac.patterns import matches, protects
from rbac.reach import Reach, asked_about, reach
from rbac.witnesses import NEIGHBOUR, THIS_BRANCH, Circumstance, Witnesses, names_like, near_misses, witnesses
from rbac.words import permissions

SHOP = SERVED[:1]
PATTERNS = sorted({pattern for role in load().roles.values() for grant in role.grants for pattern in grant.paths.never})


@pytest.fixture(scope="module")
def tried() -> Witnesses:
    return witnesses((load(),), SHOP)


@pytest.fixture(scope="module")
def reached(tried: Witnesses) -> Reach:
    return reach(asked_about(SHOP), SHOP, tried)


def spoken(folder: Path, role: Role) -> dict[str, str]:
    """The words for each tool of a role under the rules of a folder."""
    tried = witnesses((load(folder),), SHOP)
    found = reach(asked_about(SHOP, folder), SHOP, tried, roles=[role])
    return {tool: one.where for one in permissions(found.cells, tried, SHOP) for tool in one.tools}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_has_names_that_it_covers_and_near_misses_that_it_does_not(pattern: str) -> None:
    assert all(matches(pattern, name) for name in names_like(pattern))
    assert not all(protects(pattern, name) for name in near_misses(pattern))
    for name in (*names_like(pattern), *near_misses(pattern)):
        assert canonical_path(name) == name


def test_what_is_reached_is_what_the_authority_in_force_allows(reached: Reach) -> None:
    authority = Authority(SHOP)
    ordinary = [cell for cell in reached.cells if cell.circumstance is Circumstance.ORDINARY]
    for cell in sorted(ordinary)[::20]:
        asked = Request(
            agent=cell.agent,
            tool=cell.tool,
            repository=cell.repository or None,
            environment=cell.environment or None,
            branch=cell.branch or None,
            paths=(cell.path,) if cell.path else (),
            own_branch=THIS_BRANCH,
            delivery="delivery-1",
        )
        assert authority.decide(asked).allowed, cell


def test_a_tool_is_reached_exactly_when_it_is_seen(reached: Reach) -> None:
    authority = asked_about(SHOP)
    for role in Role:
        seen = set(authority.visible_tools(role, TOOLS))
        assert {cell.tool for cell in reached.cells if cell.agent == role} == seen


def test_nobody_reaches_the_release_branch_but_the_merger_by_landing(reached: Reach) -> None:
    movers = {"forge.land", "forge.push", "git_push"}
    found = {(cell.agent, cell.tool) for cell in reached.cells if cell.tool in movers and cell.branch.lower() == "main"}
    assert found == {("merger", "forge.land")}


def test_a_session_that_is_tied_to_another_repository_reaches_nothing_in_this_one(reached: Reach) -> None:
    elsewhere = {cell for cell in reached.cells if cell.circumstance is Circumstance.ELSEWHERE}
    assert {cell.repository for cell in elsewhere} <= {""}
    assert NEIGHBOUR.repository not in {cell.repository for cell in reached.cells}


def test_every_circumstance_changes_an_answer_somewhere(reached: Reach) -> None:
    """One that changed nothing would be asked in vain, as when a fact is no longer called that."""
    for circumstance in set(Circumstance) - {Circumstance.ORDINARY, Circumstance.OWN_IS_PROTECTED}:
        asked = {cell.tool for cell in reached.cells if cell.circumstance is Circumstance.ORDINARY}
        ordinary = {cell for cell in reached.cells if cell.circumstance is Circumstance.ORDINARY and cell.tool in asked}
        assert any(cell._replace(circumstance=circumstance) not in reached.cells for cell in ordinary), circumstance


def test_a_path_that_is_excluded_is_said_by_its_pattern(folder: Path) -> None:
    words = spoken(folder, Role.AUTHOR)["edit_file"]
    assert "every path but " in words
    assert ".github/**" in words
    assert "once it has read an outsider's text also not" in words
    grants = folder / "grants/author.yaml"
    grants.write_text(grants.read_text().replace('        - ".github/**"\n', ""))
    assert ".github/**" not in spoken(folder, Role.AUTHOR)["edit_file"]


def test_a_grant_of_one_folder_is_said_as_that_folder_and_nothing_else(folder: Path) -> None:
    (folder / "grants/author.yaml").write_text(
        "role: author\nwhy: documents only\ngrants:\n  - name: edit\n    tools: [edit_file]\n"
        '    repositories: [shop]\n    paths: {allowed: ["docs/**"]}\n'
    )
    assert spoken(folder, Role.AUTHOR)["edit_file"].startswith("in every served repository; no path but docs/**;")


def test_branches_are_said_by_what_they_are_to_the_caller(folder: Path) -> None:
    said = spoken(folder, Role.MERGER)
    assert "on the release branch" in said["forge.land"]
    assert "on branches like agent/{delivery}/*" in spoken(folder, Role.AUTHOR)["forge.push"]
    assert "on its own branch" in spoken(folder, Role.AUTHOR)["git_push"]


def test_too_many_questions_are_an_error_and_never_part_of_a_table(
    tried: Witnesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach_module, "MAX_CELLS", 1000)
    with pytest.raises(Permanent, match="more than 1000"):
        reach(asked_about(SHOP), SHOP, tried)


def test_rules_on_which_the_engine_fails_are_an_error_and_no_refusal(folder: Path, tried: Witnesses) -> None:
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write('\n@id("overflows")\nforbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };\n')
    with pytest.raises(Permanent, match="engine fails"):
        reach(asked_about(SHOP, folder), SHOP, tried)
