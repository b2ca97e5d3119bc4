"""A change of rules is told as what agents gain and lose by it, whichever file it stands in."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from served_here import SERVED

from controller.errors import ConfigError
from rbac.compare import Comparison, Effect, compare
from rbac.load import SHIPPED
from rbac.witnesses import Circumstance

SHOP = SERVED[:1]


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def allow_github(folder: Path) -> None:
    """What keeps it away is a pattern, and the class of what CI runs."""
    change(folder / "grants/author.yaml", '        - ".github/**"\n', "")
    change(folder / "grants/author.yaml", "steers-agents, ci, owners", "steers-agents, owners")


def drop_policy(folder: Path, name: str) -> None:
    """One policy of the file, by its @id."""
    file = folder / "policy/flyball.cedar"
    text = file.read_text()
    begin = text.index(f'@id("{name}")')
    file.write_text(text[:begin] + text[text.index(";", begin) + 1 :])


def against_shipped(folder: Path) -> Comparison:
    return compare(SHIPPED, folder, SHOP)


def effects(found: Comparison) -> dict[str, Effect]:
    return {one.file: one.effect for one in found.files}


def test_the_same_rules_give_and_take_nothing(folder: Path) -> None:
    found = against_shipped(folder)
    assert found.same_permissions
    assert found.files == ()


def test_a_policy_is_compared_for_every_role_within_five_seconds(folder: Path) -> None:
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write("// a word more\n")
    began = time.process_time()
    found = against_shipped(folder)
    assert time.process_time() - began < 5
    assert found.same_permissions
    assert found.asked > 5000


def test_a_pattern_that_is_taken_out_of_never_is_a_gain_of_exactly_that_pattern(folder: Path) -> None:
    allow_github(folder)
    found = against_shipped(folder)
    assert {(one.agent, one.tool, one.where) for one in found.gains} == {
        ("author", tool, (".github/**",)) for tool in ("edit_file", "write_file", "delete_file")
    }
    assert not any(one.whole for one in found.gains)
    assert found.gains[0].examples[0] == ".github/workflows/x.yml in repository shop in an ordinary run"
    assert found.losses == ()
    assert effects(found) == {"grants/author.yaml": Effect.FOUND}


def test_the_other_way_round_it_is_a_loss_of_the_same_calls(folder: Path) -> None:
    allow_github(folder)
    forth, back = against_shipped(folder), compare(folder, SHIPPED, SHOP)
    assert back.gains == ()
    assert [(one.tool, one.calls) for one in back.losses] == [(one.tool, one.calls) for one in forth.gains]
    assert (forth.gained_calls, forth.lost_calls) == (back.lost_calls, back.gained_calls)


def test_a_pattern_that_is_new_on_one_side_is_tried_on_both(folder: Path) -> None:
    change(
        folder / "grants/author.yaml",
        '        - "**/.gitmodules"\n',
        '        - "**/.gitmodules"\n        - "src/ledger/**"\n',
    )
    found = against_shipped(folder)
    assert {one.where for one in found.losses} == {("src/ledger/**",)}
    assert found.gains == ()


def test_a_tool_that_a_role_did_not_have_is_told_as_a_whole(folder: Path) -> None:
    change(folder / "grants/checker.yaml", "tools: [ci.start]", "tools: [ci.start, forge.comment]")
    found = against_shipped(folder)
    assert [(one.agent, one.tool, one.whole) for one in found.gains] == [("checker", "forge.comment", True)]


def test_a_rule_about_tainted_runs_that_goes_is_a_gain_of_tainted_runs_only(folder: Path) -> None:
    drop_policy(folder, "tainted-run-keeps-to-plain-files")
    found = against_shipped(folder)
    assert {one.agent for one in found.gains} == {"author", "contributor"}
    assert "pyproject.toml" in found.gains[0].where
    for one in found.gains:
        assert Circumstance.ORDINARY not in one.circumstances
        assert Circumstance.TAINTED in one.circumstances
    assert effects(found) == {"policy/flyball.cedar": Effect.FOUND}


@pytest.mark.parametrize("policy", ["outside-the-task", "outside-the-sessions-repository"])
def test_a_forbid_that_goes_is_seen_by_its_effect(folder: Path, policy: str) -> None:
    drop_policy(folder, policy)
    assert against_shipped(folder).gains


def test_a_change_of_words_is_said_to_have_no_effect(folder: Path) -> None:
    change(folder / "grants/observer.yaml", "why: judges", "why: watches and judges")
    found = against_shipped(folder)
    assert found.same_permissions
    assert effects(found) == {"grants/observer.yaml": Effect.NONE_FOUND}
    assert found.before != found.after


def test_a_forbid_that_no_grant_runs_into_is_said_to_have_no_effect(folder: Path) -> None:
    drop_policy(folder, "landing-is-the-mergers")
    found = against_shipped(folder)
    assert found.same_permissions
    assert effects(found) == {"policy/flyball.cedar": Effect.NONE_FOUND}


def test_when_grants_and_policies_change_together_a_policy_is_not_blamed_without_proof(folder: Path) -> None:
    allow_github(folder)
    drop_policy(folder, "landing-is-the-mergers")
    found = effects(against_shipped(folder))
    assert found == {"grants/author.yaml": Effect.FOUND, "policy/flyball.cedar": Effect.SHARED}


def test_a_role_that_goes_loses_everything_it_had(folder: Path) -> None:
    (folder / "grants/on-call.yaml").unlink()
    found = against_shipped(folder)
    assert found.gains == ()
    assert {one.agent for one in found.losses} == {"on-call"}
    assert all(one.whole for one in found.losses)
    assert [(one.file, one.how) for one in found.files] == [("grants/on-call.yaml", "removed")]


def test_of_rules_for_another_flyball_the_grants_are_compared_and_it_is_said(folder: Path) -> None:
    change(folder / "policy/flyball.cedarschema", "tainted: Bool,", "tainted: Bool, moonlight: Bool,")
    (folder / "policy/flyball.cedar").write_text('@id("nothing")\nforbid (principal, action, resource);\n')
    change(folder / "grants/checker.yaml", "tools: [ci.start]", "tools: [ci.start, forge.comment]")
    found = against_shipped(folder)
    assert found.grants_only == ("after",)
    assert [(one.agent, one.tool) for one in found.gains] == [("checker", "forge.comment")]
    assert effects(found)["policy/flyball.cedar"] is Effect.NOT_COMPARED


def test_rules_that_do_not_load_are_not_compared(folder: Path) -> None:
    change(folder / "grants/checker.yaml", "ci.start", "ci.strat")
    with pytest.raises(ConfigError, match=r"grants/checker\.yaml:\d+"):
        against_shipped(folder)
    shutil.rmtree(folder / "grants")
    with pytest.raises(ConfigError, match="holds no grants"):
        against_shipped(folder)
