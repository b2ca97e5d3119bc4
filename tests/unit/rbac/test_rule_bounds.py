"""Every bound of the rules and of what is asked of them: at the bound they are taken, one beyond refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.errors import ConfigError, FlyballError, Refused
from rbac import canonical
from rbac.cases import MAX_FILES, read
from rbac.catalogue import TOOLS
from rbac.decide import Authority
from rbac.facts import MAX_PATHS, in_one_spelling
from rbac.load import SHIPPED, load
from rbac.model import MAX_CHAIN, Request, Served
from rbac.nesting import MAX_CONDITIONALS, MAX_DEPTH, check_brackets, check_conditionals
from rbac.people import MAX_PEOPLE, Group, People
from rbac.strict_yaml import MAX_BYTES, parse
from rbac.tokens import MAX_TOKEN, mint, session_in

WRITE = Request(agent="author", tool="write_file", repository="shop", own_repository="shop")
CASES = """served:
  - {repository: shop, branch: main}
cases:
  - name: the checker starts CI
    ask: {agent: checker, tool: ci.start, repository: shop}
    expect: allow
"""


def of_size(size: int) -> str:
    return CASES + "#" * (size - len(CASES))


def named(count: int) -> People:
    return People({Group.OWNERS: tuple(f"p{number}" for number in range(count))})


def asked(paths: int) -> None:
    names = tuple(f"f{number}" for number in range(paths))
    in_one_spelling(WRITE.model_copy(update={"paths": names}), TOOLS["write_file"])


BOUNDS: list[tuple[str, int, Callable[[int], Any]]] = [
    ("a path", canonical.MAX_PATH, lambda n: canonical.path("a/" * ((n - 2) // 2) + "b" * (n - (n - 2) // 2 * 2))),
    ("a segment", canonical.MAX_SEGMENT, lambda n: canonical.path("a" * n)),
    ("a branch", canonical.MAX_BRANCH, lambda n: canonical.branch("b" * n)),
    ("a repository's name", 120, lambda n: canonical.repository("r" * n)),
    ("paths in a call", MAX_PATHS, asked),
    ("brackets", MAX_DEPTH, lambda n: check_brackets("[" * n + "]" * n, "a.cedar")),
    ("conditionals", MAX_CONDITIONALS, lambda n: check_conditionals("if " * n, "a.cedar")),
    ("people", MAX_PEOPLE, named),
    ("a file of rules", MAX_BYTES, lambda n: parse("#" * (n - 5) + "\na: 1", "a.yaml")),
]


@pytest.mark.parametrize(("most", "of"), [pytest.param(most, of, id=what) for what, most, of in BOUNDS])
def test_at_its_bound_it_is_taken_and_one_beyond_never(most: int, of: Callable[[int], Any]) -> None:
    of(most)
    with pytest.raises(FlyballError):
        of(most + 1)


def test_as_many_files_of_cases_are_read_as_the_bound_says_and_no_more(tmp_path: Path) -> None:
    for number in range(MAX_FILES):
        (tmp_path / f"c{number:03}.yaml").write_text(CASES)
    assert len(read(tmp_path)) == MAX_FILES
    (tmp_path / "more.yaml").write_text(CASES)
    with pytest.raises(ConfigError, match=f"more than {MAX_FILES} files"):
        read(tmp_path)


def test_a_file_of_cases_is_read_up_to_its_size_and_only_as_text(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(of_size(MAX_BYTES))
    assert len(read(tmp_path)) == 1
    file.write_text(of_size(MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=f"larger than {MAX_BYTES} bytes"):
        read(tmp_path)
    file.write_bytes(b"served: \xff")
    with pytest.raises(ConfigError, match="is no UTF-8 text: byte 8"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "the file is empty"), ("1: a", "a key is a plain word"), ("a: \x07", "special characters")],
)
def test_what_is_no_plain_mapping_of_text_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text, "a.yaml")


def test_two_policies_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "rules", ignore=shutil.ignore_patterns("__pycache__"))
    first = min((folder / "policy").glob("*.cedar"))
    policy = '@id("twice")\n@why("it says so")\nforbid (principal, action, resource) when { false };\n'
    first.write_text(first.read_text() + "\n" + policy)
    load(folder)
    first.write_text(first.read_text() + "\n" + policy)
    with pytest.raises(ConfigError, match="@id twice stands here a second time"):
        load(folder)


@pytest.mark.parametrize("schema", ["this is no schema", 'entity Group; action "ask" appliesTo { principal: Nobody };'])
def test_a_schema_for_people_that_cannot_be_read_stops_the_start(tmp_path: Path, schema: str) -> None:
    folder = tmp_path / "rules" / "people_rules"
    folder.mkdir(parents=True)
    (folder / "people.cedar").write_text((SHIPPED / "people_rules" / "people.cedar").read_text())
    (folder / "people.cedarschema").write_text(schema)
    with pytest.raises(ConfigError, match=r"people\.cedarschema"):
        People({Group.OWNERS: ("ann",)}, tmp_path / "rules")


def test_authority_counts_over_as_many_lenders_as_the_bound_says_and_no_more() -> None:
    authority = Authority([Served(repository="shop", branch="main")])
    ask = Request(agent="contributor", tool="list_files", repository="shop", own_repository="shop", paths=("src",))
    for lenders, counted in ((MAX_CHAIN, True), (MAX_CHAIN + 1, False)):
        found = authority.decide(ask.model_copy(update={"chain": (ask,) * lenders}))
        assert ("chain/length" not in found.rules) is counted
        assert counted or not found.allowed


@pytest.mark.parametrize(
    ("field", "raw", "rule"),
    [
        ("repository", "Shop", "repository/name"),
        ("own_repository", "shop.git", "repository/name"),
        ("branch", "refs/heads/main", "branch/ref"),
        ("own_branch", "main.lock", "branch/segment"),
        ("environment", "Production", "environment/name"),
        ("delivery", "shop/1", "delivery/name"),
    ],
)
def test_a_call_with_a_second_spelling_of_any_name_is_refused_by_that_name(field: str, raw: str, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        in_one_spelling(WRITE.model_copy(update={"paths": ("a",), field: raw}), TOOLS["write_file"])
    assert refused.value.rules == (rule,)


def test_a_call_that_names_no_branch_is_on_nobodys_branch() -> None:
    authority = Authority([Served(repository="shop", branch="main")])
    assert not authority.decide(Request(agent="merger", tool="forge.land", repository="shop")).allowed
    assert authority.decide(Request(agent="merger", tool="forge.land", repository="shop", branch="main")).allowed


def test_a_token_is_never_looked_at_beyond_its_length() -> None:
    token, _ = mint("s" * 120 + "/1")
    assert session_in(token) == "s" * 120 + "/1"
    assert session_in(token + "A" * (MAX_TOKEN + 1 - len(token))) is None


HOSTILE_VALUES = {
    "a number of 9,000 digits": "a: " + "9" * 9_000,
    "a number of 90,000 digits in another base": "a: 0x" + "f" * 90_000,
    "a number in base 60": "a: 1" + ":59" * 3_000,
    "a version of 9,000 digits": "%YAML " + "9" * 9_000 + ".1\n---\na: 1",
    "a word said to be a number": "a: !!int abc",
    "a word said to be yes or no": "a: !!bool abc",
    "a number without digits": "a: 0b_",
    "half a character": 'a: "\ud800"',
    "half a character, escaped": 'a: "\\ud800"',
    "a character beyond the last one": 'a: "\\UFFFFFFFF"',
    "a character just beyond the last one": 'a: "\\U00110000"',
}


@pytest.mark.parametrize("name", HOSTILE_VALUES)
def test_a_value_that_the_parser_chokes_on_is_refused_in_words(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^grants/x\.yaml"):
        parse(HOSTILE_VALUES[name], "grants/x.yaml")


def test_the_twins_of_those_values_are_read() -> None:
    read_values = parse('a: 999999\nb: 0xff\nc: "\\U0010FFFF"\nd: !!int 7\ne: yes', "grants/x.yaml").content
    assert read_values == {"a": 999_999, "b": 255, "c": "\U0010ffff", "d": 7, "e": True}
