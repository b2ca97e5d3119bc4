"""What a person says: consent, hold, promote, stop. Each is an event with their name on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.commands.common import event_id, guarded, person, place, reading, repo_option, run, state_option
from controller.errors import Refused

if TYPE_CHECKING:
    from controller.intake import Act

SCOPES = "all, agent:ROLE, service:NAME, repository:NAME or branch:NAME@BRANCH"


def _act(act: Act, delivery: str, words: str, repo: Path | None, state: Path | None) -> None:
    from controller.domain.ids import DeliveryId  # noqa: PLC0415

    with reading(place(repo, state)) as record:
        run(record.intake.act(person(), act, DeliveryId(delivery), event_id=event_id(), words=words))
    click.echo(f"{act}: {delivery}. It stands in the log under your name; a running controller acts on it at once.")


def _command(name: str, act: Act, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("delivery")
    @click.option("--because", "words", default="", help="Your words, kept sealed beside the act.")
    @repo_option
    @state_option
    @guarded
    def command(delivery: str, words: str, repo: Path | None, state: Path | None) -> None:
        _act(act, delivery, words, repo, state)

    return command


approve = _command("approve", "approve", "Consent to a Yellow change: to exactly this head under exactly this policy.")
reject = _command("reject", "reject", "Refuse a change that has not merged; the delivery is given up.")
hold = _command("hold", "hold", "Hold a delivery where it is: no landing, no next step, no promotion, until `release`.")
release = _command("release", "release", "Let a held delivery go on.")
promote = _command(
    "promote", "promote", "Promote a canary without waiting for the proof. A verdict to roll back still wins."
)
retry = _command(
    "retry",
    "retry",
    "Begin the canary of a delivery again, without the evidence so far. Its traffic goes back first; the new try is "
    "judged with an error budget of its own, in your name.",
)


@click.command(help="Let a stuck delivery (or SERVICE@ENVIRONMENT) go on, once you have looked at it.")
@click.argument("what")
@repo_option
@state_option
@guarded
def unstick(what: str, repo: Path | None, state: Path | None) -> None:
    if "@" not in what:
        _act("unstick", what, "", repo, state)
        return
    service, _, environment = what.partition("@")
    with reading(place(repo, state)) as record:
        run(record.intake.unstick_service(person(), service, environment, event_id=event_id()))
    click.echo(f"unstick: {what}")


@click.command(help=f"Block forward verbs in a scope ({SCOPES}). Running canaries go to the confirmed release first.")
@click.argument("scope", default="all")
@click.option("--because", "reason", default="no reason given", help="Why; it stands in the log.")
@repo_option
@state_option
@guarded
def stop(scope: str, reason: str, repo: Path | None, state: Path | None) -> None:
    _known(scope)
    with reading(place(repo, state)) as record:
        run(record.intake.stop(person(), scope, reason, event_id=event_id()))
    click.echo(f"stopped: {scope}. Lift it with: flyball resume {scope}")


@click.command(help=f"Lift a stop or a freeze ({SCOPES}).")
@click.argument("scope", default="all")
@click.option("--because", "reason", default="no reason given", help="Why; it stands in the log.")
@repo_option
@state_option
@guarded
def resume(scope: str, reason: str, repo: Path | None, state: Path | None) -> None:
    _known(scope)
    with reading(place(repo, state)) as record:
        run(record.intake.resume(person(), scope, reason, event_id=event_id()))
    click.echo(f"resumed: {scope}")


@click.command(
    help="Revoke an agent's SESSION (DELIVERY/N, see `flyball show`): its next call is refused, and the session ends."
)
@click.argument("session")
@click.option("--because", "reason", default="no reason given", help="Why; it stands in the log.")
@repo_option
@state_option
@guarded
def revoke(session: str, reason: str, repo: Path | None, state: Path | None) -> None:
    from controller.domain.ids import SessionId  # noqa: PLC0415 - `--help` need not load the house

    with reading(place(repo, state)) as record:
        run(record.intake.revoke(person(), SessionId(session), reason, event_id=event_id()))
    click.echo(f"revoked: {session}")


def _known(scope: str) -> None:
    kind, _, name = scope.partition(":")
    if scope != "all" and not (kind in ("agent", "service", "repository", "branch") and name):
        raise Refused(f"scope {scope!r} is unknown", f"Use {SCOPES}")
