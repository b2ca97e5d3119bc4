"""What people may do: by group, decided by Cedar, and nothing for whoever is in none."""

from __future__ import annotations

import getpass
import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.grants import ListedPeople
from controller.domain.ids import Digest
from controller.errors import ConfigError
from rbac.people import SHIPPED, Group, People

ACTS = (
    "ask",
    "approve",
    "reject",
    "hold",
    "release",
    "promote",
    "retry",
    "unstick",
    "stop",
    "resume",
    "revoke",
    "clients",
    "privacy",
    "keys",
    "read",
)
TEAM = People(
    {
        Group.REQUESTERS: ("ann", "ben"),
        Group.APPROVERS: ("ben",),
        Group.OPERATORS: ("cleo",),
        Group.OWNERS: ("olga",),
    }
)
MAY = {
    "ann": {"ask", "read", "hold", "release"},
    "ben": {"ask", "read", "hold", "release", "approve", "reject"},
    "cleo": {"hold", "release", "stop", "resume", "revoke", "unstick", "promote", "retry", "read"},
    "olga": {*ACTS},
    "mallory": set[str](),
    "": set[str](),
}


@pytest.mark.parametrize("person", MAY)
def test_everybody_may_what_their_groups_give_and_nothing_else(person: str) -> None:
    for where in (None, "shop"):
        assert {act for act in ACTS if TEAM.may(person, act, where).allowed} == MAY[person]


def test_every_answer_names_the_rules_that_gave_it() -> None:
    assert TEAM.may("ben", "approve", "shop").rules == ("approvers-consent",)
    assert TEAM.may("ann", "approve", "shop").rules == ("people/default-deny",)
    assert TEAM.may("mallory", "ask", "shop").rules == ("unknown-person",)


@given(act=st.text(max_size=30))
def test_an_act_that_nobody_knows_is_refused_even_to_owners(act: str) -> None:
    assert TEAM.may("olga", act, None).allowed == (act in ACTS)


def test_a_forbid_outranks_every_group(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "people_rules", tmp_path / "people_rules")
    policy = tmp_path / "people_rules/people.cedar"
    policy.write_text(
        policy.read_text() + '\n@id("nobody-promotes")\nforbid (principal, action == Action::"promote", resource);\n'
    )
    strict = People({Group.OWNERS: ("olga",), Group.OPERATORS: ("cleo",)}, tmp_path)
    for person, act in itertools.product(("olga", "cleo"), ("promote", "stop")):
        assert strict.may(person, act, None).allowed == (act == "stop")
    assert strict.may("olga", "promote", None).rules == ("nobody-promotes",)


@pytest.mark.parametrize("line", ["permit(principal", 'permit(principal, action == Action::"rule", resource);'])
def test_a_policy_that_cannot_be_read_or_asks_for_what_there_is_not_stops_the_start(tmp_path: Path, line: str) -> None:
    shutil.copytree(SHIPPED / "people_rules", tmp_path / "people_rules")
    policy = tmp_path / "people_rules/people.cedar"
    policy.write_text(policy.read_text() + "\n" + line)
    with pytest.raises(ConfigError, match=r"people\.cedar"):
        People({}, tmp_path)


def test_another_member_or_another_rule_is_another_policy_in_the_log() -> None:
    more = People({Group.OWNERS: ("olga", "ann")})
    assert len({TEAM.digest, more.digest, People({}).digest}) == 3


def test_when_nobody_is_named_whoever_runs_it_is_the_owner_and_nobody_else() -> None:
    alone = ListedPeople((), Digest("sha256:0"))
    assert alone.may_person(getpass.getuser(), "stop", None)
    assert not alone.may_person("mallory", "stop", None)
    grouped = ListedPeople((), Digest("sha256:0"), {"operators": ("cleo",)})
    assert not grouped.may_person(getpass.getuser() + "x", "stop", None)
    assert grouped.may_person("cleo", "stop", None)
    assert not grouped.may_person("cleo", "ask", "shop")
