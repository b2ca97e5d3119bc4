"""Which mutants are run, and the controls among them. Everything is drawn from one seed.

A control means the same as the source and looks different: as text, as a syntax tree and as bytecode. Tests that fail
on one would fail on anything that is not the file they were written against, or at random: then nothing is measured.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence

from .edits import Edit, Mutant, Source

CONTROL = "control"
EARLY = 6  # a budget that ends soon must not end before the first control
SAME: tuple[tuple[bytes, bytes], ...] = ((b"(((", b"),)[0])"), (b"([(", b")][-1])"), (b"({0: (", b")}[0])"))


def sampled(mutants: Sequence[Mutant], most: int, draw: random.Random) -> list[Mutant]:
    """At most `most`, taken in turn from every changed function, so that a long one does not speak for all."""
    groups: dict[tuple[str, str], list[Mutant]] = {}
    for one in mutants:
        groups.setdefault((one.path, one.function), []).append(one)
    queues = [draw.sample(group, len(group)) for _, group in sorted(groups.items())]
    draw.shuffle(queues)
    taken: list[Mutant] = []
    while queues and len(taken) < most:
        taken += [queue.pop() for queue in queues][: most - len(taken)]
        queues = [queue for queue in queues if queue]
    return taken


def controls_of(source: Source, lines: set[int], draw: random.Random) -> list[Mutant]:
    """Best first: expressions of these lines that are computed, then constants, then a comment below the last line.

    No line, no control.
    """
    computed: list[Mutant] = []
    fixed: list[Mutant] = []
    for part in (part for node in ast.walk(source.tree) for part in _computed(node)):
        if part.lineno in lines:
            for before, after in draw.sample(SAME, len(SAME)):
                edit = source.replaced(part, before + source.text(part) + after, CONTROL)
                one = Mutant(source.path, part.lineno, "", edit)
                (fixed if isinstance(part, ast.Constant) else computed).append(one)
    draw.shuffle(computed)
    draw.shuffle(fixed)
    end = len(source.data)
    notes = [Edit(end, end, b"\n# %d\n" % number, CONTROL) for number in range(2)]
    return [*computed, *fixed, *(Mutant(source.path, min(lines), "", note) for note in notes if lines)]


def _computed(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        return [node.test]
    if isinstance(node, (ast.Return, ast.Assign, ast.AugAssign, ast.Expr)) and node.value is not None:
        return [] if isinstance(node.value, (ast.Yield, ast.YieldFrom, ast.Starred)) else [node.value]
    return []


def mixed(mutants: Sequence[Mutant], controls: Sequence[Mutant], draw: random.Random) -> list[Mutant]:
    """The mutants in their order, with controls at places that nobody can foretell, the first of them early."""
    runs = list(mutants)
    for number, control in enumerate(controls):
        runs.insert(draw.randint(0, min(len(runs), EARLY) if number == 0 else len(runs)), control)
    return runs


def compiles(source: Source, mutant: Mutant) -> bool:
    try:
        compile(mutant.edit.apply(source.data), source.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
