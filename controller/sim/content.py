"""What a tree does, read off its text: markers in files stand for the defects that real code would have.

`BROKEN` fails CI. `FLAKY 30%` fails CI by chance. `SURVIVES 40%` is the share of a change's mutants that no test
notices. `UNBUILDABLE` fails the build. `DEAD` never becomes healthy. `CRASHES` goes down under traffic. `MEASURES
pricing_ms 14.2` is what a benchmark comes to in CI, give or take 2 %. `FAILS 10%` answers that share of requests with
an error. `SLOW` doubles every latency. `SILENT` serves and reports nothing of it. `LEAKS` takes ever more memory.
"""

from __future__ import annotations

import re

from controller.domain.benchmark import NAME
from controller.sim.merging import Tree

FAILS = re.compile(r"FAILS (\d+(?:\.\d+)?)%")
MEASURES = re.compile(rf"MEASURES ({NAME}) (\d+(?:\.\d+)?)")
SURVIVES = re.compile(r"SURVIVES (\d+(?:\.\d+)?)%")
FLAKY = re.compile(r"FLAKY (\d+(?:\.\d+)?)%")
ORDINARY_ERRORS = 0.001


def has(tree: Tree, marker: str) -> bool:
    return any(marker in text for text in tree.values())


def error_rate(tree: Tree) -> float:
    """Share of requests that fail; every service fails now and then."""
    found = [float(share) / 100 for text in tree.values() for share in FAILS.findall(text)]
    return max((ORDINARY_ERRORS, *found))


def failing_file(tree: Tree) -> str | None:
    """Where most requests fail. None: nowhere beyond the ordinary."""
    found = [(float(share), path) for path, text in sorted(tree.items()) for share in FAILS.findall(text)]
    return max(found)[1] if found else None


def tests_of(tree: Tree) -> tuple[str, ...]:
    found = tuple(path for path in sorted(tree) if path.startswith("tests/"))
    return found or ("tests/(none)",)


def flakiness(tree: Tree, test: str) -> float:
    """Probability that this test fails for no reason."""
    return max((float(share) / 100 for share in FLAKY.findall(tree.get(test, ""))), default=0.0)


def surviving(tree: Tree) -> float:
    """Share of a change's mutants that no test notices."""
    return max((float(share) / 100 for text in tree.values() for share in SURVIVES.findall(text)), default=0.0)


def measured(tree: Tree) -> dict[str, float]:
    """Level of each benchmark, in its unit. Named by several files: the last of them, by path."""
    return {name: float(level) for path in sorted(tree) for name, level in MEASURES.findall(tree[path])}
