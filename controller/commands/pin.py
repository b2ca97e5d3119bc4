"""Looking at another MCP server before agents do: what it offers, what has changed, and the lines that let it in.

flyball.toml holds a digest of each definition, not its words. What somebody has looked at here is therefore kept beside
the log, under its digest, so that the next look can say what is different; deleting it costs only that.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import Place, guarded, json_option, place, print_json, repo_option, run, state_option
from controller.domain.ids import Digest, digest_of
from controller.errors import ConfigError, FlyballError
from controller.settings import MountedTool, MountSection

if TYPE_CHECKING:
    from controller.adapters.mounts import Definition

EXIT_CHANGED = 4
MAX_SHOWN = 2_000  # characters of a text that is shown
_WORDS = ("title", "description")
_FIELDS = ("name", *_WORDS, "input_schema", "output_schema", "annotations")


@dataclass(frozen=True)
class Look:
    """One tool of the server, against what flyball.toml says of it."""

    tool: str
    state: str  # "new", "same", "changed" or "gone"
    digest: str  # "": gone
    pinned: str  # "": nobody has pinned it
    says: str
    changes: tuple[str, ...]  # empty: new, same or gone
    unusable: str  # "": it can be used
    toml: str  # the lines to paste; "": none


@click.command(help="Look at a mounted MCP server, and print the lines of flyball.toml that pin its tools.")
@click.argument("name")
@repo_option
@state_option
@json_option
@guarded
def pin(name: str, repo: Path | None, state: Path | None, as_json: bool) -> None:
    """Lists the tools of [gateway.mounts.NAME]. Exit code 4: a pinned tool has changed or is gone."""
    found = place(repo, state)
    section = found.settings.gateway.mounts.get(name)
    if section is None:
        known = ", ".join(sorted(found.settings.gateway.mounts)) or "none"
        raise ConfigError(
            f"no server is mounted as {name!r}; there are: {known}", "Add [gateway.mounts.NAME] with a url"
        )
    offered = run(_offered(name, section))
    looks = list(_looks(name, section, offered, _Seen(found, name)))
    if as_json:
        print_json({"mount": name, "tools": [asdict(look) for look in looks]})
    else:
        _print(name, looks)
    if any(look.state in ("changed", "gone") for look in looks):
        sys.exit(EXIT_CHANGED)


async def _offered(name: str, section: MountSection) -> dict[str, Definition]:
    from controller.adapters.mount_wire import endpoint  # noqa: PLC0415 - `--help` need not load the house
    from controller.adapters.mounts import Mount  # noqa: PLC0415
    from tools.mounts import catalogue_of  # noqa: PLC0415

    catalogue_of({name: section})
    mount = Mount(name, section.model_copy(update={"tools": {}}), endpoint(name, section, os.environ.get))
    await mount.open()
    try:
        return {one.name: one for one in await mount.definitions()}
    finally:
        await mount.close()


def _looks(name: str, section: MountSection, offered: Mapping[str, Definition], seen: _Seen) -> Iterator[Look]:
    for tool in sorted(offered.keys() | section.tools.keys()):
        pinned, now = section.tools.get(tool), offered.get(tool)
        if now is None:
            yield Look(_shown(tool), "gone", "", pinned.digest if pinned else "", "", (), "", "")
            continue
        state = "new" if pinned is None else "same" if pinned.digest == now.digest else "changed"
        changes = _changes(seen.fields(pinned.digest), _fields(now)) if pinned and state == "changed" else ()
        unusable = _unusable(name, now)
        toml = "" if state == "same" or unusable else _toml(name, now, pinned)
        seen.keep(now)
        yield Look(
            _shown(tool), state, now.digest, pinned.digest if pinned else "", _said(now), changes, unusable, toml
        )


def _unusable(mount: str, tool: Definition) -> str:
    from tools.mounts import catalogue_of, described  # noqa: PLC0415

    try:
        fresh = MountedTool(digest=tool.digest)
        catalogue_of({mount: MountSection(url="https://nowhere", tools={tool.name: fresh})})
        described(mount, tool, fresh)
    except FlyballError as why:
        return _shown(why.message)
    return ""


def _toml(mount: str, tool: Definition, pinned: MountedTool | None) -> str:
    """What somebody has decided of a tool stays; of a new one the careful answer stands, to be changed by hand."""
    kept = pinned or MountedTool(digest=tool.digest)
    lines = kept.model_copy(update={"digest": tool.digest}).model_dump()
    return "\n".join(
        [
            f"[gateway.mounts.{mount}.tools.{tool.name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in lines.items()),
        ]
    )


# --- what is different ------------------------------------------------------------------------------------------------


def _changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> tuple[str, ...]:
    if before is None:
        return ("what was pinned has not been looked at from here, so only the present words can be shown",)
    return (
        *_value_changes("its", {key: before[key] for key in _WORDS}, {key: now[key] for key in _WORDS}),
        *_schema_changes("argument", before["input_schema"], now["input_schema"]),
        *_schema_changes("result", before["output_schema"] or {}, now["output_schema"] or {}),
        *_value_changes("annotation", before["annotations"], now["annotations"]),
    )


def _schema_changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    yield from _value_changes(what, before.get("properties", {}), now.get("properties", {}))
    for key in sorted((before.keys() | now.keys()) - {"properties"}):
        if before.get(key) != now.get(key):
            yield f"{what}s: {_shown(key)} was {_brief(before.get(key))}, is {_brief(now.get(key))}"


def _value_changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        if key not in before:
            yield f"{what} {_shown(key)} is new: {_brief(now[key])}"
        elif key not in now:
            yield f"{what} {_shown(key)} is gone"
        elif before[key] != now[key]:
            yield f"{what} {_shown(key)} was {_brief(before[key])}, is {_brief(now[key])}"


def _brief(value: Any) -> str:
    return _shown(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _said(tool: Definition) -> str:
    from tools.mount_schema import unseen  # noqa: PLC0415

    hidden = unseen(json.dumps(_fields(tool), ensure_ascii=False))
    note = f" [it also has {hidden} characters that nobody sees]" if hidden else ""
    return _shown(tool.description) + note


def _shown(text: str) -> str:
    """For a terminal: nothing in it moves the cursor or hides."""
    from tools.mount_schema import plain  # noqa: PLC0415

    return plain(text)[:MAX_SHOWN]


def _fields(tool: Definition) -> dict[str, Any]:
    return {name: getattr(tool, name) for name in _FIELDS}


class _Seen:
    """Definitions that were looked at from this state folder, each under its digest, which is checked on reading."""

    def __init__(self, found: Place, mount: str) -> None:
        self._folder = found.state / "mounts" / mount

    def keep(self, tool: Definition) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path(tool.digest).write_text(json.dumps(_fields(tool), sort_keys=True))
        except OSError as error:
            raise ConfigError(f"{self._folder} cannot be written: {error.strerror}", "Choose another --dir") from error

    def fields(self, digest: str) -> dict[str, Any] | None:
        """None: nobody has looked at it from here, or the file is not what it was."""
        try:
            found = json.loads(self._path(Digest(digest)).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and digest_of(found) == digest else None

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{''.join(c for c in digest.removeprefix('sha256:') if c.isalnum())[:64]}.json"


# --- on the terminal --------------------------------------------------------------------------------------------------


def _print(name: str, looks: list[Look]) -> None:
    click.echo(
        f"{name} offers {sum(look.state != 'gone' for look in looks)} tools. Unpinned ones do not exist for agents."
    )
    for look in looks:
        click.echo(f"\n{look.tool}: {look.state}")
        if look.state in ("new", "changed"):
            click.echo(f"  it says: {look.says}")
        for change in look.changes:
            click.echo(f"  {change}")
        if look.unusable:
            click.echo(f"  cannot be used: {look.unusable}")
    lines = [look.toml for look in looks if look.toml]
    if lines:
        click.echo("\nRead the words above as a model would. What you trust goes into flyball.toml, then restart:\n")
        click.echo("\n\n".join(lines))
