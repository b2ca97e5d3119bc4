"""What people get wrong, what repositories lack, what models do.

Each ends in a sentence that says what to do, and nothing half done.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit import (
    EXAMPLES,
    PLAIN,
    SCRIPTS,
    State,
    begun,
    commit,
    ended_afterwards,
    flyball,
    git,
    plain,
    repository,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TASK = "Let the caller choose what joins the words."
SCRIPT = SCRIPTS / "library.yaml"


def refused(repo: Path, task: str = TASK, script: Path = SCRIPT) -> str:
    """What a person reads when it ends badly: exit code 1, sentences, no traceback."""
    done = flyball("run", "--repo", repo, task, "--script", script)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said, said
    return said


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return repository(tmp_path / "library", EXAMPLES / "library")


# --- flyball.toml ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[repositry]\nname = 'x'\n", ["repositry is not a setting", "Did you mean 'repository'?"]),
        ("[test]\ncomand = ['make']\n", ["test.comand is not a setting", "Did you mean 'command'?"]),
        ("[test]\nseconds = 'long'\n", ["test.seconds is 'long'", "flyball init"]),
        ("[service]\nname = 'x'\n", ["service.start is missing"]),
        ("[test\n", ["is no TOML", "Correct the line"]),
        ("[agents]\nmodel = 'gpt-unheard-of'\n", ["gpt-unheard-of"]),
    ],
    ids=["unknown section", "unknown key", "wrong type", "missing key", "no TOML", "unknown model"],
)
def test_wrong_flyball_toml_is_named_and_nothing_begins(library: Path, text: str, message: list[str]) -> None:
    (library / "flyball.toml").write_text(text)
    said = refused(library)
    for part in message:
        assert part in said
    assert not (library / ".flyball").exists()


# --- the repository --------------------------------------------------------------------------------------------------


def gone(repo: Path) -> None:
    shutil.rmtree(repo)


def no_repository(repo: Path) -> None:
    shutil.rmtree(repo / ".git")


def empty(repo: Path) -> None:
    no_repository(repo)
    git(repo, "init", "--quiet", "--initial-branch=main")


def dirty(repo: Path) -> None:
    (repo / "README.md").write_text("changed\n")


def detached(repo: Path) -> None:
    git(repo, "checkout", "--quiet", "--detach")


def other_branch(repo: Path) -> None:
    (repo / "flyball.toml").write_text('[repository]\nbranch = "main"\n')
    git(repo, "branch", "--quiet", "--move", "trunk")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (gone, ["does not exist", "Give the path of a local git repository"]),
        (no_repository, ["is not a git repository", "git init"]),
        (empty, ["has no commits", "Commit something there first"]),
        (dirty, ["1 uncommitted change(s), such as README.md", "Commit or stash"]),
        (detached, ["detached HEAD", "git switch"]),
        (other_branch, ["has no branch 'main'", "trunk"]),
    ],
)
def test_unusable_repository_is_named_and_nothing_is_left_in_it(
    library: Path, spoil: Callable[[Path], None], message: list[str]
) -> None:
    spoil(library)
    said = refused(library)
    for part in message:
        assert part in said
    assert not (library / ".flyball").exists()


def landed_nothing(repo: Path, reason: str) -> State:
    """It was given up for this reason, which stands in the log; main is as it was, and no pull request stays open."""
    state, name = State(repo / ".flyball"), repo.name
    (abandoned,) = state.of_kind("Abandoned")
    assert reason in abandoned.body["reason"]
    assert git(state.forge(name), "rev-parse", "main") == git(repo, "rev-parse", "main")
    assert {pull["state"] for pull in state.pull_requests(name).values()} <= {"closed"}
    assert "given up" in state.messages()[-1]["text"]
    return state


def test_repository_without_tests_lands_nothing_and_is_told_to_have_some(library: Path) -> None:
    shutil.rmtree(library / "tests")
    commit(library, "Who needs tests")
    script = library.parent / "script.yaml"
    script.write_text(SCRIPT.read_text().split("  - path: tests/")[0])
    said = refused(library, script=script)
    assert "no tests" in said
    assert "test.command" in said
    state = landed_nothing(library, "the run itself broke")
    assert state.pull_requests("library")


def test_change_that_stays_red_is_given_up_after_two_rounds_and_its_pull_requests_are_closed(library: Path) -> None:
    script = library.parent / "script.yaml"
    script.write_text(SCRIPT.read_text().replace('== "hello_world"', '== "hello-world"'))
    said = refused(library, script=script)
    assert "2 CI rounds are the bound" in said
    assert "test_words_are_joined_by_what_the_caller_chose" in said
    state = landed_nothing(library, "ci/red: ")
    pulls = state.pull_requests("library")
    assert pulls[1]["close_reason"] == "replaced by #2"
    assert len(pulls) == 2


# --- the service -----------------------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Path]:
    repo = plain(tmp_path / "plain")
    with ended_afterwards(State(repo / ".flyball")):
        yield repo


def test_service_that_never_becomes_healthy_is_named_before_any_work_is_done(service: Path) -> None:
    sleeper = PLAIN.replace('["{python}", "-m", "converter"]', '["{python}", "-c", "import time; time.sleep(99)"]')
    (service / "flyball.toml").write_text(sleeper.replace("ready_seconds = 20", "ready_seconds = 2"))
    said = refused(service, "Show kelvin as well.", SCRIPTS / "plain_good.yaml")
    assert "plain is not served: rollout/not-healthy: it never became healthy" in said
    assert "within 2 s" in said
    assert "[service] in flyball.toml" in said
    assert "flyball unstick plain@production" in said
    state = State(service / ".flyball")
    assert state.has("RolloutStuck")
    assert not state.of_kind("TaskRequested")
    assert not state.pull_requests("plain")

    (service / "flyball.toml").write_text(PLAIN)
    assert flyball("unstick", "plain@production", "--repo", service).returncode == 0
    out = service.parent / "said.txt"
    controller = begun("serve", "--repo", service, "--script", SCRIPTS / "plain_good.yaml", cwd=service, out=out)
    with ended_afterwards(state, controller):
        until(lambda: state.has("ReleaseConfirmed", release=2), 60, "corrected and let go on, it is served")


def test_port_in_use_is_named_with_the_way_out(service: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (service / "flyball.toml").write_text(PLAIN.replace("[service]\n", f"[service]\nport = {port}\n"))
        said = refused(service, "Show kelvin as well.", SCRIPTS / "plain_good.yaml")
    assert f"port {port} on 127.0.0.1 cannot be had" in said
    assert "0 takes any free port" in said
    assert not State(service / ".flyball").of_kind("TaskRequested")


# --- the model -------------------------------------------------------------------------------------------------------

BOUNDS = "[bounds]\nmodel_stall_seconds = 1\n\n[agents]\nturns = 4\n"


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("empty", "nonsense", "3 replies in a row made no sense"),
        ("unknown_tool", "nonsense", "it called only tools that do not exist"),
        ("refusal", "refused", "the model refused"),
        ("stall", "stalled", "the Messages API broke off"),
        ("endless", "turns", "4 turns without an end (bound 4)"),
    ],
)
def test_model_that_misbehaves_costs_a_bounded_try_and_leaves_a_reason(
    library: Path, fault: str, outcome: str, reason: str
) -> None:
    (library / "flyball.toml").write_text(BOUNDS)
    said = refused(library, f"{TASK} [[fault:{fault}]]")
    assert reason in said
    assert "Nothing has landed" in said
    state = landed_nothing(library, reason)
    assert [entry.body["outcome"] for entry in state.of_kind("SessionEnded")] == [outcome]
    assert not state.pull_requests("library")


def test_without_a_model_the_way_to_get_one_is_named(library: Path) -> None:
    done = flyball("run", "--repo", library, TASK)
    assert done.returncode == 1
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert "--script" in done.stderr
    assert not (library / ".flyball").exists()


def test_script_that_makes_no_sense_is_named(library: Path) -> None:
    script = library.parent / "script.yaml"
    script.write_text("task: x\nedit: []\n")
    said = refused(library, script=script)
    assert str(script) in said
    assert "docs/scripted-agents.md" in said
