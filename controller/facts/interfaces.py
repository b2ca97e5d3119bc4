"""Which public interfaces a change takes away: names that are gone, and Python signatures that take less than before.

A program's own modules are nobody's interface but its own: `ChangedTree.public` says whether others use the interfaces
of this repository's languages. What goes over a wire (protocol buffers, OpenAPI) is an interface either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from controller.facts.definitions import Definitions
from controller.facts.dependencies import names
from controller.facts.tree import ChangedFile, ChangedTree, Noted

_WIRE = re.compile(r"\.proto$|(?:openapi|swagger)[\w.-]*\.(?:ya?ml|json)$")
MOST_NAMED = 50  # of one file


def interfaces_removed(file: ChangedFile, old: Definitions, new: Definitions, tree: ChangedTree) -> Iterator[Noted]:
    wire = _WIRE.search(file.former.lower()) is not None
    if not (tree.public or wire) or _is_private(file.former):
        return
    gone = sorted(old.public - (new.public | new.bound))
    for name in gone[:MOST_NAMED]:
        if name.partition(".")[0] in gone and "." in name:
            continue  # its class says so already
        yield _noted("interface/removed", file, name, old.lines.get(name), tree)
    for name in sorted(old.public & new.public):
        before, after = old.signatures.get(name), new.signatures.get(name)
        if before is not None and after is not None and after.narrower_than(before):
            yield _noted("interface/narrowed", file, name, new.lines.get(name), tree)


def _noted(rule: str, file: ChangedFile, name: str, line: int | None, tree: ChangedTree) -> Noted:
    asked = names(tree.task, name.rpartition(".")[2])
    return Noted(rule=rule, path=file.path, line=line, words=name, asked=asked)


def _is_private(path: str) -> bool:
    """By Python's and Go's own words for it."""
    parts = path.split("/")
    return any((part.startswith("_") and not part.startswith("__")) or part == "internal" for part in parts)
