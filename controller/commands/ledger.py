"""Who signs the log, who watches the signer, and how a key follows another."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from controller.errors import ConfigError, Refused

if TYPE_CHECKING:
    from controller.ledger.keyring import KeyHistory
    from controller.recording import Record

ACT = "keys"  # as people's standing names it
DEFAULT_OVERLAP_DAYS = 30


def _heard() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)


@click.command(
    help="Sign the log of a state folder, as a process with a key of its own. A controller starts one by itself; this "
    "is for a user of its own, who need only be able to read log.db. Exit 3: the log must not be signed, 4: another "
    "signer holds the folder."
)
@click.option("--dir", "state", type=click.Path(path_type=Path, file_okay=False), required=True, help="State folder.")
@click.option(
    "--signer",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the key and what was signed are kept. Default: `signer` in the state folder.",
)
@click.option("--origin", default="", help="The log's name. Default: made from its first entry.")
@click.option(
    "--heartbeat", default=300, show_default=True, help="Seconds; silence of twice that is an alarm. 0: never."
)
@click.option("--witness", nargs=2, multiple=True, metavar="URL VKEY", help="A witness to show every checkpoint to.")
@click.option(
    "--postgres-env", default="", help="Environment variable with the connection string of a log on Postgres."
)
@click.option("--once", is_flag=True, help="One look, then end.")
@guarded
def sign(
    *,
    state: Path,
    signer: Path | None,
    origin: str,
    heartbeat: int,
    witness: tuple[tuple[str, str], ...],
    postgres_env: str,
    once: bool,
) -> None:
    from controller.adapters.witness_client import check_url  # noqa: PLC0415
    from controller.ledger.submission import WitnessKeys  # noqa: PLC0415
    from controller.service.signing import SigningPlan  # noqa: PLC0415
    from controller.service.signing import sign as signing  # noqa: PLC0415

    _heard()
    witnesses = tuple(WitnessKeys.parse(check_url(url), key) for url, key in witness)
    plan = SigningPlan(state, origin, witnesses, heartbeat, signer, postgres_env)
    sys.exit(run(signing(plan, once=once)))


@click.command(
    help="Witness logs: cosign each checkpoint that has grown out of the one before it, and nothing else. Run it on "
    "another machine, in other hands: see docs/witness.md."
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Its own folder."
)
@click.option("--listen", default="127.0.0.1:8477", show_default=True, metavar="HOST:PORT", help="0: any free port.")
@click.option("--log", "logs", multiple=True, metavar="VKEY", help="A log's key (flyball keys list). One or more.")
@click.option("--name", default="", help="What it is called in its cosignatures, once for ever. Default: a random one.")
@click.option("--print-key", is_flag=True, help="Print its own keys, making them if need be, and end.")
@click.option("--evidence", is_flag=True, help="Print what speaks against a log, and end.")
@guarded
def witness(*, folder: Path, listen: str, logs: tuple[str, ...], name: str, print_key: bool, evidence: bool) -> None:
    from controller.ledger.note import VerifierKey  # noqa: PLC0415
    from controller.service.witnessing import Listening, serve, witness_keys  # noqa: PLC0415

    _heard()
    if evidence:
        _print_evidence(folder)
        return
    keys = witness_keys(folder, name)
    if print_key:
        click.echo(" ".join(str(key.verifier) for key in keys))
        return
    run(serve(folder, Listening.parse(listen), keys, tuple(VerifierKey.parse(text) for text in logs)))


def _print_evidence(folder: Path) -> None:
    from controller.ledger.witness_store import WitnessStore  # noqa: PLC0415

    if not (folder / "witness.db").is_file():
        raise ConfigError(f"no witness has worked in {folder}", "Name its folder with --dir")
    store = WitnessStore(folder / "witness.db")
    try:
        found = store.evidence()
    finally:
        store.close()
    print_json(
        [
            {"log": one.origin, "kind": one.kind, "at": one.at, "cosigned": one.known, "refused": one.refused}
            for one in found
        ]
    )


@click.group(help="The keys that sign the log's checkpoints.")
def keys() -> None: ...


@keys.command(name="list", help="Every key there ever was, by the sizes of the checkpoints that it signed.")
@repo_option
@state_option
@json_option
@guarded
def list_keys(repo: Path | None, state: Path | None, as_json: bool) -> None:
    history = _history(place(repo, state))
    if as_json:
        print_json(history.model_dump(mode="json", exclude={"keys": {"__all__": {"file"}}}))
        return
    click.echo(f"log {history.origin}")
    for key in history.keys:
        until = f"to {key.to_size}, retired" if key.to_size is not None else "signs"
        soon = f" until {key.signs_until:%Y-%m-%d %H:%M} UTC" if key.signs_until and key.to_size is None else ""
        click.echo(f"  {key.vkey}\n    from size {key.from_size}, {until}{soon}")


def _history(found: Place) -> KeyHistory:
    from controller.ledger.keyring import Keyring  # noqa: PLC0415

    history = Keyring(_signer_folder(found)).history()
    if history is None:
        raise ConfigError(f"no log has been signed in {found.state}", "Begin with: flyball serve, or flyball sign")
    return history


def _signer_folder(found: Place) -> Path:
    from controller.service.signing import SIGNER  # noqa: PLC0415

    return found.state / SIGNER


@keys.command(
    help="Let a new key follow the one that signs now. The log says so in an entry that both have signed, and the old "
    "one signs beside the new one until the overlap is over; then it is destroyed."
)
@click.option(
    "--overlap-days",
    default=DEFAULT_OVERLAP_DAYS,
    show_default=True,
    type=click.IntRange(0, 366),
    help="How long those who know only the old key can still verify new checkpoints.",
)
@repo_option
@state_option
@json_option
@guarded
def rotate(overlap_days: int, repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        said = run(_rotate(record, found, timedelta(days=overlap_days)))
    if as_json:
        print_json(said)
        return
    click.echo(
        f"{said['new']}\nfollows\n{said['old']}\nwhich signs until {said['old_signs_until']} (entry {said['entry']})."
    )
    click.echo("Give the new key to witnesses (--log) and to whoever verifies this log.")


async def _rotate(record: Record, found: Place, overlap: timedelta) -> dict[str, Any]:
    from controller.domain.entry import Caller  # noqa: PLC0415
    from controller.domain.ids import Digest  # noqa: PLC0415
    from controller.ledger.keyring import Keyring  # noqa: PLC0415
    from controller.ledger.rotation import rotate as rotated  # noqa: PLC0415
    from controller.recording import standing_of  # noqa: PLC0415

    standing = standing_of(found.settings, record.rules, Digest(record.authority.digest))
    if not standing.may_person(person(), ACT, None):
        raise Refused(f"{person()} may not rotate the log's key", "Ask whoever owns the policy (policy.people)")
    by, ring = Caller(record.seals.pseudonym(person()), standing.digest), Keyring(_signer_folder(found))
    done = await rotated(record.log, ring, by, now=record.clock.now(), overlap=overlap, event_id=event_id())
    return {
        "old": str(done.old),
        "new": str(done.new),
        "old_signs_until": f"{done.old_until:%Y-%m-%d %H:%M} UTC",
        "entry": done.index,
    }
