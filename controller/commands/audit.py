"""For whoever reviews: find entries, read one, take evidence away, and check evidence without Flyball."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
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
from controller.errors import ConfigError, Refused

if TYPE_CHECKING:
    from controller.compliance.bundle import Standing
    from controller.compliance.export import Exported
    from controller.domain.entry import Entry
    from controller.domain.sealed import Sealed
    from controller.ledger.tiles import TreeReader
    from controller.metrics.audit_index import AuditIndex
    from controller.metrics.audit_query import Answer
    from controller.ports import Seals
    from controller.recording import Record

INDEX = "audit-index.db"  # in the state folder; may be deleted at any time
FACETS = (
    ("agent", "A role, such as author."),
    ("session", "A session, such as shop-8a1c44/1."),
    ("client", "A program outside."),
    ("model", "A model, by its full name."),
    ("prompt", "A prompt's digest."),
    ("feature", "A feature, as the request names it."),
    ("repository", "A repository."),
    ("delivery", "A delivery."),
    ("service", "A service."),
    ("tool", "A tool or an effect's verb, such as forge.push."),
    ("kind", "A kind of entry, such as Merged."),
    ("colour", "green, yellow or red."),
    ("person", "A person's pseudonym."),
    ("commit", "A commit, by its full id."),
)


@dataclass(frozen=True)
class Shelf:
    """What every command here reads: the log as it stands now, its index, and the record for opening text."""

    found: Place
    record: Record
    tree: TreeReader
    index: AuditIndex


@contextmanager
def shelf(found: Place) -> Iterator[Shelf]:
    """The index has caught up with the log."""
    from controller.metrics.audit_index import AuditIndex  # noqa: PLC0415 - `--help` need not load the house
    from controller.service.signing import plan_of  # noqa: PLC0415

    plan = plan_of(found.state, found.settings.ledger)
    with reading(found) as record, plan.tree() as tree:
        index = AuditIndex(found.state / INDEX)
        try:
            index.catch_up(tree)
            yield Shelf(found, record, tree, index)
        finally:
            index.close()


@click.group(help="For reviewers: search the log, read an entry, export evidence, and verify it without Flyball.")
def audit() -> None: ...


def _facet_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in reversed(FACETS):
        command = click.option(f"--{name}", multiple=True, help=text)(command)
    return command


# --- search -----------------------------------------------------------------------------------------------------------


@audit.command(
    help="Find entries. All that is asked for must hold; of one option given twice, either. An entry also has what its "
    "stream has said before: a landing has the model that wrote the change.\n\n"
    "With --kind Merged --model MODEL --since 30d: every change by a model in 30 days."
)
@_facet_options
@click.option("--text", default="", help="Words of a reason in clear, all of them. Sealed text is not searched.")
@click.option("--since", help="30d, 12h, 2026-11-22 or 2026-11-22T09:30 (UTC).")
@click.option("--until", help="As --since; itself not included.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="Entries on a page.")
@click.option("--before", type=int, help="The next page: entries before this index.")
@repo_option
@state_option
@json_option
@guarded
def search(
    *,
    text: str,
    since: str | None,
    until: str | None,
    limit: int,
    before: int | None,
    repo: Path | None,
    state: Path | None,
    as_json: bool,
    **facets: tuple[str, ...],
) -> None:
    from controller.metrics.audit_facets import Facet  # noqa: PLC0415
    from controller.metrics.audit_query import Question, ask, time_of  # noqa: PLC0415

    now = datetime.now(UTC)
    where = {Facet(name): values for name, values in facets.items() if values}
    times = {name: time_of(said, now) for name, said in (("since", since), ("until", until)) if said}
    question = Question(where, text, times.get("since"), times.get("until"), before, limit)
    with shelf(place(repo, state)) as opened:
        answer = ask(opened.index, opened.tree, question)
        run(_print_hits(opened, answer, as_json=as_json))


async def _print_hits(opened: Shelf, answer: Answer, *, as_json: bool) -> None:
    entries = [_entry(opened, index) for index in answer.hits]
    words = await _words(entries, Closed())
    if as_json:
        rows = [_row(entry, words[entry.index]) for entry in entries]
        print_json({"total": answer.total, "before": answer.before, "entries": rows})
        return
    for entry in entries:
        click.echo(_line(entry, words[entry.index]))
    click.echo(f"{len(entries)} of {answer.total}" + (f"; next: --before {answer.before}" if answer.before else ""))


# --- show -------------------------------------------------------------------------------------------------------------


@audit.command(help="One entry in words: its envelope, its decision with reasons and evidence, and where to read on.")
@click.argument("index", type=int)
@click.option("--open", "opening", is_flag=True, help="Open sealed text. That you read it is written into the log.")
@repo_option
@state_option
@json_option
@guarded
def show(*, index: int, opening: bool, repo: Path | None, state: Path | None, as_json: bool) -> None:
    with shelf(place(repo, state)) as opened:
        run(_show(opened, index, opening=opening, as_json=as_json))


async def _show(opened: Shelf, index: int, *, opening: bool, as_json: bool) -> None:
    from controller.compliance.gathering import neighbours  # noqa: PLC0415
    from controller.ledger.merkle import leaf_hash  # noqa: PLC0415
    from controller.terminal.audit import entry_lines, sealed_lines  # noqa: PLC0415

    entry = _entry(opened, index)
    links = list(neighbours(entry, await opened.record.log.read(entry.stream)))
    seals = _readers_seals(opened, [entry]) if opening else Closed()
    words = (await _words([entry], seals))[index]
    texts = await sealed_lines(entry, seals) if opening else {}
    if as_json:
        found = {"leaf_hash": leaf_hash(entry.leaf).hex(), "links": [[link.what, link.where] for link in links]}
        print_json(_row(entry, words) | found | ({"opened": texts} if opening else {}))
        return
    click.echo("\n".join(entry_lines(entry, words, leaf_hash(entry.leaf).hex(), links, texts)))


# --- evidence ---------------------------------------------------------------------------------------------------------


@audit.command(
    help="Write evidence to a new folder: the entries of a window or about one delivery, the list of changes, and what "
    "it takes to verify them with nothing but Python and `cryptography`."
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--from", "start", help="An index, or a time as --since of search. Default: the beginning.")
@click.option("--to", "stop", help="As --from; itself not included. Default: the last signed entry.")
@click.option("--delivery", help="Everything about this delivery instead of a window.")
@click.option("--after", type=click.Path(path_type=Path, exists=True), help="An earlier export: prove growth from it.")
@repo_option
@state_option
@json_option
@guarded
def export(
    *,
    folder: Path,
    start: str | None,
    stop: str | None,
    delivery: str | None,
    after: Path | None,
    repo: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    from controller.compliance.export import export_chosen, export_window, size_of  # noqa: PLC0415
    from controller.compliance.gathering import about, delivery_of  # noqa: PLC0415

    now = datetime.now(UTC)
    with shelf(place(repo, state)) as opened:
        standing = _standing(opened)
        if delivery is not None:
            chosen = about(opened.index, opened.tree, delivery_of(opened.index, opened.tree, delivery))
            done = export_chosen(opened.tree, standing, chosen, folder=folder, made_at=now)
        else:
            window = range(_place(opened, start, 0), _place(opened, stop, opened.tree.size()))
            earlier = size_of(after) if after else 0
            done = export_window(opened.tree, standing, window, folder=folder, made_at=now, earlier=earlier)
    _print_done(done, as_json=as_json)


@audit.command(
    help="One folder and one page (index.html) about a change, by its delivery or its commit: entries with receipts, "
    "diff, tests, deployment, verdicts with their counts and plots, attestation, decisions with reasons, people's acts."
)
@click.argument("change")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--open", "opening", is_flag=True, help="Open what was said and printed. That is written into the log.")
@repo_option
@state_option
@json_option
@guarded
def packet(
    *,
    change: str,
    folder: Path,
    opening: bool,
    repo: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    with shelf(place(repo, state)) as opened:
        done = run(_packet(opened, change, folder, _standing(opened), opening=opening))
    _print_done(done, as_json=as_json)


async def _packet(opened: Shelf, change: str, folder: Path, standing: Standing, *, opening: bool) -> Exported:
    from controller.compliance import surroundings  # noqa: PLC0415
    from controller.compliance.gathering import about, delivery_of  # noqa: PLC0415
    from controller.compliance.judged import judged_of  # noqa: PLC0415
    from controller.compliance.packet import Beside, write_packet  # noqa: PLC0415

    chosen = about(opened.index, opened.tree, delivery_of(opened.index, opened.tree, change))
    entries = [_entry(opened, index) for index in chosen.indices]
    leaves = [entry.leaf for entry in entries]
    seals = _readers_seals(opened, entries) if opening else Closed()
    forge, signed = opened.found.folder.forge, [one for one in entries if one.index < standing.checkpoint.size]
    beside = Beside(
        words=await _words(entries, seals),
        diff=await surroundings.diff_of(forge, leaves),
        attestation=await surroundings.attestation_of(forge, leaves),
        blobs=await surroundings.blobs_of(opened.record.blobs, leaves),
        opened=await surroundings.opened_logs(seals, leaves) if opening else {},
        judged=await judged_of(opened.record.log, opened.record.blobs, signed),
    )
    return write_packet(opened.tree, standing, chosen, beside, folder=folder, made_at=datetime.now(UTC))


@audit.command(
    context_settings={"ignore_unknown_options": True},
    help="Check an export or a packet, offline, as the verify.py in it does: audit verify FOLDER --key VKEY "
    "[--witness VKEY] [--earlier FOLDER]. Exit 0: proven, 1: something is wrong, 2: it cannot be checked.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def verify(arguments: tuple[str, ...]) -> None:
    from controller.compliance.verify_alone import main  # noqa: PLC0415

    sys.exit(main(list(arguments)))


# --- what they share --------------------------------------------------------------------------------------------------


class Closed:
    """Seals that open nothing: a reviewer sees that there is a text, and how long it is."""

    async def open(self, sealed: Sealed) -> str:
        return f"(sealed, {sealed.size} bytes)"

    async def seal(self, text: str, *, subject: str | None = None) -> Sealed:
        del text, subject
        raise Refused("a reviewer seals nothing")

    def pseudonym(self, person: str) -> str:
        del person
        raise Refused("a reviewer names nobody")


def _entry(opened: Shelf, index: int) -> Entry:
    from controller.ledger.writer import entry_of  # noqa: PLC0415

    try:
        return entry_of(index, opened.tree.leaf(index))
    except IndexError as error:
        raise ConfigError(f"the log has no entry {index}", f"It has {opened.tree.size()}, from 0 on") from error


async def _words(entries: list[Entry], seals: Seals) -> dict[int, str]:
    """Each as a sentence; empty where a person watching would hear nothing."""
    from controller.terminal.words import line_of, plain  # noqa: PLC0415

    found = {}
    for entry in entries:
        line, decision = await line_of(entry, seals), getattr(entry.event, "decision", None)
        told = ": ".join(filter(None, (line.text, line.detail))) if line else ""
        found[entry.index] = plain(told or (f"{decision.question} {decision.choice}" if decision else ""))
    return found


def _readers_seals(opened: Shelf, entries: list[Entry]) -> Seals:
    """Seals whose every opening is an entry by whoever sits here."""
    from controller.domain.ids import Digest  # noqa: PLC0415
    from controller.reading import Reading  # noqa: PLC0415
    from controller.recording import standing_of  # noqa: PLC0415

    record = opened.record
    standing = standing_of(opened.found.settings, record.rules, Digest(record.authority.digest))
    return Reading(log=record.log, seals=record.seals, standing=standing).seals_for(person(), entries)


def _standing(opened: Shelf) -> Standing:
    from controller.compliance.bundle import standing_of  # noqa: PLC0415
    from controller.service.signing import plan_of, publication_of  # noqa: PLC0415

    plan = plan_of(opened.found.state, opened.found.settings.ledger)
    witnesses = tuple(key for one in plan.witnesses for key in one.keys)
    return standing_of(opened.tree, publication_of(plan), witnesses)


def _place(opened: Shelf, said: str | None, default: int) -> int:
    from controller.metrics.audit_query import place_at, time_of  # noqa: PLC0415

    if said is None:
        return default
    return int(said) if said.isdigit() else place_at(opened.tree, time_of(said, datetime.now(UTC)))


def _row(entry: Entry, words: str) -> dict[str, Any]:
    from controller.terminal.screen import as_json as entry_json  # noqa: PLC0415

    return entry_json(entry, None) | {"line": words or None}


def _line(entry: Entry, words: str) -> str:
    from controller.terminal.words import plain  # noqa: PLC0415

    return plain(f"#{entry.index:<7} {entry.time:%Y-%m-%d %H:%M:%S}  {entry.kind:<18} {entry.stream}  {words}").rstrip()


def _print_done(done: Exported, *, as_json: bool) -> None:
    said = done.standing
    if as_json:
        found = {"folder": str(done.folder), "entries": done.entries, "changes": done.changes}
        print_json(found | {"size": said.checkpoint.size, "root": said.checkpoint.root.hex(), "standing": said.words})
        return
    click.echo(f"{done.entries} entries and {done.changes} changes are in {done.folder}.")
    click.echo(f"They speak of the log at {said.checkpoint.size} entries, root {said.checkpoint.root.hex()}.")
    click.secho(said.words, fg=None if said.words.startswith("witnessed") else "yellow")
    click.echo(f"Check them: python {done.folder}/verify.py {done.folder} --key KEY   (see README.txt there)")
