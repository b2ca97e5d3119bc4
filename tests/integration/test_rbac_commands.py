"""`flyball rbac`: over real folders, a real git checkout and a real log, in words that a reviewer reads."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, sample

from controller.commands.rbac import rbac
from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import StreamId
from controller.recording import Folder, open_record
from controller.settings import FILE, load
from controller.terminal.permissions import WIDTH
from rbac.load import SHIPPED

SETTINGS = '[repository]\nname = "till"\nbranch = "main"\n\n[service]\nname = "till"\nstart = ["true"]\n'


def asked(*arguments: str) -> Result:
    done = CliRunner().invoke(rbac, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done


def as_json(*arguments: str) -> Any:
    return json.loads(asked(*arguments, "--json").stdout)


def one_line(text: str) -> str:
    return " ".join(text.split())


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def copy_of_rules(folder: Path) -> Path:
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, folder / part)
    return folder


def loosen(rules: Path) -> None:
    file = rules / "grants/author.yaml"
    text = file.read_text()
    assert '        - ".github/**"\n' in text
    text = text.replace('        - ".github/**"\n', "", 1)
    assert "steers-agents, ci, owners" in text
    file.write_text(text.replace("steers-agents, ci, owners", "steers-agents, owners", 1))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings, in which the commands are given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def house(here: Path) -> Path:
    """The same with a flyball.toml and a log in which some agents have called."""
    (here / FILE).write_text(SETTINGS)
    asyncio.run(_furnish(here))
    return here


async def _furnish(root: Path) -> None:
    record = open_record(Folder(root / ".flyball"), load(root / FILE), root)
    session, proposed = StreamId("session/till-1a/1"), StreamId("policy/abc123")
    call = sample(e.CallRecord, tool="read_file", allowed=True)
    drafts = [
        Draft(session, sample(e.SessionStarted, role="author")),
        Draft(session, sample(e.TurnRecorded, calls=(call,))),
        Draft(session, sample(e.CallRefused, tool="edit_file", rules=("outside-the-task",))),
    ]
    await record.log.append(drafts, expect={session: 0}, by=BY)
    text = (SHIPPED / "grants/checker.yaml").read_text().replace("[ci.start]", "[ci.start, forge.comment]")
    event = sample(
        e.PolicyProposed,
        file="grants/checker.yaml",
        agent="compliance",
        gains=4,
        losses=0,
        cases_failed=1,
        before=record.authority.digest,
        why=await record.seals.seal("checkers should say what they saw \x1b[31mnow"),
        text=await record.seals.seal(text),
    )
    await record.log.append([Draft(proposed, event)], expect={proposed: 0}, by=BY)
    record.close()


# --- check ------------------------------------------------------------------------------------------------------------


def test_an_allowed_call_is_told_with_its_grant_and_ends_with_0(here: Path) -> None:
    done = asked("check", "--agent", "merger", "--tool", "forge.land", "--branch", "main")
    assert done.exit_code == 0
    assert done.stdout.startswith("ALLOWED  merger: forge.land\n")
    assert "merger/land, in rbac/grants/merger.yaml:" in done.stdout
    assert "There is no flyball.toml here: repository shop" in done.stdout


def test_a_refused_call_is_told_with_every_rule_against_it_and_ends_with_3(here: Path) -> None:
    done = asked("check", "--agent", "author", "--tool", "git_push", "--branch", "main", "--own-branch", "main")
    assert done.exit_code == 3
    assert done.stdout.startswith("REFUSED  author: git_push\n")
    for rule in ("main-moves-by-landing-only", "only-the-merger-moves-main"):
        assert f"forbidden by  {rule}, in rbac/policy/flyball.cedar:" in done.stdout


def test_a_check_is_about_what_is_served_here(house: Path) -> None:
    found = as_json("check", "--agent", "on-call", "--tool", "roll_back")
    assert found["asked"]["environment"] == "production"
    assert found["decision"]["allowed"]
    assert "repository till" in found["about"]
    no = as_json("check", "--agent", "author", "--tool", "edit_file", "--path", "a.py", "--repository", "shop")
    assert no["decision"]["rules"] == ["unknown-repository"]


def test_facts_of_the_run_are_part_of_what_is_checked(here: Path) -> None:
    edit = ("check", "--agent", "author", "--tool", "edit_file", "--path", "pyproject.toml")
    assert asked(*edit).exit_code == 0
    assert asked(*edit, "--tainted").exit_code == 3
    assert asked(*edit, "--task-path", "src/**").exit_code == 3
    assert asked(*edit, "--scope", "workspace:write").exit_code == 0
    assert as_json(*edit, "--scope", "workspace:read")["decision"]["rules"] == ["insufficient-scope"]


def test_a_check_can_be_made_as_of_other_rules(here: Path) -> None:
    rules = copy_of_rules(here / "other" / "rbac")
    loosen(rules)
    call = ("check", "--agent", "author", "--tool", "edit_file", "--path", ".github/workflows/x.yml")
    assert asked(*call).exit_code == 3
    assert asked(*call, "--as-of", str(here / "other")).exit_code == 0
    (here / "empty").mkdir()
    said = asked(*call, "--as-of", str(here / "empty"))
    assert said.exit_code == 1
    assert "holds no grants/" in said.stderr


def test_a_pattern_that_is_none_is_an_error_and_no_answer(here: Path) -> None:
    done = asked("check", "--agent", "author", "--tool", "edit_file", "--path", "a.py", "--task-path", "../x")
    assert done.exit_code == 1
    assert "task_paths" in done.stderr


# --- diff -------------------------------------------------------------------------------------------------------------


def test_folders_are_compared_and_a_difference_ends_with_4(here: Path) -> None:
    before, after = copy_of_rules(here / "before"), copy_of_rules(here / "after")
    same = asked("diff", str(before), str(after))
    assert (same.exit_code, same.stdout) == (0, "The two are the same, to the letter.\n")
    loosen(after)
    done = asked("diff", str(before), str(after))
    assert done.exit_code == 4
    text = one_line(done.stdout)
    assert "Gains: allowed afterwards, and not before" in text
    assert "author: delete_file, edit_file, write_file where .github/** when in an ordinary run" in text
    assert "for example .github/workflows/x.yml in repository shop in an ordinary run" in text
    assert "grants/author.yaml changed changes what agents may do" in text
    assert max(len(line) for line in done.stdout.splitlines()) <= WIDTH


def test_revisions_of_a_checkout_are_compared(here: Path) -> None:
    git(here, "init", "-q", "-b", "main")
    rules = copy_of_rules(here / "rbac")
    git(here, "add", ".")
    git(here, "commit", "-qm", "rules")
    git(here, "tag", "v1")
    loosen(rules)
    assert asked("diff", "v1").exit_code == 4  # against the files as they lie here
    git(here, "commit", "-qam", "looser")
    assert asked("diff", "main", "HEAD").exit_code == 0
    found = as_json("diff", "HEAD", "v1")
    assert found["gains"] == []
    assert {one["tool"] for one in found["losses"]} == {"delete_file", "edit_file", "write_file"}


def test_a_revision_that_there_is_not_is_an_error_and_is_never_an_option_of_git(here: Path) -> None:
    git(here, "init", "-q")
    copy_of_rules(here / "rbac")
    for name in ("no-such-revision", "HEAD", "v1..v2"):
        done = asked("diff", name)
        assert done.exit_code == 1
        assert "neither a folder nor a revision" in done.stderr
    done = asked("diff", "--", "--output=stolen")
    assert done.exit_code == 1
    assert not (here / "stolen").exists()


def test_a_link_among_the_rules_of_a_revision_is_refused(here: Path) -> None:
    git(here, "init", "-q")
    rules = copy_of_rules(here / "rbac")
    (rules / "grants/observer.yaml").unlink()
    (rules / "grants/observer.yaml").symlink_to("/etc/hostname")
    git(here, "add", ".")
    git(here, "commit", "-qm", "a link")
    done = asked("diff", "HEAD", str(SHIPPED))
    assert done.exit_code == 1
    assert "rbac/grants/observer.yaml is no plain file" in done.stderr


def test_rules_that_do_not_load_are_told_with_file_and_line(here: Path) -> None:
    after = copy_of_rules(here / "after")
    (after / "grants/checker.yaml").write_text("role: checker\nwhy: x\ngrants: 7\n")
    done = asked("diff", str(SHIPPED), str(after))
    assert done.exit_code == 1
    assert "grants/checker.yaml:3" in done.stderr


# --- report -----------------------------------------------------------------------------------------------------------


def test_the_report_says_what_was_used_what_was_refused_and_what_could_go(house: Path) -> None:
    done = asked("report")
    assert done.exit_code == 0
    text = one_line(done.stdout)
    assert "The log is younger than that" in text
    assert "may edit_file" in text or "may delete_file, edit_file, write_file" in text
    assert "refused by outside-the-task (1)" in text
    assert "What could be dropped" in text
    assert "rbac/grants/on-call.yaml" in text
    found = as_json("report", "--days", "7")
    used = next(one for one in found["rows"] if (one["role"], one["tool"]) == ("author", "read_file"))
    assert (used["times"], used["unused"]) == (1, False)
    assert found["young"] is True
    assert {one["agent"] for one in found["permissions"]} >= {"author", "merger"}


def test_a_report_over_no_days_is_refused(house: Path) -> None:
    done = asked("report", "--days", "0")
    assert done.exit_code == 1
    assert "0 days" in done.stderr


# --- test -------------------------------------------------------------------------------------------------------------


def test_the_policy_tests_that_are_shipped_pass_and_those_of_a_looser_set_do_not(here: Path) -> None:
    assert asked("test").exit_code == 0
    rules = copy_of_rules(here / "rules")
    loosen(rules)
    done = asked("test", "--rules", str(rules))
    assert done.exit_code == 1
    assert "author changes no CI definition" in done.stdout
    assert "expected  refuse by path-never-granted" in done.stdout


# --- proposals --------------------------------------------------------------------------------------------------------


def test_proposals_are_listed_and_each_says_how_a_person_adopts_it(house: Path) -> None:
    assert "abc123" in asked("proposals").stdout
    (listed,) = as_json("proposals")
    assert (listed["id"], listed["gains"], listed["cases_failed"]) == ("abc123", 4, 1)
    done = asked("proposal", "abc123")
    assert done.exit_code == 0
    assert "checkers should say what they saw" in done.stdout
    assert "\x1b" not in done.stdout
    assert "+    tools: [ci.start, forge.comment]" in done.stdout
    assert "It changes nothing by itself." in done.stdout
    assert as_json("proposal", "abc123")["stale"] is False


def test_a_proposal_that_there_is_not_says_where_to_look(house: Path) -> None:
    done = asked("proposal", "nothing")
    assert done.exit_code == 1
    assert "flyball rbac proposals" in done.stderr
