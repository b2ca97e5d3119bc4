"""`flyball explain`: why a delivery had its colour, on what evidence, and what would have made it another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.commands.common import guarded, json_option, place, print_json, reading, repo_option, run, state_option
from controller.errors import Refused

if TYPE_CHECKING:
    from controller.recording import Record


@click.command(help="Why a delivery had its colour, on what evidence, and what would have made it another.")
@click.argument("delivery")
@repo_option
@state_option
@json_option
@guarded
def explain(delivery: str, repo: Path | None, state: Path | None, as_json: bool) -> None:
    with reading(place(repo, state)) as record:
        run(_explain(record, delivery, as_json=as_json))


async def _explain(record: Record, delivery: str, *, as_json: bool) -> None:
    from controller.domain.ids import DeliveryId, delivery_stream  # noqa: PLC0415
    from controller.terminal.explain import explanation_of  # noqa: PLC0415
    from controller.terminal.words import plain  # noqa: PLC0415

    entries = await record.log.read(delivery_stream(DeliveryId(delivery)))
    if not entries:
        raise Refused(f"there is no delivery {delivery!r}", "See them: flyball status")
    found = explanation_of(DeliveryId(delivery), entries)
    if as_json:
        print_json(asdict(found))
        return
    for line in found.lines:
        click.echo(plain(line))
