"""What stands behind a roll-back, in a few lines: what it cost, how much worse it was, where to look, what else it was.

The whole lies in the entry (`flyball show --json`) and, with its plots, in a packet (`flyball audit packet`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.canary import evidence_words as words
from controller.domain import events as e
from controller.domain.entry import Entry


def evidence_lines(found: e.RegressionFound, story: Sequence[Entry]) -> Iterator[str]:
    """Nothing where no counts were needed. What became of it afterwards is an entry of its own."""
    if found.verdict is not None:
        if found.verdict.spent is not None:
            yield f"cost: {words.spent_words(found.verdict.spent)}"
        yield f"how much worse: {words.interval_words(found.verdict.ratio)}"
        yield f"not counted: {words.excluded_words(_excluded(found, story))}"
    if traces := words.exemplar_words(found.exemplars):
        yield f"traces: {traces}"
    restored = next((one.event for one in story if _restores(one.event, found.release)), None)
    if isinstance(restored, e.TrafficRestored):
        yield from (f"other explanation: {words.rival_words(rival)}" for rival in restored.rivals)
        if restored.blame is not None:
            yield f"whose change: {words.share_words(restored.blame)}: {restored.blame.reason}"


def _restores(event: object, release: int) -> bool:
    return isinstance(event, e.TrafficRestored) and event.release == release


def _excluded(found: e.RegressionFound, story: Sequence[Entry]) -> dict[str, int]:
    """As of the last look at this release. Empty: nothing, or nobody looked."""
    looks = [one.event for one in story if isinstance(one.event, e.Observed) and one.event.release == found.release]
    return looks[-1].excluded if looks else {}
