"""What the sections of a packet's page are made of. Whatever comes from outside is escaped by whoever passes it on."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

MAX_SHOWN_CHARS = 200_000  # of a diff or a log on the page; the whole lies in its file


def long_text(text: str) -> str:
    cut = "" if len(text) <= MAX_SHOWN_CHARS else f"\n… {len(text) - MAX_SHOWN_CHARS} more characters in its file"
    return f"<pre>{escape(text[:MAX_SHOWN_CHARS])}{cut}</pre>"


def link(index: int) -> str:
    """To an entry on the same page."""
    return f'<a href="#e{index}">#{index}</a>'


def moment(text: str) -> str:
    return f"<time>{escape(text[:19].replace('T', ' '))}</time>"


def table(names: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Cells are HTML already. `kind`: a class besides, such as `numbers`, whose cells are never broken."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    outside = f"wide {kind}".strip()
    return f'<div class="{outside}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they stand for. Values are HTML already."""
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in pairs)}</dl>"
