"""`flyball benchmarks`: what the tests of landed changes measured, and which landing changed it for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import (
    Place,
    guarded,
    json_option,
    place,
    print_json,
    reading,
    repo_option,
    run,
    state_option,
)
from controller.errors import Refused

if TYPE_CHECKING:
    from controller.canary.changepoints import ChangePoint
    from controller.history.benchmarks import Point
    from controller.recording import Record

COMMIT_DIGITS = 8
HELP = """What the benchmarks of landed changes measured, oldest first, and the landings that changed a level for good.

NAME is one benchmark, such as pricing_ms; without it, all of them. A test records one with pytest's own fixture:

\b
    def test_pricing_is_quick(record_property):
        record_property("flyball.benchmark.pricing_ms", [time_once() for _ in range(5)])

A change that CI measures as slower than what has landed waits for a person. A change of level is known 5 landings after
it came; the landing named is the likeliest one. See docs/benchmarks.md.
"""


@click.command("benchmarks", help=HELP)
@click.argument("name", required=False)
@repo_option
@state_option
@json_option
@guarded
def benchmarks(name: str | None, repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        run(_benchmarks(record, found, name, as_json=as_json))


async def _benchmarks(record: Record, where: Place, name: str | None, *, as_json: bool) -> None:
    from controller.canary.changepoints import change_points  # noqa: PLC0415 - `--help` need not load the house
    from controller.history.benchmarks import landings, series  # noqa: PLC0415

    configured = where.settings.configured(where.root)
    landed = await landings(record.log, configured.name, configured.branch)
    known = series(landed)
    if name is not None and known and name not in known:
        raise Refused(f"no landing has measured {name!r}", f"Known: {', '.join(sorted(known))}")
    wanted = {one: known[one] for one in sorted(known) if name in (None, one)}
    changes = {one: change_points([float(p.value_micro) for p in points]) for one, points in wanted.items()}
    if as_json:
        print_json([_row(one, points, changes[one]) for one, points in wanted.items()])
        return
    if not wanted:
        click.echo(f"no data: none of the {len(landed)} landings in the log has recorded a benchmark")
        click.echo("A test records one with: record_property('flyball.benchmark.NAME_ms', value)")
    for one, points in wanted.items():
        _print(one, points, changes[one])


def _row(name: str, points: list[Point], changes: tuple[ChangePoint, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "landings": [
            {
                "delivery": point.landing.delivery,
                "commit": point.landing.commit,
                "at": point.landing.at.isoformat(),
                "log_entry": point.landing.report,
                "value_micro": point.value_micro,
                "accepted_slower": point.accepted(name),
            }
            for point in points
        ],
        "change_points": [
            {
                "delivery": points[one.index].landing.delivery,
                "commit": points[one.index].landing.commit,
                "before_micro": round(one.before_mean),
                "after_micro": round(one.after_mean),
                "relative_change": one.relative_change,
                "p": one.p,
            }
            for one in changes
        ],
    }


def _print(name: str, points: list[Point], changes: tuple[ChangePoint, ...]) -> None:
    from controller.domain.benchmark import in_units, odds  # noqa: PLC0415

    newest = points[-1]
    head = f"{name}: {len(points)} landings, newest {in_units(newest.value_micro)} ({newest.landing.delivery})"
    click.echo(head if changes else f"{head}, no change of level")
    for one in changes:
        landing = points[one.index].landing
        values = (
            f"{in_units(one.before_mean)} -> {in_units(one.after_mean)} ({one.relative_change:+.0%}, {odds(one.p)})"
        )
        click.echo(f"  {values} since {landing.commit[:COMMIT_DIGITS]}, landed by {landing.delivery} ({landing.at:%F})")
