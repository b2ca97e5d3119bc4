"""One real `flyball demo`, and whether it is true: seen with git, files and pytest, not in Flyball's own words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from kit import Demo, Entry, every_effect_is_accounted_for, exported, flyball, git, verified

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

RESTORED_WITHIN_S = 25  # bench/demo.py measures it; here only that it is no matter of minutes, on a busy machine too
REGRESSION_TEST = "tests/test_loyalty_guests.py"


def one(demo: Demo, kind: str) -> Entry:
    found = demo.of_kind(kind)
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def merged(demo: Demo, delivery: str) -> str:
    entry = next(e for e in demo.of_kind("Merged") if e.stream == f"delivery/{delivery}")
    return str(entry.body["commit"])


def culprit(demo: Demo) -> str:
    return one(demo, "HandedOver").stream.partition("/")[2]


def test_all_three_tasks_end_as_they_should(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.stderr or demo.summary
    bad = culprit(demo)
    phases = {row["delivery"]: row["phase"] for row in demo.summary["deliveries"]}
    good, refused = (
        next(d for d in phases if d not in (bad, f"{bad}-revert", f"{bad}-fix") and phases[d] == p)
        for p in ("CONFIRMED", "ABANDONED")
    )
    assert phases == {
        good: "CONFIRMED",
        bad: "HANDED_OVER",
        f"{bad}-revert": "CONFIRMED",
        f"{bad}-fix": "CONFIRMED",
        refused: "ABANDONED",
    }


def test_main_tells_the_story_in_merges_with_trailers(demo: Demo) -> None:
    forge, bad = demo.forge("shop"), culprit(demo)
    landed = git(forge, "log", "--first-parent", "--format=%H", "main").splitlines()
    assert landed[:-1] == [merged(demo, f"{bad}-fix"), merged(demo, f"{bad}-revert"), merged(demo, bad), landed[3]]
    for commit in landed[:-1]:
        trailers = git(forge, "log", "-1", "--format=%(trailers:key=Flyball-Delivery,valueonly)", commit)
        assert merged(demo, trailers.strip()) == commit
        assert len(git(forge, "log", "-1", "--format=%P", commit).split()) == 2


def test_revert_restores_the_tree_that_served_before(demo: Demo) -> None:
    forge, bad = demo.forge("shop"), culprit(demo)
    before = git(forge, "rev-parse", f"{merged(demo, bad)}^1^{{tree}}")
    assert git(forge, "rev-parse", f"{merged(demo, f'{bad}-revert')}^{{tree}}") == before


def test_refused_task_leaves_nothing_behind(demo: Demo) -> None:
    forge = demo.forge("shop")
    refused = one(demo, "Abandoned").stream.partition("/")[2]
    files = set(git(forge, "log", "--format=", "--name-only", "main").splitlines())
    assert not [path for path in files if path.startswith(".github") or path == "prices.json"]
    assert not git(forge, "for-each-ref", f"refs/heads/agent/{refused}")
    assert refused not in str(demo.pull_requests("shop"))
    tools = [e.body["tool"] for e in demo.of_kind("CallRefused")]
    assert tools == ["write_file", "read_file", "git_push"]
    assert all(e.body["reason"] and e.body["rules"] for e in demo.of_kind("CallRefused"))


def test_every_pull_request_has_ended_and_people_were_told_once(demo: Demo) -> None:
    assert {pull["state"] for pull in demo.pull_requests("shop").values()} == {"merged"}
    keys = [message["key"] for message in demo.messages()]
    assert len(keys) == len(set(keys))
    assert sum("rolled-back" in key for key in keys) == 1
    assert sum("abandoned" in key for key in keys) == 1


def test_no_effect_without_an_intent_and_no_intent_without_an_outcome(demo: Demo) -> None:
    every_effect_is_accounted_for(demo, "shop")
    begun: set[str] = set()
    for entry in demo.entries():
        if entry.kind == "EffectIntended":
            begun.add(entry.stream)
        elif entry.stream.startswith("effect/"):
            assert entry.stream in begun


def test_log_proves_itself(demo: Demo) -> None:
    report = verified(demo.folder)
    assert report["size"] == len(demo.entries()) == demo.summary["log"]["size"]
    assert report["root"] == demo.summary["log"]["root"]
    assert [e.index for e in demo.entries()] == list(range(report["size"]))


def test_users_have_the_confirmed_release_back_soon_after_the_first_bad_request(demo: Demo) -> None:
    found, restored = one(demo, "RegressionFound"), one(demo, "TrafficRestored")
    first_bad = datetime.fromisoformat(found.body["first_bad_request_at"])
    back = datetime.fromisoformat(restored.body["traffic_back_at"])
    assert 0 < (back - first_bad).total_seconds() < RESTORED_WITHIN_S
    assert restored.body["health_checks"] >= 3
    assert found.body["weight_percent"] < 100
    assert found.body["verdict"]["outcome"] == "roll_back"


def test_what_is_scripted_or_a_load_test_says_so_everywhere(demo: Demo) -> None:
    from_model = demo.of_kind("SessionStarted", "ReplyRecorded")
    assert from_model
    assert {e.body["label"] for e in from_model} == {"scripted"}
    assert {e.body["label"] for e in demo.of_kind("ChangeAuthored")} == {"scripted", None}  # None: the revert
    assert {e.body["label"] for e in demo.of_kind("Observed")} == {"load_test"}


def test_regression_test_fails_on_the_bad_version_and_passes_on_the_fix(demo: Demo, tmp_path: Path) -> None:
    forge, bad = demo.forge("shop"), culprit(demo)
    fixed = exported(forge, merged(demo, f"{bad}-fix"), tmp_path / "fixed")
    broken = exported(forge, merged(demo, bad), tmp_path / "broken")
    assert not (broken / REGRESSION_TEST).exists()
    shutil.copy(fixed / REGRESSION_TEST, broken / REGRESSION_TEST)
    assert pytest_says(fixed) == 0
    assert pytest_says(broken) == 1


def pytest_says(tree: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", REGRESSION_TEST]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ""}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode


def test_a_person_can_look_further(demo: Demo) -> None:
    bad = culprit(demo)
    shown = flyball("show", bad, "--dir", demo.folder).stdout
    assert "because" in shown
    assert "rule canary/errors" in shown
    status = flyball("status", "--dir", demo.folder).stdout
    assert "is confirmed" in status
    assert f"{bad}-fix" in status
