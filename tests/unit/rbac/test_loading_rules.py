from __future__ import annotations

import re
from pathlib import Path

import pytest
from served_here import SERVED

from controller.errors import ConfigError
from rbac.catalogue import Role
from rbac.decide import Authority
from rbac.load import SHIPPED, check_moves, load
from rbac.model import Request

LAND = Request(agent="merger", tool="forge.land", repository="shop", branch="main")


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def line_of(file: Path, words: str) -> int:
    return next(number for number, line in enumerate(file.read_text().split("\n"), start=1) if words in line)


SPOILT = [
    ("a misspelt key", "grants/merger.yaml", "    branches:", "    branchs:", "branchs"),
    ("an unknown verb", "grants/merger.yaml", "[forge.land]", "[forge.force_push]", "forge.force_push"),
    ("a wrong type", "grants/merger.yaml", 'repositories: ["*"]', "repositories: 7", "repositories: 7"),
    ("a number among names", "grants/merger.yaml", '["{protected}"]', "[7]", "branches: [7]"),
    ("a pattern that climbs", "grants/author.yaml", '- "**/.gitmodules"', '- "../.gitmodules"', "../.gitmodules"),
    ("a branch pattern that is none", "grants/author.yaml", "agent/{delivery}/*", "agent/{anything}/*", "{anything}"),
    ("a repository that is no name", "grants/checker.yaml", '["*"]', '["Shop!"]', "Shop!"),
    ("a key twice", "grants/checker.yaml", "role: checker", "role: checker\nrole: merger", "role: merger"),
    ("an alias", "grants/checker.yaml", 'repositories: ["*"]', "repositories: &all [x]", "&all"),
    ("a tag", "grants/checker.yaml", "role: checker", "role: !!python/name:os.system checker", "!!python"),
    ("a float", "grants/checker.yaml", "why: has a proposed head tested", "why: 1.5", "why: 1.5"),
    ("broken YAML", "grants/checker.yaml", "tools: [ci.start]", "tools: [ci.start", "repositories"),
    ("an unknown role", "grants/checker.yaml", "role: checker", "role: chequer", "role: chequer"),
    ("another role's file", "grants/checker.yaml", "role: checker", "role: observer", "role: observer"),
    ("a tool of no mount", "grants/on-call.yaml", "[hold_release,", "[tracker__find, hold_release,", "tracker__find"),
    ("a grant's name twice", "grants/checker.yaml", "name: tell", "name: test", "role: checker"),
    (
        "a note with a quote",
        "policy/flyball.cedar",
        '@why("one role lands',
        '@why("one \\"role lands',
        'action == Action::"forge.land"',
    ),
    (
        "a policy without a name",
        "policy/flyball.cedar",
        '@id("protected-path")\n@why("the repository keeps this file for people")\n',
        "",
        'Action::"changes_files", resource)\nwhen { context.path_protected',
    ),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT]
)
def test_a_malformed_rule_names_its_file_its_line_and_a_way_out(
    folder: Path, name: str, old: str, new: str, words: str
) -> None:
    spoil(folder / name, old, new)
    with pytest.raises(ConfigError) as wrong:
        load(folder)
    place = re.match(rf"{re.escape(name)}:(\d+): ", wrong.value.message)
    assert place, wrong.value.message
    if "\n" not in words:
        assert int(place[1]) == line_of(folder / name, words), wrong.value.message
    assert wrong.value.way_out


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("context.path_protected", "context.path_protekted"),
        ('Agent::"merger"', 'Agnt::"merger"'),
        ('Action::"forge.land"', 'Action::"forge.lnad"'),
        ("forbid (", "forbid (("),
    ],
)
def test_a_policy_that_does_not_fit_the_schema_names_its_file(folder: Path, old: str, new: str) -> None:
    spoil(folder / "policy/flyball.cedar", old, new)
    with pytest.raises(ConfigError, match=r"^policy/flyball\.cedar: "):
        Authority(SERVED, folder)


def test_a_schema_that_forgets_a_tool_is_refused(folder: Path) -> None:
    spoil(folder / "policy/flyball.cedarschema", ', "delete_file"', "")
    with pytest.raises(ConfigError, match="delete_file"):
        Authority(SERVED, folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"roll_back" in ["effects", "steers_releases", "production_impacting"]', '"roll_back" in ["effects"]'),
        ('"chat.tell" in ["tells", "broadcasts"]', '"chat.tell" in ["tells"]'),
        ('"run_tests" in ["reads", "forward"]', '"run_tests" in ["reads"]'),
        (
            '"forge.close_pull_request", "forge.annotate" in ["effects"]',
            '"forge.close_pull_request", "forge.annotate" in ["effects", "taints"]',
        ),
        ('"read_own_record" in ["notes", "confidential"]', '"read_own_record" in ["notes"]'),
    ],
)
def test_a_schema_that_annotates_a_tool_otherwise_than_the_catalogue_is_refused(
    folder: Path, old: str, new: str
) -> None:
    authority = Authority(SERVED, folder)
    spoil(folder / "policy/flyball.cedarschema", old, new)
    with pytest.raises(ConfigError, match=r"^policy/\*\.cedarschema: \S+ stands in .* catalogued as") as wrong:
        authority.reload()
    assert wrong.value.way_out
    assert authority.decide(LAND).allowed


def test_a_question_that_does_not_fit_the_schema_is_refused_at_the_start(folder: Path) -> None:
    spoil(folder / "policy/flyball.cedarschema", "  lends: Bool,", "  lends: Bool, at: Long,")
    with pytest.raises(ConfigError, match=r"^policy/\*\.cedarschema: a call of \S+ does not fit"):
        Authority(SERVED, folder)


@pytest.mark.parametrize(
    "hidden",
    [
        "forbid (principal, action, resource) when { false }; permit (principal, action, resource);",
        '@id("on-one-line") permit (principal, action, resource);',
        '/* @id("in-a-comment")\npermit */ @id("other") forbid (principal, action, resource);',
    ],
)
def test_a_policy_that_a_reader_of_lines_would_miss_is_refused(folder: Path, hidden: str) -> None:
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write(f'\n@id("seen")\n{hidden}\n')
    with pytest.raises(ConfigError, match=r"^policy/flyball\.cedar"):
        Authority(SERVED, folder)


def test_every_shipped_policy_says_why_in_one_sentence() -> None:
    assert [name for name, note in load().policy_notes.items() if not 10 < len(note.why) < 140] == []


def test_a_tool_stands_in_one_grant_of_a_role(folder: Path) -> None:
    spoil(folder / "grants/merger.yaml", "tools: [ci.start]", "tools: [ci.start, forge.land]")
    with pytest.raises(ConfigError, match=r"merger\.yaml:\d+: .*forge\.land is granted twice"):
        load(folder)


def test_no_rules_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no grants/\*\.yaml"):
        load(tmp_path)


def test_a_malformed_set_never_replaces_the_one_in_force(folder: Path) -> None:
    authority = Authority(SERVED, folder)
    before = authority.digest
    spoil(folder / "grants/merger.yaml", "tools: [forge.land]", "tools: [forge.lnad]")
    with pytest.raises(ConfigError):
        authority.reload()
    assert authority.digest == before
    assert authority.decide(LAND).allowed


def test_a_policy_that_cedar_cannot_take_never_replaces_the_one_in_force(folder: Path) -> None:
    authority = Authority(SERVED, folder)
    before = authority.digest
    spoil(folder / "policy/flyball.cedar", "context.tainted &&", "context.tinted &&")
    with pytest.raises(ConfigError):
        authority.reload()
    assert authority.digest == before
    assert authority.decide(LAND).allowed


def test_a_revoked_grant_is_refused_on_the_next_call(folder: Path) -> None:
    authority = Authority(SERVED, folder)
    assert authority.decide(LAND).allowed
    spoil(folder / "grants/merger.yaml", 'repositories: ["*"]', "repositories: [lib]")
    authority.reload()
    assert authority.decide(LAND).rules == ("no-permit", "repository-not-granted")


def test_the_digest_is_the_same_for_the_same_text_and_another_for_any_other(folder: Path) -> None:
    first = load(folder).digest
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first)
    (folder / "grants/intake.yaml").write_bytes((folder / "grants/intake.yaml").read_bytes().replace(b"\n", b"\r\n"))
    assert load(folder).digest == first
    seen = {first}
    for file in sorted(folder.rglob("*.*")):
        file.write_text(file.read_text() + ("# and\n" if file.suffix == ".yaml" else "// and\n"))
        seen.add(load(folder).digest)
    assert len(seen) == 1 + len(list(folder.rglob("*.*")))


def test_every_role_has_a_grants_file() -> None:
    assert set(load().roles) == set(Role)


@pytest.mark.parametrize(("role", "tool"), [("author", "forge.push"), ("merger", "forge.land")])
def test_a_grant_of_before_that_moves_a_branch_and_names_no_path_is_refused_at_the_start(
    folder: Path, role: str, tool: str
) -> None:
    file = folder / "grants" / f"{role}.yaml"
    before, _, after = file.read_text().partition(f"tools: [{tool}")
    within, _, rest = after.partition("    paths:")
    file.write_text(before + f"tools: [{tool}" + within + rest.partition("\n\n")[2])
    with pytest.raises(
        ConfigError, match=rf"grants/{role}\.yaml:\d+: .* gives {re.escape(tool)} and no paths"
    ) as refused:
        check_moves(load(folder))
    assert 'paths: {allowed: ["**"]}' in refused.value.way_out


def test_grants_that_are_shipped_move_branches() -> None:
    check_moves(load(SHIPPED))
