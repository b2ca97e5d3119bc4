"""The report of used and unused permissions is what the log says, and the lines that it would delete do just that."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, BY, HandClock, sample

from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import StreamId
from controller.errors import ConfigError
from controller.ledger.sqlite import SqliteLog
from controller.metrics import permissions as metrics
from controller.metrics.permissions import Kept, PermissionReport, ToolUse, permission_report
from controller.metrics.proposals import proposals_in
from controller.ports import Receipt
from controller.terminal.permissions import WIDTH, report_lines
from rbac.load import SHIPPED, load
from rbac.trimming import LineChange, without

SESSION, CLIENT = "session/shop-1a/1", "client/pager/1"


class Told:
    """A log in which things happen at hours of one's choosing."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.log = SqliteLog(":memory:", self.clock, inline=True)

    async def at(self, hours: float, stream: str, event: e.Event) -> None:
        self.clock.at = AT + timedelta(hours=hours)
        row = await self.log.stream(StreamId(stream))
        expect = {StreamId(stream): row.version if row else 0}
        kept = await self.log.append([Draft(StreamId(stream), event)], expect=expect, by=BY)
        assert isinstance(kept, Receipt), kept

    async def report(self, *, hours: float = 24 * 40, days: int = 30, **more: Any) -> PermissionReport:
        return await permission_report(self.log, as_of=AT + timedelta(hours=hours), days=days, **more)


def started(role: str) -> e.SessionStarted:
    return sample(e.SessionStarted, role=role)  # type: ignore[no-any-return]


def turn(*tools: str, allowed: bool = True) -> e.TurnRecorded:
    calls = tuple(sample(e.CallRecord, tool=tool, allowed=allowed) for tool in tools)
    return sample(e.TurnRecorded, calls=calls)  # type: ignore[no-any-return]


def row(report: PermissionReport, role: str, tool: str) -> ToolUse:
    (found,) = (one for one in report.rows if (one.role, one.tool) == (role, tool))
    return found


async def test_a_call_counts_for_the_role_of_its_session_and_the_last_one_is_dated() -> None:
    told = Told()
    await told.at(0, SESSION, started("author"))
    await told.at(1, SESSION, turn("read_file", "read_file", "edit_file"))
    await told.at(24 * 20, SESSION, turn("read_file"))
    report = await told.report()
    read = row(report, "author", "read_file")
    assert (read.times, read.last, read.unused, read.grant) == (3, AT + timedelta(days=20), False, "look")
    edited = row(report, "author", "edit_file")
    assert (edited.times, edited.last, edited.unused) == (1, AT + timedelta(hours=1), True)
    assert row(report, "contributor", "read_file").times == 0


async def test_calls_of_a_program_outside_count_for_its_role() -> None:
    told = Told()
    await told.at(0, CLIENT, sample(e.ClientSessionStarted, role="on-call"))
    call = sample(e.CallRecord, tool="read_deployment", allowed=True)
    await told.at(1, CLIENT, sample(e.CallsRecorded, calls=(call,)))
    assert row(await told.report(), "on-call", "read_deployment").times == 1


async def test_an_effect_counts_for_the_role_that_acted() -> None:
    told = Told()
    await told.at(0, "effect/x", sample(e.EffectIntended, agent="merger", verb="forge.land"))
    assert row(await told.report(), "merger", "forge.land").times == 1


async def test_a_refusal_is_counted_once_with_its_rules_and_is_no_use() -> None:
    told = Told()
    await told.at(0, SESSION, started("author"))
    for hour in (1, 2):
        await told.at(hour, SESSION, sample(e.CallRefused, tool="edit_file", rules=("outside-the-task",)))
        await told.at(hour, SESSION, turn("edit_file", allowed=False))
    found = row(await told.report(), "author", "edit_file")
    assert (found.times, found.refused, found.refused_by) == (0, 2, (("outside-the-task", 2),))
    assert found.unused


async def test_what_was_tried_without_a_grant_stands_in_the_report_as_not_granted() -> None:
    told = Told()
    await told.at(0, SESSION, started("author"))
    await told.at(1, SESSION, sample(e.CallRefused, tool="roll_back", rules=("tool-not-granted",)))
    await told.at(2, SESSION, sample(e.CallRefused, tool="anything at all", rules=("unknown-tool",)))
    report = await told.report()
    assert row(report, "author", "roll_back").grant is None
    assert not row(report, "author", "roll_back").unused
    assert row(report, "author", metrics.ANY_OTHER).refused == 1
    assert all(one.tool != "anything at all" for one in report.rows)


async def test_a_log_younger_than_the_days_asked_for_says_so() -> None:
    told = Told()
    assert (await told.report()).since is None
    await told.at(0, SESSION, started("author"))
    young = await told.report(hours=50)
    assert young.young
    assert young.since == AT
    assert not (await told.report(hours=24 * 31)).young
    text = " ".join("\n".join(report_lines(young, (), "")).split())
    assert "it begins on 2026-11-22 09:00 UTC, 2 days and 2 hours before" in text


async def test_days_that_make_no_sense_are_refused() -> None:
    told = Told()
    for days in (0, -1, 10_000):
        with pytest.raises(ConfigError, match=f"{days} days"):
            await told.report(days=days)


async def test_what_takes_users_off_a_release_is_never_proposed_to_be_dropped() -> None:
    report = await Told().report()
    kept = {(one.role, one.tool) for one in report.rows if one.kept is Kept.BAD_DAYS}
    assert {("responder", "platform.restore"), ("on-call", "roll_back"), ("on-call", "hold_release")} <= kept
    steer = next(change for change in report.drops if "hold_release" in change.old)
    assert steer.new is not None
    assert "roll_back" in steer.new
    assert "promote" not in steer.new


async def test_the_verbs_of_the_loop_are_not_proposed_to_be_dropped_either() -> None:
    report = await Told().report()
    assert row(report, "merger", "forge.land").kept is Kept.LOOP
    assert row(report, "merger", "forge.land").unused
    assert not any(change.file == "grants/merger.yaml" for change in report.drops)


async def test_a_role_that_nobody_plays_could_be_dropped_with_its_file() -> None:
    lines = list(report_lines(await Told().report(), (), ""))
    assert "  rbac/grants/compliance.yaml: all of it, so the file itself" in lines


async def test_memory_does_not_grow_with_sessions_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_SESSIONS", 2)
    told = Told()
    for number in range(3):
        await told.at(number, f"session/shop-1a/{number}", started("author"))
    for number in range(3):
        await told.at(5, f"session/shop-1a/{number}", turn("read_file"))
    report = await told.report()
    assert row(report, "author", "read_file").times == 2
    assert report.unattributed == 1


async def test_every_line_of_the_report_fits_the_terminal_but_lines_of_the_grants_themselves() -> None:
    told = Told()
    await told.at(0, SESSION, started("author"))
    await told.at(1, SESSION, turn("read_file"))
    lines = list(report_lines(await told.report(), (), "Under these rules."))
    assert [line for line in lines if len(line) > WIDTH and " | " not in line] == []


# --- lines to delete --------------------------------------------------------------------------------------------------


def applied(folder: Path, changes: tuple[LineChange, ...]) -> None:
    for file in {change.file for change in changes}:
        lines: list[str | None] = [*(folder / file).read_text().splitlines()]
        for change in changes:
            if change.file == file:
                assert lines[change.line - 1] == change.old
                lines[change.line - 1] = change.new
        (folder / file).write_text("\n".join(line for line in lines if line is not None) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, tmp_path / part)
    return tmp_path


def granted(folder: Path, role: str) -> set[str]:
    return {
        tool
        for found in load(folder).roles.values()
        if found.role == role
        for one in found.grants
        for tool in one.tools
    }


@pytest.mark.parametrize(
    ("role", "tools"),
    [
        ("author", {"search"}),
        ("author", {"read_file", "read_ci_log"}),
        ("author", {"git_push"}),
        ("author", {"edit_file", "write_file", "delete_file"}),
        ("on-call", {"promote", "comment", "query_telemetry", "read_deployment"}),
        ("merger", {"forge.comment"}),
    ],
)
def test_without_those_lines_the_role_has_everything_but_those_tools(folder: Path, role: str, tools: set[str]) -> None:
    before = granted(folder, role)
    assert tools <= before
    applied(folder, without(folder, role, tools))
    assert granted(folder, role) == before - tools


def test_a_tool_on_a_line_of_its_own_goes_with_its_line(folder: Path) -> None:
    (folder / "grants/checker.yaml").write_text(
        "role: checker\nwhy: has heads tested\ngrants:\n  - name: test\n    tools:\n      - ci.start\n"
        '      - "forge.comment"\n    repositories: ["*"]\n'
    )
    changes = without(folder, "checker", {"forge.comment"})
    assert [(one.line, one.new) for one in changes] == [(7, None)]
    applied(folder, changes)
    assert granted(folder, "checker") == {"ci.start"}


# --- proposals --------------------------------------------------------------------------------------------------------


async def test_proposals_are_listed_in_the_order_in_which_they_were_made() -> None:
    told = Told()
    for number in (1, 2):
        await told.at(number, f"policy/{number}", sample(e.PolicyProposed, file="grants/author.yaml", gains=number))
    found = await proposals_in(told.log)
    assert [(one.id, one.gains) for one in found] == [("1", 1), ("2", 2)]
