"""Cells as tables for people, and what they show: is the promise kept, is ours first, and where not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from controller.domain.verdict import JudgeConfig

from .bound_cells import Bounded, Needed
from .cells import Cell

QUIET_PERCENT = 1.0  # a method with more false alarms than this in any null at a rate is not compared there
DEFAULT_ALPHA_PPM = JudgeConfig().alpha_ppm
IGNORED = "phi ignored"  # shows what tempering is for; it promises nothing


def is_ours(cell: Cell) -> bool:
    return cell.alpha_ppm is not None


def named(cell: Cell) -> str:
    return f"**{cell.method}**, alpha {cell.alpha_ppm / 1e6:g}" if cell.alpha_ppm is not None else cell.method


def unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def grid(cells: Sequence[Cell]) -> Iterator[str]:
    """A row per rate and method, a column per scenario."""
    scenarios = unique(cell.scenario for cell in cells)
    yield f"| canary rps | method | {' | '.join(scenarios)} |"
    yield f"|---|---|{'---|' * len(scenarios)}"
    for rps in dict.fromkeys(cell.canary_rps for cell in cells):
        here = [cell for cell in cells if cell.canary_rps == rps]
        for method in unique(named(cell) for cell in here):
            row = {cell.scenario: cell for cell in here if named(cell) == method}
            texts = (text_of(row[name]) if name in row else "" for name in scenarios)
            yield f"| {rps:g} | {method} | {' | '.join(texts)} |"


def turned(cells: Sequence[Cell]) -> Iterator[str]:
    """A row per rate and scenario, a column per method."""
    methods = unique(named(cell) for cell in cells)
    yield f"| canary rps | scenario | {' | '.join(methods)} |"
    yield f"|---|---|{'---|' * len(methods)}"
    for rps, scenario in dict.fromkeys((cell.canary_rps, cell.scenario) for cell in cells):
        row = {named(cell): cell for cell in cells if (cell.canary_rps, cell.scenario) == (rps, scenario)}
        texts = (text_of(row[name]) if name in row else "" for name in methods)
        yield f"| {rps:g} | {scenario} | {' | '.join(texts)} |"


def text_of(cell: Cell) -> str:
    """Percent flagged; of a null with its 95 % interval, of an effect with the median minutes where half are found."""
    if cell.is_null:
        low, high = cell.interval_percent
        return f"{percent(cell.percent)} ({percent(low, 2)} to {percent(high, 2)})"
    return percent(cell.percent) + (f" / {cell.median_minutes:.1f} m" if cell.median_minutes is not None else "")


def percent(value: float, digits: int = 3) -> str:
    return "100" if value > 99.95 else f"{value:.{digits if value < 99 else 3}g}"


def promise_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """Of each of our tests: does every null cell stay within alpha?"""
    for method, alpha in dict.fromkeys((cell.method, cell.alpha_ppm) for cell in cells if cell.is_null):
        mine = [cell for cell in cells if cell.is_null and (cell.method, cell.alpha_ppm) == (method, alpha)]
        if alpha is None or IGNORED in method:
            continue
        worst = max(mine, key=lambda cell: (cell.percent, cell.interval_percent[1]))
        limit = alpha / 1e4
        _, high = worst.interval_percent
        kept = [cell for cell in mine if cell.interval_percent[1] <= limit]
        broken = any(cell.interval_percent[0] > limit for cell in mine)
        verdict = "BROKEN" if broken else "kept" if len(kept) == len(mine) else "not shown"
        yield (
            f"- {verdict}: {method} at alpha {alpha / 1e6:g}: in {len(kept)} of {len(mine)} null cells the upper 95 % "
            f"bound of false alarms is at most alpha; the most is {worst.percent:.3g} % (bound {high:.3g} %) in "
            f'"{worst.scenario}" at {worst.canary_rps:g} rps, n={worst.runs:,}'
        )


def worst_null(cells: Sequence[Cell], method: str, canary_rps: float) -> float:
    """Percent of false alarms in a method's worst null at a rate."""
    return max(
        (c.percent for c in cells if c.is_null and named(c) == method and c.canary_rps == canary_rps), default=100.0
    )


def by_default(cell: Cell) -> bool:
    """As the judge is configured out of the box, where phi is known."""
    return cell.alpha_ppm == DEFAULT_ALPHA_PPM and cell.method in {"E1 tol 1.25", "judge"}


def first_lines(cells: Sequence[Cell], mine: Callable[[Cell], bool]) -> Iterator[str]:
    """In each effect cell: is one of ours the earliest of all methods that are quiet at that rate?"""
    cells = [cell for cell in cells if mine(cell) or not is_ours(cell)]
    for rps, scenario in dict.fromkeys((cell.canary_rps, cell.scenario) for cell in cells if not cell.is_null):
        here = [cell for cell in cells if (cell.canary_rps, cell.scenario) == (rps, scenario)]
        quiet = [cell for cell in here if worst_null(cells, named(cell), rps) <= QUIET_PERCENT]
        loud = [cell for cell in here if cell not in quiet]
        yield f"- {rps:g} rps, {scenario}: {_verdict(quiet)}{_loud(loud, quiet)}"


def _verdict(quiet: Sequence[Cell]) -> str:
    if not quiet:
        return "no method is quiet"
    mine = min((cell for cell in quiet if is_ours(cell)), key=_rank, default=None)
    other = min((cell for cell in quiet if not is_ours(cell)), key=_rank, default=None)
    if mine is None:
        return "NONE OF OURS is quiet"
    if other is None:
        return f"ours ({_said(mine)}) is the only quiet one"
    if _rank(mine) == _rank(other):
        return f"level: ours ({_said(mine)}) and {other.method} ({_said(other)})"
    if _rank(mine) < _rank(other):
        return f"first: ours ({_said(mine)}); next {other.method} ({_said(other)})"
    return f"NOT FIRST: {other.method} ({_said(other)}) before ours ({_said(mine)})"


def _loud(loud: Sequence[Cell], quiet: Sequence[Cell]) -> str:
    """Methods that are earlier, or find more, at the price of false alarms."""
    best = min((_rank(cell) for cell in quiet), default=(float("inf"), 0.0))
    better = unique(cell.method for cell in loud if _rank(cell) < best)
    return f"; ahead of all, but not quiet: {', '.join(better)}" if better else ""


def _rank(cell: Cell) -> tuple[float, float]:
    """By median minutes; where fewer than half are found, by how many are."""
    return (float("inf"), -cell.percent) if cell.median_minutes is None else (cell.median_minutes, 0.0)


def _said(cell: Cell) -> str:
    alpha = f" at {cell.alpha_ppm / 1e6:g}" if cell.alpha_ppm is not None else ""
    return f"{cell.method}{alpha}: {text_of(cell)}"


def bound_lines(rows: Sequence[Bounded]) -> Iterator[str]:
    """Percent of rollouts in which an effect is found: by the best possible tests, and by ours of the same null."""
    yield "| canary rps | effect | alpha | null: at most | oracle | split | split, no coin | ours |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        mine = "; ".join(f"{method} {percent(found)}" for method, found in row.ours.items())
        yield (
            f"| {row.canary_rps:g} | {row.scenario} | {row.alpha_ppm / 1e6:g} | x{row.null_times:g} | "
            f"{percent(row.oracle_percent)} | {percent(row.split_percent)} | {percent(row.plain_split_percent)} | "
            f"{mine} |"
        )


def needed_lines(rows: Sequence[Needed]) -> Iterator[str]:
    yield "| effect | alpha | canary requests | at 0.05 rps | at 0.5 rps |"
    yield "|---|---|---|---|---|"
    for row in rows:
        slow, fast = (row.canary_requests / rps / 60 for rps in (0.05, 0.5))
        yield f"| {row.scenario} | {row.alpha_ppm / 1e6:g} | {row.canary_requests:,} | {slow:,.0f} m | {fast:,.0f} m |"


def variant_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """One table per family."""
    for family in unique(cell.section for cell in cells):
        yield from ("", f"### {family}", "", *grid([cell for cell in cells if cell.section == family]))
