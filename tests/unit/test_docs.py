"""What the documents say of the code is compared with the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.cli import main
from controller.demo.stage import SETTINGS
from controller.settings import PROTECTED, Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "k8s/*.md", "examples/*/README.md")
    for path in ROOT.glob(pattern)
    if path.parent != ROOT or path.name in {"README.md", "ARCHITECTURE.md", "CHANGELOG.md"}
)
RECORDS = [path for path in DOCUMENTS if path.parent.name == "adr" and path.name != "README.md"]
FOLDERS = ("controller/", "tools/", "rbac/", "prompts/", "docs/", "tests/", "bench/", "examples/", "k8s/", ".ci/")


def named(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@cache
def text_of(document: Path) -> str:
    return document.read_text()


def rows(section: str) -> Iterator[list[str]]:
    """The cells of the table rows under one heading of configuration.md that name a setting."""
    text = text_of(ROOT / "docs/configuration.md").partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            yield [cells[0].strip("` "), cells[1]]


def section_model(field: FieldInfo) -> type[BaseModel]:
    candidates = (field.annotation, *get_args(field.annotation))
    return next(one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel))


def default_of(field: FieldInfo) -> str:
    """As the page writes it."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if field.is_required() or value is None:
        return "required" if field.is_required() else "not set"
    if value == PROTECTED:
        return "see below"
    return f"`{toml(value)}`"


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(toml(one) for one in value)}]"
        case str() | Path():
            return f'"{value}"'
        case _:
            return str(value)


@pytest.mark.parametrize("section", Settings.model_fields)
def test_every_setting_stands_in_the_configuration_page_with_its_default(section: str) -> None:
    model = section_model(Settings.model_fields[section])
    expected = {name: default_of(field) for name, field in model.model_fields.items()}
    assert dict(rows(section)) == expected


def test_the_configuration_page_lists_the_paths_that_are_protected_by_default() -> None:
    line = next(one for one in text_of(ROOT / "docs/configuration.md").splitlines() if "`protected` by default" in one)
    assert tuple(re.findall(r"`([^`]+)`", line)[1:]) == PROTECTED


def test_the_judging_page_has_the_numbers_of_the_demo_and_the_defaults() -> None:
    table = re.findall(r"^\| `(\w+)\.(\w+)` \| ([^|]+) \| ([^|]+) \|", text_of(ROOT / "docs/judging.md"), re.MULTILINE)
    demo, plain = Settings.model_validate(tomllib.loads(SETTINGS)), Settings()

    def words(settings: Settings, section: str, name: str) -> str:
        return toml(getattr(getattr(settings, section), name)).strip("[]")

    found = {(section, name): (one, other) for section, name, one, other in table}
    assert found == {key: (words(demo, *key), words(plain, *key)) for key in found}
    set_by_demo = {(part, name) for part in ("rollout", "judge") for name in tomllib.loads(SETTINGS)[part]}
    assert set_by_demo <= set(found)


def test_every_room_of_the_architecture_is_a_place_and_every_place_is_a_room() -> None:
    text = text_of(ROOT / "ARCHITECTURE.md").partition("## Rooms")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    rooms = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert {room for room in rooms if not (ROOT / room).exists()} == set()
    packages = {f"controller/{path.parent.name}/" for path in ROOT.glob("controller/*/__init__.py")}
    assert packages | {"tools/", "rbac/", "prompts/"} <= rooms


def test_what_a_room_of_the_architecture_says_to_begin_with_is_in_it() -> None:
    text = text_of(ROOT / "ARCHITECTURE.md").partition("## Rooms")[2].partition("\n## ")[0]
    for line in (one for one in text.splitlines() if one.startswith("| `")):
        cells = line.strip("| ").split(" | ")
        places = [ROOT / name for name in re.findall(r"`([^`]+)`", cells[0])]
        for file in re.findall(r"`([\w./]+\.\w+)`", cells[-1]):
            assert any((place / file).exists() for place in (*places, ROOT)), f"{file} of {cells[0]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_a_state_diagram_in_a_document_is_what_flyball_graph_draws(document: Path) -> None:
    drawn = {
        CliRunner().invoke(main, ["graph", "--of", machine, *more]).output
        for machine in ("delivery", "queue", "rollout")
        for more in ([], ["--all"])
    }
    for block in re.findall(r"```mermaid\n(stateDiagram.*?)```", text_of(document), re.DOTALL):
        assert block in drawn, f"{named(document)}: generate it again with `flyball graph`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_no_document_names_a_file_that_does_not_exist(document: Path) -> None:
    quoted = {word for word in re.findall(r"`([^`\s]+)`", text_of(document)) if word.startswith(FOLDERS)}
    missing = {word for word in quoted if not exists(ROOT, word)}
    plain = {word for word in re.findall(r"`([\w-]+\.(?:py|toml|lock|md|yaml))`", text_of(document)) if "-" in word}
    missing |= {word for word in plain if not exists(ROOT, word)}
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text_of(document))
    missing |= {link for link in links if not exists(document.parent, link)}
    assert missing == set()


def exists(folder: Path, name: str) -> bool:
    """A file, a folder, or a pattern with at least one."""
    if "<" in name:  # a place-holder
        return True
    return any(folder.glob(name)) if "*" in name else (folder / name).exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_no_link_into_a_document_misses_its_heading(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", text_of(document)):
        into = text_of((document.parent / target).resolve() if target else document)
        headings = {slug(line) for line in re.findall(r"^#+ (.+)$", into, re.MULTILINE)}
        assert anchor in headings, f"{named(document)}: {target}#{anchor}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_no_document_names_a_command_or_an_option_that_flyball_does_not_have(document: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", text_of(document)) + re.findall(
        r"^ *(\./flyball .+)$", text_of(document), re.MULTILINE
    )
    for span in spans:
        words = span.partition("#")[0].split()
        if words and words[0] in {"flyball", "./flyball", "/path/to/flyball"} and len(words) > 1:
            assert is_command(words[1:]), f"{named(document)}: {span}"


def is_command(words: list[str]) -> bool:
    """Only what comes before a quoted argument is looked at."""
    found: click.Command | None = main
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        found, words = found.commands.get(words[0]), words[1:]
    if found is None:
        return False
    known = {option for parameter in found.params for option in parameter.opts} | {"-h", "--help", "--version"}
    return all(word in known for word in words if re.fullmatch(r"--[a-z-]+", word))


@pytest.mark.parametrize("record", RECORDS, ids=named)
def test_a_decision_record_is_short_and_ends_with_what_was_rejected(record: Path) -> None:
    paragraphs = text_of(record).strip().split("\n\n")
    assert paragraphs[-1].startswith("*Rejected*: ")
    assert len(text_of(record).splitlines()) <= 14
    index = text_of(record.parent / "README.md")
    assert f"({record.name})" in index


def test_the_changelog_names_every_command() -> None:
    text = text_of(ROOT / "CHANGELOG.md")
    assert {name for name in main.commands if not re.search(rf"`(flyball )?{name}\b", text)} == set()
