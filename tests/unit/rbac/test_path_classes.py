"""One list of names: what it holds, what it leaves alone, and that no name slips by in another spelling."""

from __future__ import annotations

import time

import pytest

from rbac.path_classes import PathClass, classes_of, is_in, patterns_of
from rbac.path_names import ROWS

C = PathClass

RUNS = [
    ".gitattributes",
    "src/.gitattributes",
    ".gitmodules",
    ".githooks/pre-commit",
    ".husky/pre-push",
    ".pre-commit-config.yaml",
    ".vscode/tasks.json",
    ".idea/runConfigurations/x.xml",
    ".devcontainer/devcontainer.json",
    ".envrc",
    ".npmrc",
    ".yarnrc.yml",
    "sitecustomize.py",
    "src/usercustomize.py",
    "x.pth",
    "setup.py",
    "noxfile.py",
    "tox.ini",
    "build.rs",
    ".cargo/config.toml",
    "Makefile",
    "docker-compose.yml",
    "compose.yaml",
    "compose.prod.yml",
    "Dockerfile",
    "web/Dockerfile.dev",
    "package.json",
    "web/vite.config.ts",
]
STEERS = [
    ".claude/settings.json",
    "sub/.claude/agents/x.md",
    ".mcp.json",
    ".cursor/rules/a.mdc",
    ".cursorrules",
    "GEMINI.md",
    "CLAUDE.md",
    "docs/AGENTS.md",
    ".github/copilot-instructions.md",
    ".windsurfrules",
    ".aider.conf.yml",
    ".github/instructions/a.instructions.md",
]
SECRETS = [
    ".env",
    "config/.env",
    ".env.production",
    "prod.env",
    "id_rsa",
    "keys/id_ecdsa",
    "id_ed25519",
    "kubeconfig",
    "credentials.json",
    "a.p12",
    "a.pfx",
    "tls/server.pem",
    "tls/server.key",
    ".netrc",
    ".pgpass",
    ".aws/credentials",
    ".docker/config.json",
    "service-account-prod.json",
    "terraform.tfstate",
    "infra/x.tfstate.backup",
    ".git-credentials",
    ".ssh/config",
]
TESTS = [
    "conftest.py",
    "a/conftest.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "jest.config.ts",
    "vitest.config.mts",
    "go.mod",
]
BUILDS = [
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    ".circleci/config.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".buildkite/x.yml",
    "bitbucket-pipelines.yml",
]
NEEDS = [
    "requirements.txt",
    "requirements-dev.txt",
    "uv.lock",
    "package-lock.json",
    "go.sum",
    "Cargo.toml",
    "pom.xml",
    "Gemfile.lock",
]
NAMED = [
    *((path, C.RUNS_CODE) for path in RUNS),
    *((path, C.STEERS_AGENTS) for path in STEERS),
    *((path, C.HOLDS_SECRETS) for path in SECRETS),
    *((path, C.TEST_CONFIG) for path in TESTS),
    *((path, C.CI) for path in BUILDS),
    *((path, C.DEPENDENCIES) for path in NEEDS),
    *((path, C.MIGRATION) for path in ("shop/migrations/0002_x.py", "db/migrate/1_x.rb", "sql/V2__drop.sql")),
    ("docs/CODEOWNERS", C.OWNERS),
    *((path, C.POLICY) for path in ("flyball.toml", "rbac/grants/author.yaml", "prompts/author.md")),
]
PLAIN = [
    "src/cart.py",
    "README.md",
    "tests/test_cart.py",
    "src/environment.py",
    "docs/env.md",
    "src/env/x.py",
    "src/keys.py",
    "src/key",
    "src/rbac/x.py",
    "src/prompts/x.py",
    "src/config.json",
    "web/src/app.ts",
    "src/tasks.py",
    "docs/makefile.md",
    "src/docker.py",
    "locales/en/auth.json",
    "lib/github/workflows/x.yml",
    "src/credentials.py",
    "src/secrets.py",
    "id_rsa.pub",
    "src/build/x.py",
    "src/migrations.py",
]


@pytest.mark.parametrize(("path", "path_class"), NAMED)
def test_a_name_of_the_list_is_in_its_class(path: str, path_class: PathClass) -> None:
    assert path_class in classes_of(path)


@pytest.mark.parametrize("path", PLAIN)
def test_a_plain_file_is_in_no_class(path: str) -> None:
    assert classes_of(path) == frozenset()


@pytest.mark.parametrize(("path", "path_class"), NAMED)
def test_case_and_compatibility_forms_hide_nothing(path: str, path_class: PathClass) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in path)
    assert path_class in classes_of(path.upper())
    assert path_class in classes_of(wide)


@pytest.mark.parametrize("path", [".env.example", "config/.env.sample", ".env.dist", "credentials.json.template"])
def test_an_example_of_a_file_with_secrets_is_for_reading(path: str) -> None:
    assert not is_in(path, [C.HOLDS_SECRETS])


def test_a_folder_is_covered_whatever_is_beneath_it_and_by_itself() -> None:
    deep = ".claude/" + "a/" * 50 + "x"
    assert is_in(deep, [C.STEERS_AGENTS])
    assert is_in(".claude", [C.STEERS_AGENTS])


def test_a_file_of_the_list_is_none_when_it_is_a_folder_on_the_way() -> None:
    assert classes_of("makefile/x.py") == frozenset()


def test_what_is_tied_to_the_root_is_not_found_below_it() -> None:
    assert is_in("prompts/x", [C.POLICY])
    assert not is_in("src/prompts/x", [C.POLICY])


def test_a_file_may_be_in_several_classes() -> None:
    assert classes_of("pyproject.toml") == {C.RUNS_CODE, C.TEST_CONFIG, C.DEPENDENCIES}


@pytest.mark.parametrize("path", ["", "/", "//", "\ud800", "a" * 100_000, "\0", "/".join("ab" for _ in range(5_000))])
def test_no_path_makes_it_raise_or_linger(path: str) -> None:
    before = time.process_time()
    classes_of(path)
    assert time.process_time() - before < 1


def test_a_name_made_to_backtrack_takes_no_time() -> None:
    before = time.process_time()
    classes_of("v" + "__" * 50_000 + ".sq")
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize("path_class", list(PathClass))
def test_every_class_has_patterns_and_every_row_a_source(path_class: PathClass) -> None:
    assert patterns_of(path_class)
    assert all(row.source and row.patterns.split() for row in ROWS)
