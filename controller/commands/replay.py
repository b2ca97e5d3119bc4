"""`flyball replay`: a recorded verdict computed again from its record, and held against it number by number."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import guarded, json_option, place, print_json, reading, repo_option, run, state_option
from controller.errors import Refused

if TYPE_CHECKING:
    from controller.canary.replay import Replay
    from controller.recording import Record


@click.command(
    help="Compute a recorded verdict again, from the log and the blobs that it names, and compare every number.\n\n"
    "VERDICT is a log index (412 or log#412, as `flyball show` prints it) of an Observed, RegressionFound, Promoted, "
    "AlarmRaised or Recovery entry, or a DELIVERY: the verdict that decided on its release. Nothing outside the state "
    "folder is asked. Exit 0: they agree exactly. Exit 1: they do not, or the record is not whole."
)
@click.argument("verdict")
@click.option("--path", "with_path", is_flag=True, help="Also every window: its counts and the evidence after it.")
@repo_option
@state_option
@json_option
@guarded
def replay(verdict: str, with_path: bool, repo: Path | None, state: Path | None, as_json: bool) -> None:
    with reading(place(repo, state)) as record:
        found = run(_replay(record, verdict))
    if as_json:
        print_json(_row(found, with_path=with_path))
    else:
        from controller.terminal.replay import print_replay  # noqa: PLC0415 - `--help` need not load the house

        print_replay(found, with_path=with_path)
    sys.exit(1 if found.differences else 0)


async def _replay(record: Record, verdict: str) -> Replay:
    from controller.canary.replay import replay as again  # noqa: PLC0415

    index = await _index(record, verdict)
    async for entry in record.log.scan(index):
        if entry.index == index and entry.stream.startswith("rollout/"):
            return await again(entry.stream, await record.log.read(entry.stream), index, record.blobs)
        break
    raise Refused(f"log#{index} is no entry of a rollout", "See a delivery's entries: flyball show DELIVERY")


async def _index(record: Record, verdict: str) -> int:
    """Of the entry that is meant: the number itself, or what decided on a delivery's newest release."""
    number = verdict.removeprefix("log#").removeprefix("#")
    if number.isascii() and number.isdigit():
        return int(number)
    from controller.domain import events as e  # noqa: PLC0415
    from controller.terminal.story import story_of  # noqa: PLC0415

    story = await story_of(record.log, verdict)
    if not story:
        raise Refused(f"there is no delivery {verdict!r}", "See them: flyball status")
    judged = (e.RegressionFound, e.Promoted)
    decided = [one.index for one in story if isinstance(one.event, judged) and one.event.verdict is not None]
    looked = [one.index for one in story if isinstance(one.event, e.Observed)]
    if not decided and not looked:
        raise Refused(f"no canary of {verdict} was judged by counts", f"See what happened: flyball show {verdict}")
    return (decided or looked)[-1]


def _row(found: Replay, *, with_path: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "entry": found.index,
        "kind": found.kind,
        "stream": found.stream,
        "policy": found.policy,
        "agrees": not found.differences,
        "differences": {one: [found.recorded[one], found.again.get(one)] for one in found.differences},
        "verdict": found.again,
    }
    if with_path:
        row["path"] = [
            {
                "window": point.window,
                "start_ms": point.counts.start_ms,
                "weight_percent": point.weight_percent,
                "canary": [point.counts.canary.errors, point.counts.canary.requests],
                "baseline": [point.counts.baseline.errors, point.counts.baseline.requests],
                "log_e_micro": point.log_e_micro,
            }
            for point in found.path
        ]
    return row
