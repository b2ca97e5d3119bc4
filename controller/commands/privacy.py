"""What is kept and what is erased: `flyball privacy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.commands.common import (
    Place,
    event_id,
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
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.privacy import Privacy
    from controller.recording import Record

SCOPES = "month/YYYY-MM, person/PSEUDONYM, delivery/ID or local"
BECAUSE = "Why; it stands in the log in clear: name nobody in it."


def _privacy(record: Record, found: Place) -> Privacy:
    from controller.domain.ids import Digest  # noqa: PLC0415 - `--help` need not load the house
    from controller.privacy import Privacy  # noqa: PLC0415
    from controller.recording import standing_of  # noqa: PLC0415

    return Privacy(
        log=record.log,
        keys=record.seals.keys,
        names=record.seals,
        standing=standing_of(found.settings, record.rules, Digest(record.authority.digest)),
        clock=record.clock,
        reasoning_days=found.settings.privacy.reasoning_days,
    )


def _scope(record: Record, scope: str, name: str) -> str:
    if bool(scope) == bool(name):
        raise ConfigError("name one thing", f"Say a SCOPE ({SCOPES}), or --person NAME")
    return scope or record.seals.pseudonym(name).replace(":", "/", 1)


_person_option = click.option("--person", "name", default="", help="A person by name instead of a SCOPE.")
_because_option = click.option("--because", "reason", default="no reason given", help=BECAUSE)


@click.group(help="What is kept and what is erased: keys of sealed text, legal holds, retention.")
def privacy() -> None: ...


@privacy.command(
    help=f"Destroy the keys of a SCOPE ({SCOPES}), or of one person: what lies under them can never be read again. "
    "The log and every proof stay as they are. Refused under a legal hold."
)
@click.argument("scope", default="")
@_person_option
@_because_option
@click.option("--although-live", is_flag=True, help="Also while a delivery under way needs the text.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@repo_option
@state_option
@guarded
def erase(
    *, scope: str, name: str, reason: str, although_live: bool, yes: bool, repo: Path | None, state: Path | None
) -> None:
    found = place(repo, state)
    with reading(found) as record:
        what = _scope(record, scope, name)
        if not yes:
            click.confirm(f"Destroy the keys of {what}? Nobody can undo it.", abort=True)
        act = _privacy(record, found).erase(person(), what, reason, event_id=event_id(), although_live=although_live)
        destroyed = run(act)
    click.echo(f"destroyed: {', '.join(destroyed)}. Copies of the state folder made earlier still hold them.")


@privacy.command(help=f"Legal hold: keep everything in a SCOPE ({SCOPES}, all) until it is released.")
@click.argument("scope", default="")
@_person_option
@_because_option
@repo_option
@state_option
@guarded
def hold(*, scope: str, name: str, reason: str, repo: Path | None, state: Path | None) -> None:
    found = place(repo, state)
    with reading(found) as record:
        what = _scope(record, scope, name)
        run(_privacy(record, found).hold(person(), what, reason, event_id=event_id()))
    click.echo(f"held: {what}. Release it with: flyball privacy release-hold {what}")


@privacy.command("release-hold", help="Lift a legal hold.")
@click.argument("scope", default="")
@_person_option
@_because_option
@repo_option
@state_option
@guarded
def release_hold(*, scope: str, name: str, reason: str, repo: Path | None, state: Path | None) -> None:
    found = place(repo, state)
    with reading(found) as record:
        what = _scope(record, scope, name)
        run(_privacy(record, found).lift(person(), what, reason, event_id=event_id()))
    click.echo(f"released: {what}")


@privacy.command(help="Destroy the keys of text kept longer than privacy.reasoning_days and under no legal hold.")
@repo_option
@state_option
@json_option
@guarded
def retention(*, repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        applied = run(_privacy(record, found).apply_retention(person(), event_id=event_id()))
    if as_json:
        print_json(applied.model_dump(mode="json") if applied else {"destroyed": [], "held": []})
    elif applied is None:
        click.echo(f"nothing is older than {found.settings.privacy.reasoning_days} days")
    else:
        click.echo(
            f"destroyed: {', '.join(applied.destroyed) or 'none'}; under hold: {', '.join(applied.held) or 'none'}"
        )


@privacy.command(help="Which keys there are, when retention takes them, and what is under legal hold.")
@repo_option
@state_option
@json_option
@guarded
def status(*, repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        now = run(_privacy(record, found).status())
    if as_json:
        holds = [one.model_dump(mode="json") for one in now.holds]
        keys = [{"key": key, "until": due.isoformat() if due else None} for key, due in now.keys]
        print_json({"days": now.days, "holds": holds, "keys": keys, "unfinished": list(now.unfinished)})
        return
    for one in now.holds:
        click.echo(f"hold  {one.scope}  by {one.by}: {click.unstyle(one.reason)}")
    for key, due in now.keys:
        click.echo(f"key   {key:<36} {f'until {due:%Y-%m-%d}' if due else 'until erased'}")
    for key in now.unfinished:
        click.echo(f"key   {key} is destroyed in the log but not on disk: finish with flyball privacy retention")
    click.echo(f"text is kept for {now.days} days")
