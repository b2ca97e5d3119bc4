"""`flyball blame-ai`: line by line, a person or an agent, and where in the log to read why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import guarded, json_option, place, print_json, repo_option, state_option
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.adapters.git_store import Store
    from controller.domain.ids import Repository
    from controller.provenance.blame import Row, Summary

COMMIT_DIGITS = 8
PERCENT = 100


@click.command("blame-ai", help="Who wrote each line of a file, a person or an agent, and a summary of the file.")
@click.argument("path")
@click.option("--rev", default=None, help="Commit, branch or tag. Default: the branch that changes land on.")
@repo_option
@state_option
@json_option
@guarded
def blame_ai(path: str, rev: str | None, repo: Path | None, state: Path | None, as_json: bool) -> None:
    from controller.adapters.git_blame import blamed  # noqa: PLC0415 - `--help` need not load the house
    from controller.adapters.git_store import Store  # noqa: PLC0415
    from controller.provenance.blame import summary  # noqa: PLC0415

    found = place(repo, state)
    configured = found.settings.configured(found.root)
    store = Store(found.folder.forge)
    _must_have(store, configured.name, found.state)
    rows = blamed(store, configured.name, rev or configured.branch, path)
    if as_json:
        print_json({"path": path, "lines": [_row(row) for row in rows], "summary": _summary(summary(rows))})
        return
    _print(rows, summary(rows))


def _must_have(store: Store, name: Repository, state: Path) -> None:
    if not store.exists(name):
        raise ConfigError(f"there is no repository {name} in {state}", "Begin with: flyball run, or flyball serve")


def _row(row: Row) -> dict[str, Any]:
    wrote = row.wrote
    return {
        "line": row.line.number,
        "text": row.line.text,
        "commit": row.line.commit,
        "who": row.who.value,
        "rests_on": row.rests_on.value,
        "agent": wrote.agent if wrote else None,
        "model": wrote.model if wrote else None,
        "session": wrote.session if wrote else None,
        "delivery": wrote.delivery if wrote else None,
        "log_entry": wrote.audit_entry if wrote else None,
    }


def _summary(found: Summary) -> dict[str, Any]:
    return {
        "lines": found.lines,
        "agent_lines": found.agent_lines,
        "by_model": dict(found.by_model),
        "by_session": dict(found.by_session),
    }


def _print(rows: list[Row], found: Summary) -> None:
    from controller.terminal.words import plain  # noqa: PLC0415

    heads = [_head(row) for row in rows]
    width = max((len(head) for head in heads), default=0)
    for head, row in zip(heads, rows, strict=True):
        click.echo(plain(f"{head:<{width}} {row.line.number:>5}  {row.line.text}"))
    share = found.agent_lines * PERCENT // found.lines if found.lines else 0
    click.echo(f"\n{found.lines} lines, {found.agent_lines} of them by agents ({share} %)")
    for model, lines in found.by_model:
        click.echo(plain(f"  {lines:>5}  {model}"))


def _head(row: Row) -> str:
    """Commit, who, model, session, place in the log; a star where it rests on the commit's own word."""
    commit = row.line.commit[:COMMIT_DIGITS]
    if row.wrote is None:
        return f"{commit} person"
    index = row.wrote.audit_entry.rpartition("#")[2]
    star = "*" if row.rests_on.value == "trailers" else ""
    place_in_log = f" log#{index}" if index else ""
    return f"{commit} agent{star} {row.wrote.model} {row.wrote.session}{place_in_log}"
