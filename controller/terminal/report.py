"""Tables and stories for the terminal: the state of everything, a delivery's way with its reasons, the log's proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from controller.domain import events as e
from controller.domain.decision import Decision
from controller.domain.delivery import TERMINAL, Delivery, Phase
from controller.domain.entry import Entry
from controller.domain.guards import ControlRow
from controller.domain.ids import MicroUsd
from controller.domain.money import usd
from controller.ledger.alarms import Alarm
from controller.ledger.verify import Report
from controller.metrics.deliveries import Record, Recovery, Spent, phase_times, recoveries, total_ms
from controller.ports import Head, Seals
from controller.provenance.trailers import title_of
from controller.terminal.evidence import evidence_lines
from controller.terminal.fact_lines import fact_lines
from controller.terminal.screen import MARK, STYLE
from controller.terminal.words import line_of, opened, shown

PHASE_STYLE = {
    Phase.CONFIRMED: "green",
    Phase.HANDED_OVER: "yellow",
    Phase.ABANDONED: "red",
    Phase.STUCK: "bold red",
    Phase.REGRESSED: "bold red",
}


def delivery_row(d: Delivery, spent: Spent) -> dict[str, Any]:
    """A delivery for scripts."""
    return {
        "delivery": d.id,
        "phase": d.phase.value,
        "cause": d.asked.cause.value,
        "repository": d.repository,
        "ended": d.phase in TERMINAL,
        "waits_for": d.waiting.waits_for.value if d.waiting else None,
        "reason": d.end_reason or (d.waiting.reason if d.waiting else None),
        "ci_rounds": d.rounds,
        "iterations": d.iteration,
        "cost_micro_usd": spent.micro_usd,
        "label": (spent.label or (d.change.label if d.change else None)),
        "total_ms": total_ms(d),
        "phases_ms": [[t.phase.value, t.ms] for t in phase_times(d)],
        "commit": d.merged.commit if d.merged else None,
    }


def recovery_row(found: Recovery) -> dict[str, Any]:
    return {
        "release": found.release,
        "weight_percent": found.weight_percent,
        "reason": found.reason,
        "canary_requests": found.canary_requests,
        "canary_errors": found.canary_errors,
        "detection_to_rollback_ms": found.detection_to_rollback_ms,
        "first_bad_request_to_rollback_ms": found.first_bad_to_rollback_ms,
    }


def table_of(columns: Sequence[str]) -> Table:
    """What a person copies into a command stays in one piece, however narrow the terminal is."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        copied, numbers = name in {"delivery", "phase"}, name in {"rounds", "cost", "time"}
        table.add_column(name, overflow="fold", no_wrap=copied, justify="right" if numbers else "left")
    return table


async def deliveries_table(record: Record, seals: Seals) -> Table:
    table = table_of(("delivery", "what", "phase", "rounds", "cost", "time"))
    for d in record.deliveries:
        title = title_of(await opened(d.task, seals))
        took = total_ms(d)
        style = PHASE_STYLE.get(d.phase, "default")
        spent = record.spent_on(d.id)
        cost = usd(MicroUsd(spent.micro_usd)) + (f" {spent.label}" if spent.label else "")
        seconds = f"{took / 1000:.1f} s" if took is not None else "under way"
        table.add_row(d.id, shown(title), f"[{style}]{d.phase}[/{style}]", str(d.rounds), cost, seconds)
    return table


def _next(d: Delivery) -> Iterator[tuple[str, str]]:
    """What it waits for and what a person could do about it, each with a style."""
    if d.phase is Phase.STUCK:
        yield f"is stuck: {d.end_reason or ''}", "bold red"
        yield f"goes on, once you have looked, with: flyball unstick {d.id}", "bold red"
    elif d.waiting is not None and d.phase not in TERMINAL:
        yield f"waits for {d.waiting.waits_for}: {d.waiting.reason}", "yellow"
        if d.waiting.waits_for is e.WaitsFor.CONSENT:
            yield f"goes on with: flyball approve {d.id}   or ends with: flyball reject {d.id}", "yellow"


class Signed(Protocol):
    """What is said of the log's signatures."""

    @property
    def words(self) -> str: ...
    @property
    def signed_size(self) -> int: ...
    @property
    def alarms(self) -> Sequence[Alarm]: ...


async def print_status(
    record: Record,
    control: list[ControlRow],
    head: Head,
    seals: Seals,
    signed: Signed,
    *,
    turned_away: Mapping[str, int],
) -> None:
    """`turned_away`: requests that the gateway refused at its door in the last 24 hours, by kind."""
    console = Console(highlight=False)
    if record.deliveries:
        console.print(await deliveries_table(record, seals))
    else:
        console.print('No deliveries yet. Ask for one: flyball run "…"')
    for d in record.deliveries:
        for words, look in _next(d):
            console.print(f"  {d.id} {shown(words)}", style=look, soft_wrap=True)
    for rollout in record.rollouts:
        confirmed = rollout.confirmed
        serving = f"release {confirmed.number} ({confirmed.commit[:10]})" if confirmed else "nothing"
        canary = f"{rollout.phase}, canary at {rollout.weight_percent} %"
        console.print(f"\n{rollout.stream.partition('/')[2]}: {serving} is confirmed; {canary}")
        if rollout.waiting is not None:
            waiting = f"  waits for {rollout.waiting.waits_for}: {shown(rollout.waiting.reason)}"
            console.print(waiting, style="yellow", soft_wrap=True)
    for row in control:
        console.print(f"{row.scope} is {row.state}: {shown(row.reason)}", style="bold red")
    for alarm in signed.alarms:
        console.print(f"alarm since {alarm.at:%Y-%m-%d %H:%M}: {shown(alarm.what)}", style="bold red", soft_wrap=True)
    if turned_away:
        counts = ", ".join(f"{count} {kind}" for kind, count in turned_away.items())
        console.print(f"turned away at the gateway in the last 24 hours: {counts}", style="yellow", soft_wrap=True)
    console.print(f"\nlog: {head.size} entries, root {head.root}", style="bright_black", soft_wrap=True)
    said = f"signed up to entry {signed.signed_size}; {signed.words}" if signed.signed_size else signed.words
    console.print(f"     {said}", style="bright_black", soft_wrap=True)


async def print_story(story: list[Entry], seals: Seals) -> None:
    console = Console(highlight=False)
    began = story[0].time
    for entry in story:
        line = await line_of(entry, seals)
        if line is None and not isinstance(entry.event, e.EffectIntended):
            continue
        at = f"[bright_black]{(entry.time - began).total_seconds():8.2f}s  #{entry.index:<5}[/bright_black]"
        if line is not None:
            console.print(f"{at} [{STYLE[line.tone]}]{MARK[line.tone]} {shown(line.text)}[/]", soft_wrap=True)
            if line.detail:
                console.print(f"{'':>17}{shown(line.detail)}", style="bright_black", soft_wrap=True)
        decision = getattr(entry.event, "decision", None)
        if isinstance(decision, Decision):
            _print_decision(console, at if line is None else "", entry, decision)
        if isinstance(entry.event, e.RiskClassified):
            for words in await fact_lines(entry.event.inputs, seals):
                console.print(f"{'':>17}{shown(words)}", style="bright_black", soft_wrap=True)
        if isinstance(entry.event, e.RegressionFound):
            for words in evidence_lines(entry.event, story):
                console.print(f"{'':>17}{shown(words)}", style="bright_black", soft_wrap=True)


def _print_decision(console: Console, at: str, entry: Entry, decision: Decision) -> None:
    if at and isinstance(entry.event, e.EffectIntended):
        allowed = ", ".join(entry.event.allowed_by)
        console.print(
            f"{at} [blue]→ {entry.event.verb}[/blue] as {entry.event.agent} (allowed by {allowed})", soft_wrap=True
        )
    pad = " " * 17
    console.print(f"{pad}[bold]{shown(decision.question)}[/bold] {shown(decision.choice)}", soft_wrap=True)
    for claim in decision.claims:
        console.print(
            f"{pad}  because {shown(claim.text)}  [bright_black]{shown(claim.evidence)}[/bright_black]",
            soft_wrap=True,
        )
    for option in decision.options:
        if option.why_not is not None:
            console.print(
                f"{pad}  not {shown(option.name)}: {shown(option.why_not)}", style="bright_black", soft_wrap=True
            )
    console.print(
        f"{pad}  rules {', '.join(decision.rules)}; would change: {shown(decision.would_change)}",
        style="bright_black",
        soft_wrap=True,
    )


def print_verification(report: Report, witnessed: str) -> None:
    """`witnessed`: by whom, in the publication's words."""
    console = Console(highlight=False)
    for finding in report.findings:
        console.print(f"✗ {shown(finding.where)}: {shown(finding.what)}", style="bold red")
        console.print(f"  {shown(finding.way_out)}")
    if not report.findings:
        blobs = f", {report.blobs} blobs match their digests" if report.blobs is not None else ""
        console.print(f"✓ {report.size} entries: tree, order and guards recomputed and equal{blobs}", style="green")
    console.print(f"root {report.root}", style="bright_black")
    alone = "nobody outside this machine has seen this root, so whoever runs it could have rewritten it all"
    if witnessed.startswith("witnessed"):
        console.print(witnessed, style="bright_black", soft_wrap=True)
    else:
        console.print(f"{witnessed}: {alone}", style="yellow", soft_wrap=True)


async def print_summary(console: Console, record: Record, head: Head, seals: Seals) -> None:
    """What a run came to."""
    console.print(await deliveries_table(record, seals))
    for d in record.deliveries:
        spent = "  ".join(f"{t.phase} {t.ms / 1000:.1f}s" for t in phase_times(d) if t.ms >= 50)  # noqa: PLR2004 - shorter ones are noise
        console.print(f"\n[cyan]{d.id}[/cyan]  {shown(d.end_reason or '')}", soft_wrap=True)
        console.print(f"  {spent}", style="bright_black", soft_wrap=True)
    for rollout in record.rollouts:
        for back in recoveries(rollout):
            print_recovery(console, back)
    console.print(f"\nlog: {head.size} entries, root {head.root} (unwitnessed)", style="bright_black", soft_wrap=True)


def print_recovery(console: Console, back: Recovery) -> None:
    first = back.first_bad_to_rollback_ms
    users = f"{back.canary_errors} of {back.canary_requests} canary requests failed before it was seen"
    since = f"{first / 1000:.1f} s after the first bad request" if first is not None else "before any user saw it"
    console.print(
        f"\n[bold]release {back.release} was rolled back[/bold] at {back.weight_percent} %: {users}", soft_wrap=True
    )
    console.print(
        f"  detection to rollback {back.detection_to_rollback_ms / 1000:.1f} s, traffic back {since}", soft_wrap=True
    )
