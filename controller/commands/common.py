"""What the commands share: flyball.toml and the state folder, running a coroutine, errors as people read them."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from controller.errors import ConfigError, FlyballError
from controller.settings import FILE, STATE, Settings, load, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.recording import Folder, Record

T = TypeVar("T")
EXIT_ERROR = 1


@dataclass(frozen=True)
class Place:
    """A flyball.toml, the folder it stands in, and the state folder that belongs to it."""

    settings: Settings
    root: Path
    state: Path

    @property
    def folder(self) -> Folder:
        from controller.recording import Folder  # noqa: PLC0415 - `--help` need not load the house

        return Folder(self.state)


def place(repo: Path | None, state: Path | None) -> Place:
    """Look for flyball.toml in `repo` (or here, or above), and for the state beside it unless `state` is given."""
    if state is not None and (state / FILE).is_file():  # a demo keeps its own settings in its state folder
        return Place(load(state / FILE), state, state)
    if state is not None and repo is None and (state.resolve().parent / FILE).is_file():
        repo = state.resolve().parent
    root = repo.resolve() if repo else _upwards(Path.cwd())
    return Place(load(root / FILE), root, state or root / STATE)


def place_without_file(repo: Path, state: Path | None) -> Place:
    """As `place`, but a repository without flyball.toml gets the defaults."""
    root = repo.resolve()
    if (root / FILE).is_file():
        return Place(load(root / FILE), root, state or root / STATE)
    settings = parse({"repository": {"branch": current_branch(root)}})
    return Place(settings, root, state or root / STATE)


def current_branch(repository: Path) -> str:
    """The branch that is checked out, or "main" where that cannot be told: the import says what is wrong."""
    asked = ["git", "-C", str(repository), "symbolic-ref", "--quiet", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "main"


def _upwards(start: Path) -> Path:
    found = next((folder for folder in (start, *start.parents) if (folder / FILE).is_file()), None)
    if found is None:
        raise ConfigError(
            f"there is no {FILE} here or above {start}",
            "Write one with: flyball init, or name a state folder with --dir",
        )
    return found


@contextmanager
def reading(found: Place) -> Iterator[Record]:
    """The record of a state folder that must exist."""
    from controller.recording import open_record  # noqa: PLC0415

    if not found.settings.ledger.postgres_env and not found.folder.log.is_file():
        raise ConfigError(f"there is no log in {found.state}", "Begin with: flyball run, or flyball serve")
    record = open_record(found.folder, found.settings, found.root)
    try:
        yield record
    finally:
        record.close()


def person() -> str:
    """Who sits at this terminal, as the operating system knows them."""
    return getpass.getuser()


def event_id() -> str:
    return f"cli-{secrets.token_hex(8)}"


def run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("\nStopped. What had begun stands in the log and goes on next time.", err=True)
        sys.exit(130)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=str, indent=2))


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option(
        "--dir",
        "state",
        type=click.Path(path_type=Path, file_okay=False),
        help="State folder. Default: .flyball beside flyball.toml.",
    )
    return option(command)


def repo_option(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option(
        "--repo",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Repository. Default: here, or the nearest folder above with a flyball.toml.",
    )
    return option(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="JSON on standard output, for scripts.")(command)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Flyball's own errors are sentences with a way out, not tracebacks."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FlyballError as error:
            click.secho(f"flyball: {error.message}", fg="red", err=True)
            if error.way_out:
                click.echo(f"  {error.way_out}", err=True)
            sys.exit(EXIT_ERROR)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return wrapped
