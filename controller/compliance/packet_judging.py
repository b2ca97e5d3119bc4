"""How a release was judged, as a section of the packet's page: the sentence, the plots, and every number behind them.

Plots and words are views. The numbers stand in the entries; the counts and the parameters lie beside them as blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from controller.canary import evidence_words as words
from controller.canary.boundaries import edge_ms
from controller.canary.eprocess import MICRO, threshold_micro
from controller.canary.plain_words import fraction, power
from controller.compliance.judged import Judged
from controller.compliance.page_parts import link, listed, moment, table
from controller.compliance.plots import Judging, Window
from controller.domain import events as e
from controller.domain.blame import Blame
from controller.domain.counts import Totals
from controller.domain.entry import Entry
from controller.domain.verdict import Evidence, TestKind, View

EVIDENCE = "evidence"  # folder of the packet
MAX_WINDOWS = 400  # in the table on the page; the file has all of them
NAMES = {
    "evidence": "Evidence after each window. E bets that the canary is worse than tolerated; at the line it goes back. "
    "The shade is the canary's share of the traffic.",
    "errors": "Failed requests of both arms in the same windows. An interval shows what chance alone would leave open, "
    "at one look; one that leaves the picture goes on beyond it. E, not these intervals, decides.",
    "latency": "How long requests took, each arm's shares of its own. A request beyond a boundary counts as slow.",
}


def how_it_was_judged(judged: Iterable[Judged]) -> Iterator[str]:
    none = True
    for one in judged:
        none = False
        yield f"<h3>Release {one.release}: {escape(one.verdict.outcome.replace('_', ' '))}</h3>"
        tolerance = one.parameters.tolerance_buckets if one.parameters else None
        yield f"<p>{escape(words.plain_sentence(one.verdict, tolerance))}</p>"
        yield f'<p class="said">{escape(one.verdict.sentence)}</p>'
        yield "".join(_figures(one))
        yield listed(_numbers(one))
        yield "<h4>Tests</h4>"
        yield _tests(one)
        yield "".join(_beside(one))
        yield "".join(_windows(one))
    if none:
        yield "<p>No release of it was judged by counts.</p>"


# --- pictures ---------------------------------------------------------------------------------------------------------


def _figures(one: Judged) -> Iterator[str]:
    if one.judging is None:
        yield f"<p>Nothing is drawn: {escape(one.again.missing or 'it has no windows')}.</p>"
        return
    yield '<div class="figures">'
    for name, said in NAMES.items():
        file = f"log#{one.index}-{name}.svg"
        yield f"<figure>{one.files[file]}<figcaption>{said} "
        yield f'<a href="{EVIDENCE}/{quote(file)}">{file}</a></figcaption></figure>'
    yield "</div><p>These pictures are drawn from the counts in this packet. They show; the counts prove.</p>"


def _windows(one: Judged) -> Iterator[str]:
    if one.judging is None:
        return
    file, windows = f"log#{one.index}-path.csv", one.judging.windows
    yield f"<details><summary>Every window, and E after it ({len(windows):,})</summary>"
    yield f'<p>All of them: <a href="{EVIDENCE}/{quote(file)}">{file}</a></p>'
    first = max(0, len(windows) - MAX_WINDOWS)
    rows = [_row(n, window, one.judging) for n, window in enumerate(windows[first:], first)]
    yield table(("window", "from (UTC)", "weight", "canary errors", "baseline errors", "E", ""), rows, "numbers")
    yield "</details>"


def _row(n: int, window: Window, judging: Judging) -> tuple[str, ...]:
    at = datetime.fromtimestamp(window.start_ms / 1000, UTC)
    arms = [fraction(*arm) for arm in (window.canary, window.baseline)]
    crossed = "<strong>crossed</strong>" if n == judging.first_crossing else ""
    return str(n), f"{at:%H:%M:%S}", f"{window.weight_percent} %", *arms, power(window.log_e_micro), crossed


# --- numbers ----------------------------------------------------------------------------------------------------------


def _numbers(one: Judged) -> Iterator[tuple[str, str]]:
    verdict, observed = one.verdict, one.of(e.Observed)
    yield "verdict", f"{link(one.index)} <code>{escape(verdict.rule)}</code>, judge {verdict.judge}"
    yield "combined evidence", _level(one)
    yield "requests", f"canary {_failed(verdict.canary)}, baseline {_failed(verdict.baseline)}"
    yield "how much worse", escape(words.interval_words(verdict.ratio))
    if verdict.spent is not None:
        yield "error budget spent", escape(words.spent_words(verdict.spent))
    yield "noise of errors (phi)", escape(words.phi_words(verdict.phi))
    noise = (
        "not measured, that of errors serves" if verdict.latency_phi is None else words.phi_words(verdict.latency_phi)
    )
    yield "noise of latency (phi)", escape(noise)
    yield from _fixed_before(one)
    yield "promotion", _promotion(one)
    if verdict.sample_ratio is not None:
        yield "share of requests", escape(words.sample_ratio_words(verdict.sample_ratio))
    if verdict.incident is not None:
        yield "shared incident", escape(words.incident_words(verdict.incident))
    yield from (("gauge", escape(words.gauge_words(gauge))) for gauge in verdict.gauges)
    if observed and isinstance(seen := observed[-1].event, e.Observed):
        yield "counted", f"{escape(seen.source)} ({escape(seen.label)}) {link(observed[-1].index)}"
        yield "received, not counted", escape(words.excluded_words(seen.excluded))
    yield "computed again", _again(one)


def _level(one: Judged) -> str:
    verdict = one.verdict
    said = f"E={power(verdict.log_e_micro)}, line {power(verdict.threshold_micro)}"
    if one.parameters is not None:
        alpha, paging = one.parameters.alpha_ppm / MICRO, threshold_micro(one.parameters.page_alpha_ppm)
        said += f" (alpha {alpha:g}: of canaries no worse than tolerated, at most that share ever gets there), "
        said += f"a person is told at {power(paging)}"
    crossed = verdict.first_crossing_window
    if crossed is None:
        return f"{said}; not crossed in {verdict.windows:,} {words.plural(verdict.windows, 'window')}"
    return f"{said}; first crossed in window {crossed}, counted from 0, of {verdict.windows:,}"


def _fixed_before(one: Judged) -> Iterator[tuple[str, str]]:
    """What was chosen before the canary was judged."""
    for entry in one.of(e.CanaryReady)[-1:]:
        assert isinstance(entry.event, e.CanaryReady)  # noqa: S101 - `of` says so
        tolerance = one.parameters.tolerance_buckets if one.parameters else 0
        yield "boundaries", f"{escape(words.boundaries_words(entry.event.boundaries, tolerance))} {link(entry.index)}"
    if one.parameters is None:
        yield "parameters", f"<code>{escape(one.policy)}</code>, which is not here"
        return
    text = f"<pre>{escape(one.parameters.model_dump_json(indent=1))}</pre>"
    yield "parameters", f"<code>{escape(one.policy)}</code><details><summary>all of them</summary>{text}</details>"


def _promotion(one: Judged) -> str:
    found = one.verdict.promotion
    need = found.requests_needed
    more = "no number would do at these rates" if need is None else f"{need:,} more wanted" if need else "enough"
    reached = f"E={power(found.log_e_micro)} of {power(found.threshold_micro)} that it is good enough"
    return f"{reached}; {found.step_requests:,} canary requests at the last weight, {more}"


def _again(one: Judged) -> str:
    if one.again.missing:
        return f"not possible here: {escape(one.again.missing)}"
    if one.again.differences:
        return f"<strong>DOES NOT AGREE</strong> in {escape(', '.join(one.again.differences))}"
    return f"from the counts and parameters in this packet, it agrees exactly in all {one.again.fields} fields"


def _failed(counts: Totals) -> str:
    return f"{fraction(counts.errors, counts.requests)} failed"


def _tests(one: Judged) -> str:
    tolerance = one.parameters.tolerance_buckets if one.parameters else None
    names = ("test", "counted by", "route", "boundary", "canary bad", "baseline bad", "weight", "E")
    return table(names, [_test(entry, tolerance) for entry in one.verdict.evidence], "numbers")


def _test(entry: Evidence, tolerance: int | None) -> tuple[str, ...]:
    """`tolerance` None: nobody knows any more by how much the canary's boundary lies higher."""
    kind, edge = words.kind_of_test(entry), ""
    if entry.boundary is not None:
        edge = f"{edge_ms(entry.boundary):,.4g} ms"
        edge += "" if tolerance is None else f", canary {edge_ms(entry.boundary + tolerance):,.4g} ms"
    by = "its callers" if entry.view is View.CALLERS else "the service"
    route = "" if kind is TestKind.ABSENT else escape(entry.route or "all")
    arms = fraction(entry.canary_bad, entry.canary_total), fraction(entry.baseline_bad, entry.baseline_total)
    return kind.value, by, route, edge, *arms, f"{entry.weight_ppm / 10_000:.3g} %", power(entry.log_e_micro)


# --- what stands beside -----------------------------------------------------------------------------------------------


def _beside(one: Judged) -> Iterator[str]:
    yield from _sentences("What weakens it", one.verdict.caveats)
    yield from _sentences("What this traffic can show", one.verdict.outlook)
    for entry in one.of(e.RegressionFound):
        assert isinstance(entry.event, e.RegressionFound)  # noqa: S101 - `of` says so
        yield from _regression(entry.event)
    for entry in one.of(e.TrafficRestored):
        assert isinstance(entry.event, e.TrafficRestored)  # noqa: S101 - `of` says so
        yield from _whose(entry.event)
    for entry in one.of(e.TrafficRestored, e.RecoveryVerified, e.RecoveryFailed):
        yield f"<p>{link(entry.index)} {moment(entry.time.isoformat())} {escape(_after(entry))}</p>"
    for entry in one.of(e.AlarmRaised):
        assert isinstance(entry.event, e.AlarmRaised)  # noqa: S101 - `of` says so
        level = f"E={power(entry.event.log_e_micro)} of {power(entry.event.threshold_micro)}"
        what = f"alarm {entry.event.what}: {entry.event.reason} ({level}, {entry.event.windows} windows)"
        yield f"<p>{link(entry.index)} {moment(entry.time.isoformat())} {escape(what)}</p>"


def _regression(event: e.RegressionFound) -> Iterator[str]:
    if event.exemplars.bad or event.exemplars.good:
        yield "<h4>Traces to look at</h4>"
        sides = (("failed on the canary", event.exemplars.bad), ("served by the baseline", event.exemplars.good))
        ids = [(name, " ".join(f"<code>{one}</code>" for one in reversed(found)) or "none") for name, found in sides]
        yield listed(ids)


def _whose(event: e.TrafficRestored) -> Iterator[str]:
    """Empty: one change only, and nothing else was tried."""
    if event.rivals:
        yield "<h4>Other explanations</h4>"
        rows = [(escape(one.name), "holds" if one.held else "ruled out", escape(one.reason)) for one in event.rivals]
        yield table(("explanation", "found", "why"), rows, "words")
    if event.blame is not None:
        yield "<h4>Whose change</h4>"
        yield _blame(event.blame)


def _blame(blame: Blame) -> str:
    names = ("change", "likely", "before", "E", "its files on failing stacks", "lines", "cannot have been")
    rows = [
        (
            escape(one.delivery),
            f"{one.posterior_ppm / 10_000:.3g} %",
            f"{one.prior_ppm / 10_000:.3g} %",
            power(one.log_e_micro),
            escape(", ".join(one.files)),
            str(one.lines),
            escape(one.veto),
        )
        for one in blame.candidates
    ]
    return f"<p>{escape(words.share_words(blame))}: {escape(blame.reason)}</p>{table(names, rows, 'words')}"


def _after(entry: Entry) -> str:
    match entry.event:
        case e.TrafficRestored() as event:
            return f"all traffic on release {event.to_release}, its health verified {event.health_checks} times"
        case e.RecoveryVerified() as event:
            seen = "recovered" if event.recovered else "not seen to have recovered"
            return f"{seen}: {event.reason} ({words.recovery_words(event)})"
        case e.RecoveryFailed() as event:
            return f"NOT recovered: {event.reason} ({words.recovery_words(event)})"
        case _:
            return ""


def _sentences(name: str, said: Iterable[str]) -> Iterator[str]:
    rows = "".join(f"<li>{escape(one)}</li>" for one in said)
    if rows:
        yield f"<h4>{name}</h4><ul>{rows}</ul>"


STYLE = """
h3 { font-size: 1.05rem; margin-bottom: .3rem; } h4 { font-size: .95rem; margin: 1rem 0 .3rem; }
.said { border-left: 3px solid var(--line); padding-left: .8rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; } figcaption { color: var(--quiet); font-size: .85rem; }
figure svg { max-width: 34rem; } th { overflow-wrap: normal; } .numbers td, .numbers th { white-space: nowrap; }
.words td { overflow-wrap: break-word; min-width: 4.5rem; }
@media (max-width: 30rem) { figure svg.flyball-chart { width: calc(100% + 1.2rem); margin: 0 -.6rem; } }
 ul { padding-left: 1.2rem; margin: 0; } dd pre { margin: .3rem 0; }
"""
