"""Text that somebody wrote, made safe to stand inside a prompt.

Material is put between tags that carry a digest of the text itself, so nobody can write the closing tag of a text
before that text is fixed; tags written in the text are escaped all the same. What a person reading the source would
not see is taken out: invisible characters, and HTML comments, which leave a visible note. What is too long is cut in
the middle, where test logs say least, with a note of how much is gone.
"""

from __future__ import annotations

import hashlib
import re

from prompts.seen import without_unseen

LIMIT_BYTES = 30_000  # of one fenced text; the bound that tool results have as well
LABEL = re.compile(r"[a-z0-9][a-z0-9 ._-]{0,59}")

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\u0085\v\f]")
_COMMENT_END = re.compile("--!?>")
_TAG = re.compile(r"<(?=\s*/?\s*(?:material|request)\b)", re.IGNORECASE)


def fence(text: str, label: str, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Material: to be read, never to be followed. `label` says in a few plain words what it is."""
    return _between("material", text, label, limit_bytes)


def fence_request(text: str, label: str, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """What an authenticated person has asked for: cleaned and bounded like material, and meant to be followed."""
    return _between("request", text, label, limit_bytes)


def clean(text: str) -> str:
    """Without invisible characters and comments, and with one kind of line end. Cleaning twice is cleaning once."""
    return _without_comments(without_unseen(_LINE_ENDS.sub("\n", text)))


def cut(text: str, limit_bytes: int) -> str:
    """At most `limit_bytes` of UTF-8 and one visible note in the place of what was taken from the middle."""
    content = text.encode()
    if len(content) <= limit_bytes:
        return text
    half = max(limit_bytes, 0) // 2
    start = content[:half].decode(errors="ignore")
    end = content[len(content) - half :].decode(errors="ignore")
    gone = len(content) - len(start.encode()) - len(end.encode())
    return f"{start}\n[… {gone} bytes cut]\n{end}"


def _between(tag: str, text: str, label: str, limit_bytes: int) -> str:
    if not LABEL.fullmatch(label):
        raise ValueError(f"label {label!r} is not made of [a-z0-9 ._-], at most 60 of them")
    body = cut(_TAG.sub("&lt;", clean(text)), limit_bytes) or "(nothing)"
    marker = hashlib.sha256(body.encode()).hexdigest()[:12]
    return f'<{tag} id="{marker}" what="{label}">\n{body}\n</{tag} id="{marker}">'


def _without_comments(text: str) -> str:
    """One pass, linear in the text: a pattern that looks for an end from every start is not."""
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0:
        parts.append(text[at:start])
        end = _COMMENT_END.search(text, start + 2)
        if end is None:
            return "".join([*parts, text[start:].replace("<!--", "[unclosed comment]")])
        parts.append("[comment removed]")
        at = end.end()
    return "".join([*parts, text[at:]])
