"""What people at a terminal read: every fact has words or is silent, and none of them brings the terminal down."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, HandClock, entries, entry, every_event, sample

from controller.domain import events as e
from controller.domain.decision import Claim, decide
from controller.domain.entry import Draft, decode
from controller.domain.ids import StreamId, canonical
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.terminal.footer import Footer
from controller.terminal.report import print_story
from controller.terminal.screen import Screen, follow
from controller.terminal.words import ERASED, line_of

STREAMS = (
    "delivery/shop-1a2b3c",
    "session/shop-1a2b3c/1",
    "queue/shop@main",
    "rollout/shop@production",
    "effect/tell/shop-1a2b3c/confirmed",
    "people/shop-1a2b3c",
    "control",
)


@pytest.fixture
def seals(tmp_path: Path) -> LocalSeals:
    return LocalSeals(tmp_path / "keys", FileBlobs(tmp_path / "blobs", durable=False))


@pytest.fixture
async def log() -> AsyncIterator[SqliteLog]:
    found = SqliteLog(":memory:", HandClock(), inline=True)
    yield found
    found.close()


@pytest.mark.parametrize("full", [True, False], ids=["full", "bare"])
async def test_no_fact_brings_the_terminal_down_wherever_it_stands_and_with_every_sealed_text_erased(
    seals: LocalSeals, full: bool
) -> None:
    for stream in STREAMS:
        for event in every_event(full=full):
            line = await line_of(entry(stream, event), seals)
            assert line is None or (line.text and "\n" not in line.text), event.kind()


@pytest.mark.parametrize("full", [True, False], ids=["full", "bare"])
async def test_every_fact_is_one_json_object_for_scripts(seals: LocalSeals, full: bool) -> None:
    out = io.StringIO()
    screen = Screen(json_lines=True, file=out)
    for event in every_event(full=full):
        await screen.show(entry("control", event), seals)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["kind"] for row in rows] == list(e.ALL)
    assert {"index", "stream", "version", "time", "principal", "body", "line"} <= set(rows[0])


async def test_an_entry_of_a_newer_flyball_is_named_and_passed_over(seals: LocalSeals) -> None:
    raw = json.loads(entry("delivery/shop-1a2b3c", sample(e.Stuck)).leaf)
    line = await line_of(decode(canonical(raw | {"kind": "Blessed"})), seals)
    assert line is not None
    assert "newer Flyball (Blessed)" in line.text


async def test_what_was_asked_for_is_shown_by_its_first_line_until_its_key_is_destroyed(seals: LocalSeals) -> None:
    asked = sample(e.TaskRequested, cause=e.Cause.TASK, task=await seals.seal("\n Sort [red]the[/red] cart\nby price"))
    line = await line_of(entry("delivery/shop-1a2b3c", asked), seals)
    assert line is not None
    assert line.text == "asked for: Sort [red]the[/red] cart"
    assert asked.task is not None
    seals.keys.destroy(asked.task.key_id)
    erased = await line_of(entry("delivery/shop-1a2b3c", asked), seals)
    assert erased is not None
    assert ERASED in erased.text


async def test_words_from_outside_cannot_paint_the_terminal(seals: LocalSeals) -> None:
    out = io.StringIO()
    stuck = e.Stuck(reason="[bold red]all is well[/] [/green] [link=https://example.org]click[/link]\x1b]0;owned\x07\r")
    await Screen(file=out).show(entry("delivery/shop-1a2b3c", stuck), seals)
    assert "[bold red]all is well[/] [/green] [link=https://example.org]click[/link]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


async def test_whoever_begins_to_watch_in_the_middle_sees_what_is_under_way(log: SqliteLog, seals: LocalSeals) -> None:
    stream = StreamId("rollout/shop@production")
    for version, event in enumerate((sample(e.ReleaseOpened), sample(e.ArtefactBuilt))):
        await log.append([Draft(stream, event)], expect={stream: version}, by=BY)
    out = io.StringIO()
    screen = Screen(file=out)
    await screen.recall(log)
    await log.append([Draft(stream, sample(e.Promoted))], expect={stream: 2}, by=BY)
    assert await follow(log, seals, screen, 2) == 3
    assert "PROMOTED to 100 %" in out.getvalue()


def test_a_footer_that_missed_the_beginning_of_a_stream_leaves_it_out() -> None:
    footer = Footer()
    middle = entries("rollout/shop@production", sample(e.ReleaseOpened), sample(e.ArtefactBuilt), sample(e.Promoted))
    for one in middle[1:]:
        footer.take(one)
    for one in [*middle[:1], *middle, *middle]:  # and whatever it is shown twice counts once
        footer.take(one)
    assert footer._rollouts[StreamId("rollout/shop@production")].version == 3
    footer.render()


async def test_a_story_is_told_with_its_reasons(seals: LocalSeals, capsys: pytest.CaptureFixture[str]) -> None:
    why = decide(
        "Land it?",
        "land",
        over={"wait": "it is [first] in line"},
        because=(Claim(text="run 7 [passed]", evidence="run 7"),),
        would_change="a red run",
        fallback="revert it",
        rules=("queue/tested-is-landed",),
    )
    intent = sample(e.EffectIntended, decision=why, verb="forge.land", agent="merger", allowed_by=("land",))
    told = entries("effect/land/shop/x", intent, sample(e.EffectFailed, reason="somebody else was [faster]"))
    await print_story(told, seals)
    said = capsys.readouterr().out
    for words in (
        "Land it? land",
        "because run 7 [passed]",
        "not wait: it is [first] in line",
        "[faster]",
        "a red run",
    ):
        assert words in said


async def test_every_fact_can_be_told_in_a_story(seals: LocalSeals, capsys: pytest.CaptureFixture[str]) -> None:
    for stream in STREAMS:
        await print_story([entry(stream, event) for event in every_event()], seals)
    assert "Traceback" not in capsys.readouterr().out
