"""The policy tests that are data: they pass, they cover every rule and every grant, and they are read strictly."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from controller.errors import ConfigError
from rbac.cases import CASES, Case, Expect, read, run
from rbac.catalogue import Role
from rbac.load import SHIPPED, load

FOUND = read()
EVERY: list[Case] = [case for _, file, _ in FOUND for case in file.cases]
SPOILT = [
    ("a fact that there is not", "tool: ci.start,", "tool: ci.start, brunch: main,", "brunch"),
    ("an answer that there is not", "expect: allow", "expect: perhaps", "expect"),
    ("a number for a name", "agent: checker", "agent: 7", "agent"),
    ("a refusal by nothing", "expect: allow", "expect: refuse", "names the rules"),
    ("a case without an answer", "    expect: allow\n", "", "expect"),
]
ONE = """served:
  - {repository: shop, branch: main}
cases:
  - name: the checker starts CI
    ask: {agent: checker, tool: ci.start, repository: shop}
    expect: allow
"""


def test_every_policy_test_that_is_shipped_passes() -> None:
    outcome = run()
    assert [f"{one.file}:{one.line} {one.name}: {one.got.rules}" for one in outcome.failures] == []
    assert outcome.passed == len(EVERY) >= 60


def test_every_policy_that_is_shipped_is_named_by_some_case() -> None:
    texts = "\n".join(load().policies.values())
    ids = set(re.findall(r'@id\("([a-z0-9-]+)"\)', texts))
    assert len(ids) == len(re.findall(r"^(?:permit|forbid)\b", texts, re.MULTILINE))
    named = {rule for case in EVERY for rule in case.rules}
    assert ids - named == set(), "write a case into rbac/tests"


def test_every_tool_that_a_role_is_granted_has_a_case_that_allows_it() -> None:
    granted = {(role, tool) for role, found in load().roles.items() for grant in found.grants for tool in grant.tools}
    allowed = {
        (case.ask.agent, case.ask.tool)
        for _, file, _ in FOUND
        if not file.granting
        for case in file.cases
        if case.expect is Expect.ALLOW
    }
    assert granted - allowed == set(), "write a case into rbac/tests"


def test_every_role_has_a_case_that_refuses_it_something() -> None:
    refused = {case.ask.agent for case in EVERY if case.expect is Expect.REFUSE}
    assert refused >= set(Role)


@pytest.mark.parametrize(
    "policy", sorted(set(re.findall(r'@id\("([a-z0-9-]+)"\)', "\n".join(load().policies.values()))))
)
def test_without_a_policy_some_case_fails(folder: Path, policy: str) -> None:
    """A rule that can go without a case noticing is not tested by any."""
    cases = folder / "cases"
    cases.mkdir()
    name = next(name for name, file, _ in FOUND if any(policy in case.rules for case in file.cases))
    shutil.copyfile(CASES / name, cases / name)
    for file in folder.glob("policy/*.cedar"):
        text = file.read_text()
        if f'@id("{policy}")' in text:
            begin = text.index(f'@id("{policy}")')
            file.write_text(text[:begin] + text[text.index("};", begin) + 2 :])
    assert run(folder, cases).failures


def test_a_failure_says_where_the_case_stands_and_what_it_got(folder: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    (cases / "one.yaml").write_text(ONE.replace("agent: checker", "agent: observer"))
    (failure,) = run(folder, cases).failures
    assert (failure.file, failure.line, failure.name) == ("one.yaml", 4, "the checker starts CI")
    assert failure.got.rules == ("no-permit", "tool-not-granted")


def test_a_rule_that_a_case_names_must_be_among_those_that_decided(folder: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    (cases / "one.yaml").write_text(ONE + "    rules: [granted-to-tell]\n")
    assert len(run(folder, cases).failures) == 1
    (cases / "one.yaml").write_text(ONE + "    rules: [granted-in-repository]\n")
    assert run(folder, cases).failures == ()


def test_grants_in_a_file_of_cases_are_in_force_for_its_cases_only(tmp_path: Path) -> None:
    more = "granting:\n  - role: observer\n    why: too much\n    grants:\n"
    more += "      - {name: all, tools: [query_telemetry], environments: [production]}\n"
    asked = ONE.replace(
        "agent: checker, tool: ci.start", "agent: observer, tool: query_telemetry, environment: production"
    )
    asked = asked.replace("branch: main}", "branch: main, environments: [production]}")
    (tmp_path / "one.yaml").write_text(asked)
    assert run(SHIPPED, tmp_path).passed == 0
    more = more.replace("environments: [production]}", 'repositories: ["*"], environments: [production]}')
    (tmp_path / "two.yaml").write_text(more + asked)
    outcome = run(SHIPPED, tmp_path)
    assert outcome.passed == 1
    assert [one.file for one in outcome.failures] == ["one.yaml"]


@pytest.mark.parametrize(("old", "new", "words"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_a_malformed_case_names_its_file_and_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in ONE
    (tmp_path / "one.yaml").write_text(ONE.replace(old, new))
    with pytest.raises(ConfigError, match=rf"^one\.yaml:[456]: .*{words}") as wrong:
        read(tmp_path)
    assert wrong.value.way_out


def test_two_cases_of_one_name_and_a_folder_without_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \*\.yaml"):
        read(tmp_path)
    (tmp_path / "one.yaml").write_text(ONE + ONE.partition("cases:\n")[2])
    with pytest.raises(ConfigError, match="two cases are called"):
        read(tmp_path)


def test_the_cases_that_are_shipped_stand_beside_the_rules() -> None:
    assert CASES.parent == SHIPPED
    assert len(FOUND) >= 5
