"""What a person reading a text would not see: control and format characters, tags, fillers, and escapes for terminals.

Whoever writes a test, a file or a commit can put words there that a model reads and a reviewer does not. One place
knows which characters those are. What an agent's tools give back keeps them as `[U+202E]`, in sight of both; what
stands in a prompt as material or as a request is without them (`prompts.fence`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_UNUSUAL = re.compile("[^\n\t -~]")
# Colours, cursor moves, titles and links of terminals (ECMA-48: CSI, and strings that begin with OSC, DCS, APC, PM).
_ESCAPES = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b[\]PX^_][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)")
_UNSEEN_CATEGORIES = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # control, format (zero-width, bidi, tags), surrogate, private, unassigned, separators of lines and paragraphs
_VARIATION_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))  # combining, invisible, and able to carry a byte each
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u034f\u2800")  # letters and marks that draw nothing
_EMOJI = re.compile("(?<=[\u2000-\u2bff\u3000-\u33ff\U0001f000-\U0001faff])\ufe0f(?!\ufe0f)")


@lru_cache(maxsize=4_096)
def is_seen(character: str) -> bool:
    if character in _BLANKS or any(low <= ord(character) <= high for low, high in _VARIATION_SELECTORS):
        return False
    return unicodedata.category(character) not in _UNSEEN_CATEGORIES


def without_unseen(text: str) -> str:
    return _UNUSUAL.sub(lambda found: found[0] if is_seen(found[0]) else "", text)


def visible(text: str) -> str:
    """The same text with every character in sight: escapes for terminals are gone, and the rest is named.

    Line ends stay, CRLF among them, and so does the one selector that makes a symbol an emoji. A text without any such
    character is returned as it is; doing it twice changes nothing more.
    """
    if _UNUSUAL.search(text) is None:
        return text
    plain = _EMOJI.sub("", _ESCAPES.sub("", text))
    return "\r\n".join(_UNUSUAL.sub(_named, part) for part in plain.split("\r\n"))


def _named(found: re.Match[str]) -> str:
    return found[0] if is_seen(found[0]) else f"[U+{ord(found[0]):04X}]"
