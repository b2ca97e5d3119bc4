"""Letting programs in: registering them, seeing them, retiring them, and a token for one by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
from controller.errors import ConfigError
from rbac.tokens import MAX_SECONDS

if TYPE_CHECKING:
    from controller.client_registry import ClientRegistry, Registered, Wanted
    from controller.client_sessions import Issued
    from controller.clients import Clients
    from controller.domain.client import Client
    from controller.recording import Record

TTL = re.compile(r"([0-9]{1,6})([smh]?)")
UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3_600}
MAX_KEY_BYTES = 16_384


@dataclass(frozen=True)
class _House:
    """What these commands work with, and the address that clients know."""

    registry: ClientRegistry
    clients: Clients
    resource: str  # "": nobody can know it before the gateway runs

    def known_resource(self) -> str:
        if not self.resource:
            raise ConfigError(
                "gateway.port is 0, so no program outside can know where to come",
                "Set a port in flyball.toml: [gateway] port = 7420, or gateway.public_url",
            )
        return self.resource

    @property
    def token_endpoint(self) -> str:
        from tools.oauth import TOKEN, origin_of  # noqa: PLC0415 - `--help` need not load the house

        return origin_of(self.known_resource()) + TOKEN


def _house(record: Record, found: Place) -> _House:
    from controller.adapters.git import GitForge  # noqa: PLC0415
    from controller.client_records import Records  # noqa: PLC0415
    from controller.client_registry import ClientRegistry  # noqa: PLC0415
    from controller.clients import Clients  # noqa: PLC0415
    from controller.domain.ids import Digest  # noqa: PLC0415
    from controller.recording import standing_of  # noqa: PLC0415
    from controller.wiring import badges  # noqa: PLC0415
    from tools.door import resource_of  # noqa: PLC0415

    settings, authority, log = found.settings, record.authority, record.log
    repository, bounds = settings.configured(found.root), settings.bounded()
    served = {repository.name: repository}
    standing = standing_of(settings, record.rules, Digest(authority.digest))
    records = Records(log, served, badges(log, served), bounds)
    resource = resource_of(settings.gateway.public_url, settings.gateway.port)
    return _House(
        registry=ClientRegistry(log=log, seals=record.seals, standing=standing, authority=authority, records=records),
        clients=Clients(
            log=log,
            clock=record.clock,
            records=records,
            authority=authority,
            tip=GitForge(record.folder.forge, record.clock).tip,
            bounds=bounds,
            resource=lambda: resource,
        ),
        resource=resource,
    )


@click.group(help="Programs outside that may use the gateway's tools, each as one role in one repository.")
def clients() -> None: ...


@clients.command(
    help="Let a program in under NAME. Prints its secret, once: it is kept nowhere. With --public-key it has none, and "
    "signs its word instead (RFC 7523). What it may do is what the role's grants give (rbac/grants), narrowed by its "
    "scopes and paths."
)
@click.argument("name")
@click.option("--role", required=True, help="contributor writes changes, on-call watches releases, compliance reviews.")
@click.option("--repository", default="", help="The one repository that it works in. Default: that of flyball.toml.")
@click.option(
    "--scope", "scopes", multiple=True, help="As workspace:read; repeat it. Default: all that the role gives."
)
@click.option(
    "--path", "paths", multiple=True, help="As src/**; repeat it. Default: the paths that any task may touch."
)
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file with its public key in PEM: RSA, P-256 or Ed25519.",
)
@repo_option
@state_option
@json_option
@guarded
def add(
    *,
    name: str,
    role: str,
    repository: str,
    scopes: tuple[str, ...],
    paths: tuple[str, ...],
    public_key: Path | None,
    repo: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    from controller.client_registry import Wanted  # noqa: PLC0415
    from controller.domain.ids import Repository  # noqa: PLC0415

    found = place(repo, state)
    wanted = Wanted(
        name=name,
        role=role,
        repository=Repository(repository or found.settings.configured(found.root).name),
        scopes=scopes,
        allowed_paths=paths,
        with_secret=public_key is None,
        public_key=_key_in(public_key) if public_key else None,
    )
    with reading(found) as record:
        house = _house(record, found)
        house.known_resource()
        registered = run(house.registry.register(person(), wanted, event_id=event_id()))
    _print_added(house, wanted, registered, as_json=as_json)


def _key_in(file: Path) -> str:
    from tools.assertion import algorithms_of  # noqa: PLC0415

    if file.stat().st_size > MAX_KEY_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_KEY_BYTES} bytes", "Give one public key in PEM")
    text = file.read_bytes().decode(errors="replace")
    algorithms_of(text)
    return text


def _print_added(house: _House, wanted: Wanted, registered: Registered, *, as_json: bool) -> None:
    facts = {
        "client_id": wanted.name,
        "client_secret": registered.secret,
        "token_endpoint": house.token_endpoint,
        "resource": house.resource,
        "scope": " ".join(registered.client.registered.scopes) if registered.client.registered else "",
    }
    if as_json:
        print_json({name: value for name, value in facts.items() if value is not None})
        return
    click.echo(f"{wanted.name} may come in as {wanted.role}, in {wanted.repository}.\n")
    for fact, value in facts.items():
        if value is not None:
            click.echo(f"  {fact:<15} {value}")
    if registered.secret is None:
        click.echo("\nIt asks for a token with an assertion that its key has signed (see docs/clients.md).")
        return
    click.echo("\nThe secret is shown this once. With it, the program asks for a token:")
    click.echo(
        f"  curl -u '{wanted.name}:{registered.secret}' -d grant_type=client_credentials {facts['token_endpoint']}"
    )


@clients.command("list", help="Every program that was ever let in: as what, where, and whether it still may come.")
@repo_option
@state_option
@json_option
@guarded
def list_clients(repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        listed = run(_house(record, found).registry.listed())
    rows = [_row(client) for client in listed]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        stands = f"retired: {row['retired']}" if row["retired"] is not None else f"by {row['proof']}"
        click.echo(f"{row['client']:<16} {row['role']:<12} {row['repository']:<16} {stands}")
        click.echo(f"{'':<16} scopes {' '.join(row['scopes'])}; paths {' '.join(row['paths'])}")
    if not rows:
        click.echo("No program has been let in. Let one in with: flyball rbac clients add NAME --role ROLE")


def _row(client: Client) -> dict[str, Any]:
    registered = client.registered
    if registered is None:  # a log that begins in the middle
        return {"client": client.name, "role": "", "repository": "", "scopes": [], "paths": [], "retired": "unknown"}
    proofs = [name for name, shown in (("secret", registered.secret), ("key", registered.public_key)) if shown]
    return {
        "client": client.name,
        "role": registered.role,
        "repository": registered.repository,
        "scopes": list(registered.scopes),
        "paths": list(registered.allowed_paths),
        "proof": " and ".join(proofs) or "token by hand only",
        "by": registered.by,
        "since": client.since.isoformat() if client.since else None,
        "retired": client.retired.reason if client.retired else None,
    }


@clients.command(
    help="Retire a program: its next call is refused, with every token it has and all that it lent its authority to. "
    "Its name is never given again."
)
@click.argument("name")
@click.option("--reason", default="no reason given", help="Why; it stands in the log.")
@repo_option
@state_option
@guarded
def retire(name: str, reason: str, repo: Path | None, state: Path | None) -> None:
    found = place(repo, state)
    with reading(found) as record:
        run(_house(record, found).registry.retire(person(), name, reason, event_id=event_id()))
    click.echo(f"retired: {name}. None of its tokens counts from here on.")


@click.command(
    help="A token for the program NAME, as a header to paste: for trying something out, or for a program that cannot "
    "ask for one itself. It is shown this once; only its digest is kept."
)
@click.argument("name")
@click.option("--ttl", default="15m", show_default=True, help="How long it is good: 90s, 15m, 8h; at most 24h.")
@click.option("--scope", "scopes", multiple=True, help="As workspace:read; repeat it. Default: all that it has.")
@repo_option
@state_option
@json_option
@guarded
def token(
    *, name: str, ttl: str, scopes: tuple[str, ...], repo: Path | None, state: Path | None, as_json: bool
) -> None:
    seconds = seconds_of(ttl)
    found = place(repo, state)
    with reading(found) as record:
        house = _house(record, found)
        house.known_resource()
        issued = run(_given(house, name, seconds, scopes))
    if as_json:
        print_json(
            {
                "access_token": issued.token,
                "session": issued.session,
                "scope": " ".join(issued.scopes),
                "expires_at": issued.expires_at.isoformat(),
                "resource": house.resource,
            }
        )
        return
    click.echo(f"Authorization: Bearer {issued.token}")
    click.echo(
        f"Good for {house.resource} until {issued.expires_at:%Y-%m-%d %H:%M:%S} UTC, as session {issued.session}, "
        f"with scope {' '.join(issued.scopes)}.",
        err=True,
    )


async def _given(house: _House, name: str, seconds: int, scopes: tuple[str, ...]) -> Issued:
    from controller.client_registry import unknown  # noqa: PLC0415

    registered = await house.clients.registered(name)
    if registered is None:
        raise unknown(name)
    by = house.registry.allow(person(), registered.repository)
    return await house.clients.sign_in(name, seconds=seconds, how="command_line", scopes=scopes, by=by)


def seconds_of(ttl: str) -> int:
    """Raises ConfigError for what is no length of time, or none that a token has."""
    found = TTL.fullmatch(ttl.strip())
    seconds = int(found[1]) * UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(
            f"--ttl {ttl!r} is no life of a token", "Say 90s, 15m or 8h; at most 24h: none is good for ever"
        )
    return seconds
