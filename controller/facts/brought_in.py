"""What a program fetches from strangers without a manifest: scripts of pages, imports by address, installs, PEP 723.

Only what the base did not fetch in the same file counts. An address that is put together, or an install that a library
makes, is not seen.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from controller.facts.tree import ChangedFile, NotedDependency

_HOST = r"(?:https?:)?//([^/\s\"'`<>]{1,200})"
_INSTALLERS = r"(pip3?|npm|npx|yarn|pnpm|gem|apt-get|apt|apk)"
_STARTS = r"(?:system|run|call|check_call|check_output|popen|exec|execSync|spawn)"
_FETCHES = (
    ("web", rf"<script\b[^<>]{{0,300}}?\bsrc\s{{0,4}}=\s{{0,4}}[\"']?{_HOST}"),
    ("web", rf"\b(?:import|from|importScripts)\b[^;\n]{{0,200}}?[\"'`]https?:{_HOST}"),
    ("shell", r"\b(?:curl|wget)\b[^|\n]{0,300}\|\s{0,4}(?:sudo\s{1,4})?((?:ba|z|da|k)?sh|python3?|node)\b"),
    ("install", rf"[\"']{_INSTALLERS}[\"']\s{{0,4}},\s{{0,4}}[\"'](?:install|add|i|exec)[\"']"),
    ("install", rf"\b{_STARTS}\([^)\n]{{0,80}}\b{_INSTALLERS}\s{{1,4}}(?:install|add|i|exec)\b"),
)
_PATTERNS = tuple((ecosystem, re.compile(pattern, re.IGNORECASE)) for ecosystem, pattern in _FETCHES)


def brought_in(file: ChangedFile) -> Iterator[NotedDependency]:
    """Raises ValueError for PEP 723 metadata that is no TOML."""
    for ecosystem, name in sorted(_fetched(file.after or "") - _fetched(file.before or "")):
        yield NotedDependency(ecosystem=ecosystem, path=file.path, what="added", name=name)


def _fetched(text: str) -> set[tuple[str, str]]:
    found = {(ecosystem, one.group(1)) for ecosystem, pattern in _PATTERNS for one in pattern.finditer(text)}
    told = tomllib.loads("\n".join(_script_metadata(text)))
    return found | {("pypi", str(name)) for name in told.get("dependencies", [])}


def _script_metadata(text: str) -> list[str]:
    """The lines of the first block of PEP 723, without their marks. Empty: there is none that is closed."""
    block: list[str] | None = None
    for line in text.splitlines() if "# /// script" in text else ():
        if block is None:
            block = [] if line.strip() == "# /// script" else None
        elif line.strip() == "# ///":
            return block
        elif line.startswith("#"):
            block.append(line[2:])
        else:
            block = None
    return []
