"""Looking at what happened: status, one delivery's story, the log's own proof, and the loop as a picture."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import (
    Place,
    guarded,
    json_option,
    person,
    place,
    print_json,
    reading,
    repo_option,
    run,
    state_option,
)
from controller.errors import Refused

if TYPE_CHECKING:
    from controller.recording import Record


UNSAFE = (
    "sandbox.unsafe_accept_plain is set: where no sandbox starts, code that agents write runs as whoever runs Flyball"
)


@click.command(help="Every delivery and where it is, what is stopped, and the log's size and root.")
@repo_option
@state_option
@json_option
@guarded
def status(repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        run(_status(record, found, as_json=as_json))


async def _status(record: Record, where: Place, *, as_json: bool) -> None:
    from controller.metrics.deliveries import record_of  # noqa: PLC0415
    from controller.metrics.doors import turned_away_since  # noqa: PLC0415
    from controller.service.heartbeat import ledger_state  # noqa: PLC0415
    from controller.service.signing import plan_of, publication_of  # noqa: PLC0415
    from controller.terminal.report import delivery_row, print_status  # noqa: PLC0415

    plan = plan_of(record.folder.root, where.settings.ledger)
    signed = ledger_state(plan.own, publication_of(plan))
    found, head, control = await record_of(record.log), await record.log.head(), await record.log.control()
    turned_away = await turned_away_since(record.log, record.clock.now() - timedelta(days=1))
    if as_json:
        rows = [delivery_row(d, found.spent_on(d.id)) for d in found.deliveries]
        stops = [{"scope": row.scope, "state": row.state, "reason": row.reason} for row in control]
        log = {"size": head.size, "root": head.root, "signed_size": signed.signed_size, "witness": signed.words}
        alarms = [{"what": one.what, "since": one.at.isoformat()} for one in signed.alarms]
        unsafe = where.settings.sandbox.unsafe_accept_plain
        told = {"deliveries": rows, "stops": stops, "log": log, "alarms": alarms, "turned_away": turned_away}
        print_json({**told, "unsafe_accept_plain": unsafe})
        return
    await print_status(found, control, head, record.seals, signed, turned_away=turned_away)
    if where.settings.sandbox.unsafe_accept_plain:
        click.secho(UNSAFE, fg="red", bold=True)


@click.command(help="One delivery's timeline: every entry about it, with the reasons, the rules and the evidence.")
@click.argument("delivery")
@repo_option
@state_option
@json_option
@guarded
def show(delivery: str, repo: Path | None, state: Path | None, as_json: bool) -> None:
    with reading(place(repo, state)) as record:
        run(_show(record, delivery, as_json=as_json))


async def _show(record: Record, delivery: str, *, as_json: bool) -> None:
    from controller.terminal.report import print_story  # noqa: PLC0415
    from controller.terminal.screen import as_json as entry_json  # noqa: PLC0415
    from controller.terminal.story import story_of  # noqa: PLC0415

    story = await story_of(record.log, delivery)
    if not story:
        raise Refused(f"there is no delivery {delivery!r}", "See them: flyball status")
    if as_json:
        print_json([entry_json(entry, None) for entry in story])
        return
    await print_story(story, record.reading.seals_for(person(), story))


@click.command(help="The messages that people were sent, oldest first.")
@repo_option
@state_option
@json_option
@guarded
def messages(repo: Path | None, state: Path | None, as_json: bool) -> None:
    from controller.adapters.chat_local import LocalChat  # noqa: PLC0415
    from controller.adapters.clock import SystemClock  # noqa: PLC0415
    from controller.terminal.words import plain  # noqa: PLC0415

    found = place(repo, state)
    sent = run(LocalChat(found.folder.outbox, SystemClock()).messages())
    if as_json:
        print_json([message.model_dump(mode="json") for message in sent])
        return
    for message in sent:
        click.echo(plain(f"{message.at:%Y-%m-%d %H:%M:%S}  to {message.to}  {message.text}"))


@click.group(help="The log itself.")
def log() -> None: ...


@log.command(
    help="Recompute the Merkle tree and the guards from the entries, and every blob that they commit to. "
    "Exit 1 on any finding."
)
@repo_option
@state_option
@json_option
@guarded
def verify(repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found):
        pass  # says what to do where there is no log
    report: Any = _verified(found)
    if as_json:
        print_json(
            {
                "size": report.size,
                "root": report.root,
                "findings": [asdict(finding) for finding in report.findings],
            }
        )
    else:
        from controller.terminal.report import print_verification  # noqa: PLC0415

        print_verification(report, _published(found))
    sys.exit(1 if report.findings else 0)


def _published(found: Place) -> str:
    from controller.service.heartbeat import ledger_state  # noqa: PLC0415
    from controller.service.signing import plan_of, publication_of  # noqa: PLC0415

    plan = plan_of(found.state, found.settings.ledger)
    return ledger_state(plan.own, publication_of(plan)).words


def _verified(found: Place) -> Any:
    from controller.recording import dsn_of  # noqa: PLC0415

    if dsn := dsn_of(found.settings):
        from controller.ledger.postgres_verify import verify_postgres  # noqa: PLC0415 - libpq only where it is used

        return verify_postgres(dsn)
    from controller.ledger.verify import verify as verify_log  # noqa: PLC0415

    return verify_log(found.folder.log, found.folder.blobs)


@click.command(help="The loop as a Mermaid state diagram, generated from its table.")
@click.option(
    "--of", "machine", type=click.Choice(["delivery", "queue", "rollout"]), default="delivery", help="Which table."
)
@click.option("--all", "aside", is_flag=True, help="Also the ways to ABANDONED, SUPERSEDED and STUCK.")
def graph(machine: str, aside: bool) -> None:
    from controller.loop import MACHINES, mermaid  # noqa: PLC0415

    click.echo(mermaid(MACHINES[machine], aside=aside), nl=False)
