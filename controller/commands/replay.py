"""`flyball replay`: a recorded verdict computed again from its record, and held against it number by number."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import guarded, json_option, place, print_json, reading, repo_option, run, state_option
from controller.errors import ConfigError, Refused

if TYPE_CHECKING:
    from controller.canary.replay import Replay
    from controller.domain.entry import Entry
    from controller.recording import Record


@click.command(
    help="Compute a recorded verdict again, from the log and the blobs that it names, and compare every number.\n\n"
    "VERDICT is a log index (412 or log#412, as `flyball show` prints it) of an Observed, RegressionFound, Promoted, "
    "AlarmRaised or Recovery entry, or a DELIVERY: the verdict that decided on its release. Nothing outside the state "
    "folder is asked. Exit 0: they agree exactly. Exit 1: they do not, or the record is not whole."
)
@click.argument("verdict")
@click.option("--path", "with_path", is_flag=True, help="Also every window: its counts and the evidence after it.")
@click.option(
    "--svg",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw what a canary's verdict rests on into this folder, as three files: evidence against its line, error "
    "rates, latency. Nothing is written over.",
)
@repo_option
@state_option
@json_option
@guarded
def replay(
    *, verdict: str, with_path: bool, folder: Path | None, repo: Path | None, state: Path | None, as_json: bool
) -> None:
    with reading(place(repo, state)) as record:
        found, drawn = run(_replay(record, verdict, drawing=folder is not None))
    files = _write(folder, drawn) if folder is not None else []
    if as_json:
        print_json(_row(found, with_path=with_path) | ({"files": [str(one) for one in files]} if files else {}))
    else:
        from controller.terminal.replay import print_replay  # noqa: PLC0415 - `--help` need not load the house

        print_replay(found, with_path=with_path)
        for file in files:
            click.echo(f"drawn: {file}")
    sys.exit(1 if found.differences else 0)


async def _replay(record: Record, verdict: str, *, drawing: bool) -> tuple[Replay, dict[str, str]]:
    """The verdict computed again, and its plots by file name where they are wanted."""
    from controller.canary.replay import replay as again  # noqa: PLC0415

    index = await _index(record, verdict)
    async for entry in record.log.scan(index):
        if entry.index == index and entry.stream.startswith("rollout/"):
            entries = await record.log.read(entry.stream)
            found = await again(entry.stream, entries, index, record.blobs)
            return found, await _drawn(record, found, entries) if drawing else {}
        break
    raise Refused(f"log#{index} is no entry of a rollout", "See a delivery's entries: flyball show DELIVERY")


async def _drawn(record: Record, found: Replay, entries: list[Entry]) -> dict[str, str]:
    from controller.compliance.judged import drawable, parameters_of, plots_of  # noqa: PLC0415

    judging = drawable(found, entries, await parameters_of(found.policy, record.blobs))
    if judging is None:
        raise Refused(
            f"log#{found.index} ({found.kind}) is no canary's verdict: there is nothing to draw",
            "Name an Observed, RegressionFound or Promoted entry",
        )
    return plots_of(found.index, judging)


def _write(folder: Path, drawn: dict[str, str]) -> list[Path]:
    """Raises ConfigError when one is there already; nothing is written then. Or when the folder cannot be written."""
    paths = [folder / name for name in drawn]
    there = [path for path in paths if path.exists()]
    if there:
        raise ConfigError(f"--svg {folder}: {there[0].name} exists already", "Name another folder, or remove the file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, svg in zip(paths, drawn.values(), strict=True):
            with path.open("x", encoding="utf-8") as writing:
                writing.write(svg)
    except OSError as error:
        raise ConfigError(f"--svg {folder} cannot be written: {error}", "Name a folder that you may write") from error
    return paths


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
