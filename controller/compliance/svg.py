"""A chart's frame as SVG, written by hand: heading, legend, axes, ticks, labels that make way for each other.

A chart scales with its place and is read at a width of 320 px. Its colours follow the reader's light or dark screen,
and stand for nothing alone: line, marker and words say the same. No script, nothing fetched. The same values give the
same bytes. Text from outside is escaped here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

WIDTH, HEIGHT = 360.0, 264.0  # of the viewBox, in its own units; at 320 px a unit is some 0.8 px
LEFT, RIGHT, TOP, BOTTOM = 44.0, 350.0, 62.0, 218.0  # of the area that is drawn in
TEXT = 12.0  # units
CHAR_WIDTHS = 0.56  # of a sans-serif letter on average, in its height
TICKS = 5
Anchor = Literal["start", "middle", "end"]
Look = Literal["canary", "baseline"]
Sign = Literal["canary curve", "baseline curve", "limit", "paging", "edge"]  # of a line in a legend
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places. What lies outside is drawn on the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def across(low: float, high: float) -> Scale:
    return Scale(low, high if high > low else low + 1, LEFT, RIGHT)


def upwards(low: float, high: float) -> Scale:
    return Scale(low, high if high > low else low + 1, BOTTOM, TOP)


def ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart, `most` + 1 of them at most."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    pace = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * (1 - 1e-9))
    return [n * pace for n in range(math.ceil(low / pace - 1e-9), math.floor(high / pace + 1e-9) + 1)]


def width_of(text: str) -> float:
    """Roughly, in units."""
    return len(text) * TEXT * CHAR_WIDTHS


# --- marks ------------------------------------------------------------------------------------------------------------


def text(words: str, at: Place, anchor: Anchor = "start", kind: str = "") -> str:
    """`kind`: a class besides; empty: none."""
    more = f' class="{kind}"' if kind else ""
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def line(start: Place, end: Place, kind: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" class="{kind}"/>'


def path(places: Iterable[Place], kind: str, *, closed: bool = False) -> str:
    """Empty without places."""
    joined = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path d="M{joined}{"Z" if closed else ""}" class="{kind}"/>' if joined else ""


def marker(at: Place, look: Look) -> str:
    """A disc for the canary, a hollow square for the baseline."""
    x, y = at
    if look == "canary":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" class="canary dot"/>'
    return f'<rect x="{x - 2.2:.1f}" y="{y - 2.2:.1f}" width="4.4" height="4.4" class="baseline hollow"/>'


def ring(at: Place) -> str:
    """Around what is pointed out."""
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="5" class="ring"/>'


def band(start: float, end: float, opacity: float) -> str:
    """The whole height, shaded."""
    size = f'width="{end - start:.1f}" height="{BOTTOM - TOP:.1f}"'
    return f'<rect x="{start:.1f}" y="{TOP:.1f}" {size} class="weight" fill-opacity="{opacity:.2f}"/>'


def staggered(labels: Iterable[tuple[float, str]], rows: int) -> Iterator[tuple[float, int, str]]:
    """Labels centred over their places, each in the first row where it touches none before it: place, row, words.

    One that finds no room is left out.
    """
    ends = [-math.inf] * rows
    for x, words in sorted(labels):
        half = width_of(words) / 2
        middle = min(max(x, LEFT + half), RIGHT - half)
        row = next((n for n in range(rows) if ends[n] + 3 <= middle - half), None)
        if row is not None:
            ends[row] = middle + half
            yield middle, row, words


# --- the frame --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Chart:
    """One picture with what it says in words, for whoever does not see it."""

    ident: str  # letters, digits and hyphens; no other on the same page
    heading: str
    said: str  # what it shows, in a sentence or two
    legend: Sequence[tuple[Sign, str]]
    across_words: str
    marks: list[str] = field(default_factory=list)

    def axes(self, x: Sequence[tuple[float, str]], y: Iterable[tuple[float, str]]) -> None:
        """Ticks by their places. Labels across that would touch each other are left out."""
        for place, words in y:
            self.marks.append(line((LEFT, place), (RIGHT, place), "grid"))
            self.marks.append(text(words, (LEFT - 5, place + 4), "end", "tick"))
        self.marks.append(line((LEFT, BOTTOM), (RIGHT, BOTTOM), "axis"))
        self.marks += [line((place, BOTTOM), (place, BOTTOM + 4), "axis") for place, _ in x]
        self.marks += [text(words, (middle, BOTTOM + 17), "middle", "tick") for middle, _, words in staggered(x, 1)]

    def svg(self) -> str:
        """A whole file, and a part of a page as it stands."""
        names = f"{self.ident}-title {self.ident}-said"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" class="flyball-chart" '
            f'role="img" aria-labelledby="{names}">'
            f'<title id="{self.ident}-title">{escape(self.heading)}</title>'
            f'<desc id="{self.ident}-said">{escape(self.said)}</desc><style>{_STYLE}</style>'
            f'<rect width="{WIDTH:.0f}" height="{HEIGHT:.0f}" class="paper"/>'
        )
        words = text(self.heading, (4, 15), kind="heading") + "".join(self._legend())
        foot = text(self.across_words, ((LEFT + RIGHT) / 2, HEIGHT - 8), "middle")
        return f"{head}{words}{''.join(self.marks)}{foot}</svg>\n"

    def _legend(self) -> Iterator[str]:
        x = 4.0
        for sign, words in self.legend:
            yield line((x, 29), (x + 20, 29), sign)
            if sign == "canary curve":
                yield marker((x + 10, 29), "canary")
            elif sign == "baseline curve":
                yield marker((x + 10, 29), "baseline")
            yield text(words, (x + 25, 33))
            x += 25 + width_of(words) + 12


_STYLE = """
.flyball-chart { --ink: #1a1c1f; --paper: #fff; --grid: #d9dde3; --canary: #b34700; --baseline: #0063a3;
  display: block; width: 100%; height: auto; color: var(--ink); }
@media (prefers-color-scheme: dark) { .flyball-chart { --ink: #e7e9ec; --paper: #16181b; --grid: #363b42;
  --canary: #ff9d57; --baseline: #6cc0f5; } }
.flyball-chart text { font: 12px system-ui, sans-serif; fill: currentColor; stroke: var(--paper); stroke-width: 3px;
  stroke-linejoin: round; paint-order: stroke; }
.flyball-chart .heading { font-weight: 600; font-size: 13px; }
.flyball-chart .paper { fill: var(--paper); }
.flyball-chart .weight { fill: currentColor; }
.flyball-chart line, .flyball-chart path { fill: none; stroke-width: 1; }
.flyball-chart .grid { stroke: var(--grid); } .flyball-chart .axis { stroke: currentColor; }
.flyball-chart .canary { stroke: var(--canary); } .flyball-chart .baseline { stroke: var(--baseline); }
.flyball-chart .curve { stroke-width: 1.8; stroke-linejoin: round; }
.flyball-chart .baseline.curve { stroke-dasharray: 5 3; }
.flyball-chart .dot { fill: var(--canary); } .flyball-chart .hollow { fill: var(--paper); }
.flyball-chart .area { fill: var(--canary); fill-opacity: .18; stroke: none; }
.flyball-chart .limit { stroke: currentColor; stroke-width: 1.6; }
.flyball-chart .paging { stroke: currentColor; stroke-dasharray: 2 3; }
.flyball-chart .edge { stroke: currentColor; stroke-dasharray: 1 2; }
.flyball-chart .ring { fill: none; stroke: currentColor; stroke-width: 1.8; }
""".replace("\n", " ")
