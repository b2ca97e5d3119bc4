"""Permissions on a terminal, for reviewers who need not be engineers: plain lines, aligned, 100 columns wide."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from controller.metrics.permissions import PermissionReport, ToolUse
from controller.metrics.proposals import Proposal
from controller.terminal.words import plain
from rbac.cases import Outcome
from rbac.compare import Change, Comparison
from rbac.explain import Explanation
from rbac.model import Request
from rbac.trimming import LineChange
from rbac.witnesses import Circumstance
from rbac.words import Permission

WIDTH = 100
SHOWN_OF_A_RUN = 6  # lines
HANG = 6  # columns by which what continues a line stands further in
Lines = Iterator[str]


def wrapped(text: str, indent: int = 0) -> list[str]:
    lead = " " * indent
    return textwrap.wrap(
        plain(text), WIDTH, initial_indent=lead, subsequent_indent=lead + "  ", break_on_hyphens=False
    ) or [""]


def titled(title: str) -> Lines:
    yield ""
    yield title
    yield "-" * min(len(title), WIDTH)


def columns(rows: Sequence[Sequence[str]], *, indent: int = 2) -> Lines:
    """Every column as wide as its widest cell; the last one wraps under itself."""
    if not rows:
        return
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    start = indent + sum(width + 2 for width in widths)
    for row in rows:
        lead = " " * indent + "".join(cell.ljust(width) + "  " for cell, width in zip(row, widths, strict=False))
        room = max(WIDTH - start, 30)
        last = textwrap.wrap(plain(row[-1]), room, break_on_hyphens=False) or [""]
        yield (lead + last[0]).rstrip()
        yield from (" " * start + more for more in last[1:])


# --- check ------------------------------------------------------------------------------------------------------------


def check_lines(asked: Request, found: Explanation, about: str) -> Lines:
    """`about`: which repositories and rules the answer is for."""
    answer = found.decision
    yield f"{'ALLOWED' if answer.allowed else 'REFUSED'}  {plain(asked.agent)}: {plain(asked.tool)}"
    yield from wrapped(answer.reason, 2)
    yield ""
    yield from columns(list(_check_rows(found)))
    facts = found.question["context"] if found.question else {}
    yield from titled("What the rules were told of this call")
    rows = [(name.replace("_", " "), _value(value)) for name, value in sorted(facts.items())]
    yield from columns(rows or [("nothing", "it was refused before any rule was asked")])
    yield ""
    yield from wrapped(about)


def _check_rows(found: Explanation) -> Iterator[tuple[str, str]]:
    yield "decided by", ", ".join(found.decision.rules)
    yield "grant", f"{found.grant}, in rbac/{found.granted_at}" if found.grant else "none could cover it"
    for forbid in found.forbids:
        yield "forbidden by", f"{forbid.policy}, in rbac/{forbid.place}: {forbid.why}".removesuffix(": ")
    for permit in found.permits:
        if permit.allows:
            yield "permitted by", f"{permit.policy}, in rbac/{permit.place}: {permit.why}".removesuffix(": ")
        elif permit.fell_short:
            yield "not permitted by", f"{permit.policy}: {', '.join(permit.fell_short)}"
    for link in found.chain:
        verdict = "may" if link.decision.allowed else "may not"
        yield "lent by", f"{link.grant or 'a role without a grant for it'}, which {verdict}: {link.decision.reason}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case {"__entity": {"id": str(name)}}:
            return name
        case _:
            return str(value)


# --- diff -------------------------------------------------------------------------------------------------------------


def comparison_lines(found: Comparison, about: str) -> Lines:
    if found.before == found.after:
        yield "The two are the same, to the letter."
        return
    if found.same_permissions:
        yield "No agent gains or loses anything that was asked about."
    yield from _changes("Gains: allowed afterwards, and not before", found.gains, "which it did not have at all")
    yield from _changes("Losses: allowed before, and not afterwards", found.losses, "altogether")
    yield from titled("Files")
    yield from columns([(one.file, one.how, str(one.effect)) for one in found.files])
    yield ""
    for side in found.grants_only:
        yield from wrapped(
            f"The policies on the side of {side.upper()} were written for another Flyball. Of that side only the grants"
            " were compared, under the policies of this one."
        )
    yield from wrapped(
        f"Each side was asked about {found.asked:,} calls; {found.gained_calls:,} are gained,"
        f" {found.lost_calls:,} lost. {about}"
    )


def _changes(title: str, changes: tuple[Change, ...], whole_tool: str) -> Lines:
    if not changes:
        return
    yield from titled(title)
    for (agent, about, whole), tools in _alike(changes).items():
        yield from wrapped(f"{agent}: {', '.join(tools)}{f', {whole_tool}' if whole else ''}", 2)
        yield from columns(
            [row for row in zip(("where", "when", "for example"), about, strict=True) if row[1]], indent=HANG
        )


def _alike(changes: Iterable[Change]) -> dict[tuple[str, tuple[str, str, str], bool], list[str]]:
    """Tools of one role with the same places stand together."""
    found: dict[tuple[str, tuple[str, str, str], bool], list[str]] = {}
    for one in changes:
        about = (", ".join(one.where), "" if one.whole else _when(one), one.examples[0])
        found.setdefault((one.agent, about, one.whole), []).append(one.tool)
    return found


def _when(change: Change) -> str:
    if Circumstance.ORDINARY in change.circumstances:
        return str(Circumstance.ORDINARY)
    return "only " + "; ".join(change.circumstances)


# --- report -----------------------------------------------------------------------------------------------------------


def report_lines(report: PermissionReport, reached: Sequence[Permission], about: str) -> Lines:
    yield from wrapped(_period(report))
    for role in sorted({row.role for row in report.rows}):
        yield from titled(role)
        for one in (permission for permission in reached if permission.agent == role):
            yield from wrapped(f"may {', '.join(one.tools)}: {one.where}", 2)
        yield ""
        header = ("tool", "used", "last used", "refused", "")
        rows = [_row(row, report) for row in report.rows if row.role == role]
        yield from columns([header, *rows])
    yield from _drops(report)
    yield ""
    yield from wrapped(about)


def _period(report: PermissionReport) -> str:
    if report.since is None:
        return "The log is empty, so every tool looks unused. Nothing follows from that yet."
    text = f"Looked at the {report.days} days before {report.as_of:%Y-%m-%d %H:%M} UTC."
    if report.young:
        age = report.as_of - report.since
        text += (
            f" The log is younger than that: it begins on {report.since:%Y-%m-%d %H:%M} UTC, {age.days} days and"
            f" {age.seconds // 3600} hours before. So `unused` means unused since then, and may be too early to judge."
        )
    if report.unattributed:
        text += f" {report.unattributed} calls are left out: who made them is not known any more."
    return text


def _row(row: ToolUse, report: PermissionReport) -> tuple[str, str, str, str, str]:
    last = f"{row.last:%Y-%m-%d %H:%M}" if row.last else "never"
    refused = _times(row.refused)
    return row.tool, _times(row.times), last, refused, "; ".join(_remarks(row, report))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times" if count else "-"


def _remarks(row: ToolUse, report: PermissionReport) -> Iterator[str]:
    if row.grant is None:
        yield "NOT GRANTED"
    elif row.unused and row.kept:
        yield f"unused, and kept: {row.kept}"
    elif row.unused:
        yield "UNUSED" if not report.young else "unused so far"
    if row.refused_by:
        yield "refused by " + ", ".join(f"{rule} ({count})" for rule, count in row.refused_by[:3])


def _drops(report: PermissionReport) -> Lines:
    yield from titled("What could be dropped")
    if not report.drops:
        yield "  Nothing: every tool that is granted was used, or is kept for the reason that stands beside it."
        return
    yield from wrapped("These lines of the grants (- as they are, + as they would be) give tools that nobody used:", 2)
    for file in dict.fromkeys(change.file for change in report.drops):
        changes = [change for change in report.drops if change.file == file]
        if changes[0].line == 1:
            yield f"  rbac/{file}: all of it, so the file itself"
        else:
            yield f"  rbac/{file}"
            yield from _line_changes(changes)
    yield from wrapped("Try it first: copy rbac/ to a folder, delete the lines there, and ask `flyball rbac diff`.", 2)


def _line_changes(changes: Sequence[LineChange]) -> Lines:
    """A long run of lines that go is shown by its ends."""
    runs: list[list[LineChange]] = []
    for change in changes:
        follows = runs and change.line == runs[-1][-1].line + 1 and change.new is None is runs[-1][-1].new
        runs = [*runs[:-1], [*runs[-1], change]] if follows else [*runs, [change]]
    for one in runs:
        long = len(one) > SHOWN_OF_A_RUN
        for change in one[:2] if long else one:
            yield f"    - {change.line:4} | {plain(change.old)}"
            if change.new is not None:
                yield f"    + {change.line:4} | {plain(change.new)}"
        if long:
            yield f"      ...  | and every line down to {one[-1].line}"


# --- test -------------------------------------------------------------------------------------------------------------


def outcome_lines(found: Outcome) -> Lines:
    for one in found.failures:
        yield f"FAILED  {one.file}:{one.line}  {plain(one.name)}"
        got = f"{'allow' if one.got.allowed else 'refuse'} by {', '.join(one.got.rules)}"
        yield from columns([("expected", one.expected), ("got", got), ("because", one.got.reason)], indent=HANG)
    yield f"{found.passed} policy tests passed, {len(found.failures)} failed."


# --- proposals --------------------------------------------------------------------------------------------------------


def proposal_lines(found: Sequence[Proposal]) -> Lines:
    if not found:
        yield "No agent has proposed a change of the rules."
        return
    header = ("id", "proposed (UTC)", "by", "gains", "losses", "tests failed", "file")
    rows = [
        (
            one.id,
            f"{one.at:%Y-%m-%d %H:%M}",
            one.agent,
            f"{one.gains}",
            f"{one.losses}",
            f"{one.cases_failed}",
            one.file,
        )
        for one in found
    ]
    yield from columns([header, *rows], indent=0)
    yield ""
    yield "None of them is in force. One of them: flyball rbac proposal ID"


def one_proposal_lines(one: Proposal, why: str, text: str, file: Path, *, stale: bool) -> Lines:
    """`file` is the one in force that it would replace. `stale`: the rules have changed since it was made."""
    yield f"Proposal {one.id}: another rbac/{one.file}"
    yield ""
    yield from columns(
        [
            ("proposed", f"{one.at:%Y-%m-%d %H:%M} UTC by {one.agent}, session {one.session}"),
            ("on behalf of", one.on_behalf_of or "itself"),
            ("would gain", f"{one.gains} of the calls that were asked about"),
            ("would lose", f"{one.losses} of them"),
            ("policy tests", f"{one.cases_failed} would fail"),
            ("why, in its words", why),
        ]
    )
    if stale:
        yield from wrapped("The rules have changed since: its gains and losses are against former ones.", 2)
    yield from titled("What would change in the file")
    before = file.read_text().splitlines() if file.is_file() else []
    changes = list(difflib.unified_diff(before, text.splitlines(), "in force", "proposed", lineterm="", n=1))
    yield from (f"  {plain(line)}" for line in changes or ["nothing: the file in force says the same"])
    yield from titled("To adopt it")
    yield from wrapped("It changes nothing by itself. Put the changed file into a copy of the rules and look:", 2)
    yield "    cp -r rbac /tmp/proposed     # then edit the file there as shown above"
    yield "    flyball rbac diff rbac /tmp/proposed"
    yield "    flyball rbac test --rules /tmp/proposed"
    yield from wrapped("Then change the file in rbac/ by a reviewed commit, and start the controller again.", 2)
