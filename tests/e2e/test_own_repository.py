"""Flyball on repositories that nobody here wrote: `flyball init`, `flyball run`, and what their owner finds then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import (
    EXAMPLES,
    SCRIPTS,
    State,
    begun,
    ended_afterwards,
    every_effect_is_accounted_for,
    flyball,
    git,
    plain,
    repository,
    traffic,
    until,
    verified,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LIBRARY_TASK = "Let the caller choose what joins the words."


def run_on(repo: Path, task: str, script: Path) -> str:
    """What a person reads when it went well."""
    done = flyball("run", "--repo", repo, task, "--script", script, "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return repository(tmp_path / "library", EXAMPLES / "library")


def test_library_ends_merged_in_words_and_its_owner_is_offered_what_landed(library: Path) -> None:
    assert flyball("init", "--repo", library).returncode == 0
    (library / "notes.txt").write_text("mine\n")
    before = git(library, "status", "--porcelain"), git(library, "rev-parse", "HEAD")

    said = run_on(library, LIBRARY_TASK, SCRIPTS / "library.yaml")

    assert "no service is configured for library, so there is nothing to deploy" in said
    assert "git merge flyball/main" in said
    assert (git(library, "status", "--porcelain"), git(library, "rev-parse", "HEAD")) == before
    assert (library / "notes.txt").read_text() == "mine\n"
    git(library, "merge", "--quiet", "flyball/main")
    assert 'separator: str = "-"' in (library / "slugs" / "__init__.py").read_text()
    assert "Assisted-by: flyball-author" in git(library, "log", "-2", "--format=%B")
    state = State(library / ".flyball")
    every_effect_is_accounted_for(state, "library")
    assert {e.body["label"] for e in state.of_kind("ReplyRecorded", "ChangeAuthored")} == {"scripted"}
    verified(state.folder)


def test_what_a_test_writes_while_the_agent_runs_it_never_lands(library: Path) -> None:
    before = set(git(library, "ls-tree", "-r", "--name-only", "HEAD").split())
    run_on(library, LIBRARY_TASK, SCRIPTS / "laundering.yaml")
    landed = set(git(library, "ls-tree", "-r", "--name-only", "flyball/main").split())
    assert landed - before == {"tests/test_separator.py"}
    state = State(library / ".flyball")
    runs = [call for e in state.of_kind("TurnRecorded") for call in e.body["calls"] if call["tool"] == "run_tests"]
    assert runs, "the agent has run that test"
    decided = [e.body["decision"]["claims"][-1]["text"] for e in state.of_kind("EffectIntended")]
    assert "decided on git's own trees: 2 paths inside **" in decided


def test_repository_needs_no_flyball_toml(library: Path) -> None:
    run_on(library, LIBRARY_TASK, SCRIPTS / "library.yaml")
    assert git(library, "show", "flyball/main:tests/test_separator.py")


def test_default_branch_may_be_called_master(tmp_path: Path) -> None:
    repo = repository(tmp_path / "library", EXAMPLES / "library", branch="master")
    assert flyball("init", "--repo", repo).returncode == 0
    said = run_on(repo, LIBRARY_TASK, SCRIPTS / "library.yaml")
    assert "git merge flyball/master" in said
    assert git(repo, "rev-list", "--count", "master..flyball/master") == "2"


UNITTEST = """\
[test]
command = ["{python}", "-m", "unittest", "discover", "-s", "tests", "-t", "."]
"""


DOCSTRING = """\
task: Say what it does.
summary: rot13 has a docstring.
edits:
  - path: src/rot/__init__.py
    old: '    import codecs'
    new: |2-
          \'\'\'Letters move on by thirteen.\'\'\'
          import codecs
"""


def test_src_layout_and_unittest_are_a_configured_command_away(tmp_path: Path) -> None:
    repo = tmp_path / "older"
    (repo / "src" / "rot").mkdir(parents=True)
    (repo / "tests").mkdir()
    (repo / "src" / "rot" / "__init__.py").write_text(
        'def rot13(text: str) -> str:\n    import codecs\n\n    return codecs.encode(text, "rot13")\n'
    )
    (repo / "tests" / "__init__.py").write_text(
        'import pathlib\nimport sys\n\nsys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "src"))\n'
    )
    (repo / "tests" / "test_rot.py").write_text(
        "import unittest\n\nfrom rot import rot13\n\n\nclass Rot(unittest.TestCase):\n"
        '    def test_twice_is_nothing(self):\n        self.assertEqual(rot13(rot13("abc")), "abc")\n'
    )
    (repo / "flyball.toml").write_text(UNITTEST)
    repository(repo)
    script, out = tmp_path / "script.yaml", tmp_path / "said.txt"
    script.write_text(DOCSTRING)
    state = State(repo / ".flyball")
    asked = begun("run", "--repo", repo, "Say what it does.", "--script", script, cwd=repo, out=out)
    with ended_afterwards(state, asked):
        consent = until(
            lambda: state.has("ApprovalRequested"), 120, "it asks for consent: no test came with the change"
        )
        delivery = consent.stream.partition("/")[2]
        assert f"flyball approve {delivery}" in flyball("status", "--repo", repo).stdout
        assert flyball("approve", delivery, "--repo", repo).returncode == 0
        asked.wait(60)
    assert asked.returncode == 0, out.read_text()
    assert "thirteen" in git(repo, "show", "flyball/main:src/rot/__init__.py")
    assert state.has("CiReported", passed=True, tests=1)
    assert state.of_kind("Cleared")[0].body["by_person"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[State]:
    state = State(plain(tmp_path / "plain") / ".flyball")
    with ended_afterwards(state):
        yield state


def test_service_without_opentelemetry_is_judged_by_its_proxy(service: State, tmp_path: Path) -> None:
    repo, out = service.folder.parent, tmp_path / "said.txt"
    asked = begun(
        "run",
        "--repo",
        repo,
        "Show kelvin as well.",
        "--script",
        SCRIPTS / "plain_good.yaml",
        "--verbose",
        cwd=repo,
        out=out,
    )
    with ended_afterwards(service, asked):
        until(lambda: service.has("ReleaseConfirmed"), 60, "the branch as it is has gone live")
        port = service.port("plain")
        assert port is not None
        with traffic(port, tmp_path) as stats:
            asked.wait(200)
        said = out.read_text()
        assert asked.returncode == 0, said
        assert f"plain is reached at http://127.0.0.1:{port}" in said
        assert "judged by the proxy's status codes and latencies" in said
        assert "PROMOTED to 100 %" in said
        promoted = service.of_kind("Promoted")[-1].body
        assert "the proxy's status codes and latencies" in json.dumps(promoted["decision"])
        assert {e.body["source"] for e in service.of_kind("Observed")} == {"the proxy's status codes and latencies"}
        users = json.loads(stats.read_text())
        assert users["failed"] == 0
        assert users["origin"] == "load_test"
        every_effect_is_accounted_for(service, "plain")
        assert service.platform("plain")["status"]["confirmed_commit"] == git(
            service.forge("plain"), "rev-parse", "main"
        )
    verified(service.folder)


def test_canary_that_gets_no_requests_says_so_and_a_person_may_promote_it(service: State, tmp_path: Path) -> None:
    repo, out = service.folder.parent, tmp_path / "said.txt"
    asked = begun(
        "run", "--repo", repo, "Show kelvin as well.", "--script", SCRIPTS / "plain_good.yaml", cwd=repo, out=out
    )
    with ended_afterwards(service, asked):
        until(lambda: "no request reached the canary at 25 %" in out.read_text(), 120, "it says what it waits for")
        shown = flyball("status", "--dir", service.folder).stdout
        assert "no request reached the canary at 25 %" in shown
        delivery = service.of_kind("TaskRequested")[0].body["delivery"]
        assert f"flyball promote {delivery}" in shown
        promoted = flyball("promote", delivery, "--repo", repo)
        assert promoted.returncode == 0, promoted.stderr
        asked.wait(60)
        assert asked.returncode == 0, out.read_text()
        assert service.of_kind("Promoted")[-1].body["verdict"]["canary"]["requests"] == 0
        assert any("promoted by person:" in e.body["reason"] for e in service.of_kind("StepPassed"))
