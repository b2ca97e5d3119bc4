"""Files that are several things at once, cut into their parts.

`pyproject.toml` is a manifest, a test configuration and a build recipe. A file has a role only where the part that
gives it the role differs between the trees.

Every text here was written by the change's author: this runs in a confined process only.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any


class Part(StrEnum):
    TESTS = "tests"
    OUTSIDE = "outside"  # what runs where it is installed, built or started
    DEPENDENCIES = "dependencies"
    PLAIN = "plain"  # words about the project, and the settings of linters
    REST = "rest"


Parts = dict[Part, dict[str, Any]]
Unreadable = (ValueError, TypeError, AttributeError, KeyError, RecursionError, configparser.Error)


def reader_of(path: str) -> Callable[[str], Parts] | None:
    """None: a file of one kind, which its name tells."""
    name = path.rpartition("/")[2].lower()
    if re.fullmatch(r"build\.gradle(\.kts)?", name):
        return _gradle
    return _READERS.get(name)


def parts_that_differ(path: str, before: str | None, after: str | None) -> frozenset[Part] | None:
    """None: a file of one kind. Raises one of `Unreadable` if a side cannot be read."""
    read = reader_of(path)
    if read is None:
        return None
    old, new = read(before or ""), read(after or "")
    return frozenset(part for part in Part if old.get(part, {}) != new.get(part, {}))


def _sorted_into(flat: Mapping[str, Any], rules: tuple[tuple[str, Part], ...]) -> Parts:
    """Each key goes where the first pattern that its start fits says."""
    parts: Parts = {}
    for key, value in flat.items():
        part = next((part for pattern, part in rules if re.match(pattern, key)), Part.REST)
        parts.setdefault(part, {})[key] = value
    return parts


def flattened(value: Mapping[str, Any], depth: int, prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys, `depth` levels deep."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and depth > 1:
            flat |= flattened(inner, depth - 1, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner
    return flat


_PYPROJECT = (
    (r"project\.(?:dependencies|optional-dependencies)|dependency-groups|build-system\.requires", Part.DEPENDENCIES),
    (r"tool\.poetry\.(?:.*dependencies|group)|tool\.uv\.(?:.*dependencies|sources)|tool\.pdm\.dev", Part.DEPENDENCIES),
    (r"tool\.(?:pytest|coverage|tox|nox|testmon|mutmut)|tool\.hatch\.envs|tool\.pdm\.scripts", Part.TESTS),
    (r"project\.(?:version|description|readme|authors|maintainers|keywords|classifiers|urls|license)", Part.PLAIN),
    (r"tool\.poetry\.(?:name|version|description|authors|license|readme|keywords|classifiers)", Part.PLAIN),
    (r"tool\.(?:ruff|black|isort|mypy|pyright|flake8|pylint|bandit|codespell|towncrier|commitizen)", Part.PLAIN),
    (r"build-system|tool\.", Part.OUTSIDE),
)
_SETUP_CFG = (
    (r"tool:pytest|pytest|coverage|nosetests|testenv|tox|aliases", Part.TESTS),
    (r"options\.(?:install_requires|extras_require|tests_require|setup_requires)", Part.DEPENDENCIES),
    (r"options\.extras_require", Part.DEPENDENCIES),
    (r"metadata|flake8|mypy|isort|pycodestyle|pydocstyle|pylint|bumpversion", Part.PLAIN),
    (r"", Part.OUTSIDE),
)
_PACKAGE_JSON = (
    (r"(?:dev|peer|optional|bundled)?[dD]ependencies|overrides|resolutions|pnpm", Part.DEPENDENCIES),
    (r"jest|vitest|mocha|ava|nyc|c8|tap|babel|scripts\.(?:pre|post)?(?:test|coverage|e2e|ci)", Part.TESTS),
    (r"scripts\.(?:pre|post)?(?:lint|format|fmt|prettier|typecheck|docs?)", Part.PLAIN),
    (r"scripts|gypfile|bin|husky|lint-staged|packageManager|engines", Part.OUTSIDE),
    (r"name|version|description|keywords|author|license|repository|homepage|bugs|private|eslint|prettier", Part.PLAIN),
)
_CARGO = (
    (r"(?:.*\.)?(?:dev-)?dependencies|workspace\.dependencies|patch|replace", Part.DEPENDENCIES),
    (r"profile\.test|profile\.bench|test|bench|package\.(?:autotests|autobenches)|lib\.(?:test|doctest)", Part.TESTS),
    (r"package\.build|build-dependencies|package\.links", Part.OUTSIDE),
    (r"package\.(?:version|description|authors|license|readme|keywords|categories|homepage|repository)", Part.PLAIN),
)


def _pyproject(text: str) -> Parts:
    return _sorted_into(flattened(tomllib.loads(text), 3), _PYPROJECT)


def _cargo(text: str) -> Parts:
    parts = _sorted_into(flattened(tomllib.loads(text), 2), _CARGO)
    builds = {key: value for key, value in parts.get(Part.OUTSIDE, {}).items() if key.startswith("build-dep")}
    return parts | {Part.DEPENDENCIES: parts.get(Part.DEPENDENCIES, {}) | builds}


def _package_json(text: str) -> Parts:
    found = json.loads(text or "{}")
    return _sorted_into(flattened(found, 2), _PACKAGE_JSON)


def _ini(text: str) -> Parts:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(text)
    flat = {f"{section}.{key}": value for section in parser.sections() for key, value in parser.items(section)}
    return _sorted_into(flat, _SETUP_CFG)


def _go_mod(text: str) -> Parts:
    parts: Parts = {}
    block = ""
    for line in text.splitlines():
        words = line.partition("//")[0].split()
        if not words:
            continue
        block = words[0] if words[-1] == "(" else "" if words[0] == ")" else block
        verb = block or words[0]
        part = Part.DEPENDENCIES if verb in {"require", "exclude", "replace", "retract", "tool"} else Part.TESTS
        parts.setdefault(Part.REST if verb == "module" else part, {})[f"{block} {line.strip()}"] = True
    return parts


_POM_DEPENDENCY = re.compile(r"<(dependency|parent)>.{0,4000}?</\1>", re.DOTALL)
_POM_TESTS = re.compile(
    r"<plugin>(?:(?!</plugin>).){0,4000}?maven-(?:surefire|failsafe)-plugin(?:(?!</plugin>).){0,8000}?</plugin>",
    re.DOTALL,
)


def _pom(text: str) -> Parts:
    tests = [found.group() for found in _POM_TESTS.finditer(text)]
    left = _POM_TESTS.sub("", text)
    needs = sorted(found.group() for found in _POM_DEPENDENCY.finditer(left))
    skips = re.findall(r"<[\w.]{0,40}skip[\w.]{0,40}>[^<]{0,40}<", left, re.IGNORECASE)
    outside = re.sub(r"\s+", " ", _POM_DEPENDENCY.sub("", left))
    return {
        Part.TESTS: {"plugins": tests, "skips": skips},
        Part.DEPENDENCIES: {"all": needs},
        Part.OUTSIDE: {"text": outside},
    }


_GRADLE_DEPENDENCY = re.compile(
    r"\s*(?:(?:test|debug|release|annotation|kapt|android|integration)?\w{0,20})"
    r"(?:[iI]mplementation|[aA]pi|compileOnly|runtimeOnly|[cC]lasspath|kapt|Processor|platform)\b.{0,400}"
)
_GRADLE_TESTS = re.compile(
    r"\s*(?:test|tasks\.\w*test|useJUnit|exclude|include|filter|jacoco|ignoreFailures|.*Test[.({])"
)


def _gradle(text: str) -> Parts:
    parts: Parts = {}
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("//"):
            part = Part.DEPENDENCIES if _GRADLE_DEPENDENCY.fullmatch(line) else Part.OUTSIDE
            part = Part.TESTS if part is Part.OUTSIDE and _GRADLE_TESTS.match(line) else part
            known = parts.setdefault(part, {})
            known[line.strip()] = known.get(line.strip(), 0) + 1
    return parts


_READERS: dict[str, Callable[[str], Parts]] = {
    "pyproject.toml": _pyproject,
    "setup.cfg": _ini,
    "package.json": _package_json,
    "cargo.toml": _cargo,
    "go.mod": _go_mod,
    "pom.xml": _pom,
}
