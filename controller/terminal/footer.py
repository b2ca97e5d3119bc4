"""What stands below the lines on a terminal.

Every delivery under way, and the canary against its baseline as the evidence climbs.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from controller.domain import delivery as deliveries
from controller.domain import rollout as rollouts
from controller.domain.delivery import TERMINAL
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, StreamId, kind_of, rest_of
from controller.terminal.words import canary_line, plain


class Footer:
    """Folds what it is shown, entry by entry: a stream from its first entry on, each entry once, or not at all."""

    def __init__(self) -> None:
        self._deliveries: dict[StreamId, deliveries.Delivery] = {}
        self._rollouts: dict[StreamId, rollouts.Rollout] = {}

    def take(self, entry: Entry) -> None:
        stream = entry.stream
        if kind_of(stream) == "delivery":
            before = self._deliveries.get(stream) or deliveries.Delivery(DeliveryId(rest_of(stream)))
            if entry.version == before.version + 1:
                self._deliveries[stream] = deliveries.evolve(before, entry)
        elif kind_of(stream) == "rollout":
            known = self._rollouts.get(stream) or rollouts.Rollout(stream)
            if entry.version == known.version + 1:
                self._rollouts[stream] = rollouts.evolve(known, entry)

    def render(self) -> RenderableType:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        under_way = [d for d in self._deliveries.values() if d.phase not in TERMINAL]
        for d in under_way:
            why = plain(d.waiting.reason) if d.waiting else ""
            table.add_row(Text(d.id, style="cyan"), Text(d.phase.value, style="bold"), Text(why, style="bright_black"))
        lines: list[RenderableType] = [Rule(style="bright_black"), table]
        for rollout in self._rollouts.values():
            lines.extend(_canary(rollout))
        return Group(*lines)


def _canary(rollout: rollouts.Rollout) -> list[RenderableType]:
    current, name = rollout.current, rest_of(rollout.stream)
    if current is None:
        confirmed = rollout.confirmed
        words = f"release {confirmed.number} serves" if confirmed else "nothing serves yet"
        return [Text(f"{name}  {words}", style="bright_black")]
    head = Text(f"{name}  release {current.number} {rollout.phase.value}", style="bold")
    if not rollout.segments:
        return [head]
    last = rollout.segments[-1]
    worried = last.verdict.log_e_micro * 2 > last.verdict.threshold_micro
    return [head, Text(canary_line(last), style="bold red" if worried else "green", overflow="ellipsis", no_wrap=True)]
