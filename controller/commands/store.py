"""The log's store: `flyball log migrate` and `flyball log move`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from controller.commands.common import guarded, json_option, place, print_json, repo_option, state_option
from controller.errors import ConfigError

MAX_CHECKPOINTS = 1_000  # at which a move compares roots

to_option = click.option(
    "--to", "dsn", required=True, help="Connection string of the Postgres database, without a password in it."
)


@click.command(help="Bring the schema of a Postgres log up to date, as its owner. A second call changes nothing.")
@to_option
@click.option("--grant", default=None, help="The role that may append from then on: the controllers'.")
@guarded
def migrate(dsn: str, grant: str | None) -> None:
    from controller.ledger.postgres_schema import migrate as migrated  # noqa: PLC0415 - libpq only where it is used

    before = migrated(dsn, grant=grant)
    click.echo(f"schema {before} before" if before else "the schema is made")


@click.command(
    help="Move the log of a state folder into an empty Postgres database, byte for byte: every receipt and checkpoint "
    "stays valid, and the file takes no further entry."
)
@to_option
@click.option("--stay", is_flag=True, help="Take back a move that was killed and has not arrived.")
@repo_option
@state_option
@json_option
@guarded
def move(dsn: str, stay: bool, repo: Path | None, state: Path | None, as_json: bool) -> None:
    from controller.ledger import move as moving  # noqa: PLC0415

    folder = place(repo, state).folder
    if not folder.log.is_file():
        raise ConfigError(f"there is no log in {folder.root}", "Name its state folder with --dir")
    if stay:
        moving.stay(folder.log, dsn)
        click.echo("The log stays in its file.")
        return
    moved = moving.move(folder.log, dsn, _signed_roots(folder.root))
    if as_json:
        print_json(asdict(moved))
        return
    click.echo(f"{moved.size} entries moved, root {moved.root}; {moved.checkpoints} signed roots compared.")
    click.echo("Now set ledger.postgres_env in flyball.toml; the file stays as it was, readable and sealed.")


def _signed_roots(state: Path) -> dict[int, bytes]:
    """Of signed checkpoints: those with cosignatures, and the newest."""
    from controller.ledger.checkpoint_book import reading  # noqa: PLC0415
    from controller.ledger.publication import BOOK  # noqa: PLC0415
    from controller.service.signing import SIGNER  # noqa: PLC0415

    with reading(state / SIGNER / BOOK) as book:
        if book is None:
            return {}
        sizes = book.cosigned_sizes(MAX_CHECKPOINTS)
        found = [book.newest(), *(book.at(size) for size in sizes)]
        return {one.size: one.checkpoint.root for one in found if one is not None}
