"""Exports: a window of the log, or everything about one delivery, as evidence that is checked offline.

An export speaks of the log at the size of its last signed checkpoint; what has been appended since comes with the next
one. Memory does not grow with the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controller.compliance.bundle import CHECKPOINT, Bundle, Standing, bundle
from controller.compliance.population import Population, csv_of
from controller.errors import ConfigError
from controller.ledger.tiles import TreeReader

POPULATION = "population.csv"


@dataclass(frozen=True, slots=True)
class Exported:
    folder: Path
    entries: int
    changes: int  # rows of the population
    standing: Standing


@dataclass(frozen=True, slots=True)
class About:
    """Entries out of the middle of the log, in its order."""

    title: str
    indices: tuple[int, ...]
    beside: tuple[int, ...] = ()  # not written down, but what they say counts in the population: who reverted it


@dataclass(frozen=True, slots=True)
class Written:
    leaves: tuple[bytes, ...]
    changes: int


def export_window(
    log: TreeReader,
    standing: Standing,
    window: range,
    *,
    folder: Path,
    made_at: datetime,
    earlier: int = 0,
) -> Exported:
    """The entries of a window, all of them. `earlier`: the size of evidence that somebody holds already; 0: none.

    Raises ConfigError for a window that is empty or not signed yet, Permanent when the folder exists.
    """
    size = standing.checkpoint.size
    start, stop = window.start, min(window.stop, size)
    if not 0 <= start < stop:
        raise ConfigError(
            f"there are no entries from {start} to {stop} in the {size} that are signed", "Ask for a wider window"
        )
    with bundle(folder, standing) as made:
        population = Population()
        for leaf in log.leaves(0, start):
            population.read(leaf)
        for leaf in made.window(log, start, stop):
            population.read(leaf)
        for leaf in log.leaves(stop, size):
            population.read(leaf)
        changes = _write_population(made, population, range(start, stop))
        made.grew_from(log, earlier)
        made.finish(f"Entries {start} to {stop - 1} of {standing.checkpoint.origin}.", made_at)
    return Exported(folder, stop - start, changes, standing)


def export_chosen(log: TreeReader, standing: Standing, about: About, *, folder: Path, made_at: datetime) -> Exported:
    """These entries, each with a receipt. Those that are not signed yet are left out.

    Raises ConfigError when none is left, Permanent when the folder exists.
    """
    with bundle(folder, standing) as made:
        found = write_chosen(made, log, about)
        made.finish(f"{about.title}, of {standing.checkpoint.origin}.", made_at)
    return Exported(folder, len(found.leaves), found.changes, standing)


def write_chosen(made: Bundle, log: TreeReader, about: About) -> Written:
    """Entries, receipts and the rows of the changes among them."""
    size = made.standing.checkpoint.size
    indices = [index for index in about.indices if index < size]
    if not indices:
        raise ConfigError(
            f"no entry about {about.title} is signed yet", "Wait a second, or look whether the signer runs"
        )
    population, leaves = Population(), []
    for leaf in made.chosen(log, indices):
        population.read(leaf)
        leaves.append(leaf)
    for index in about.beside:
        population.read(log.leaf(index))
    return Written(tuple(leaves), _write_population(made, population, indices))


def size_of(evidence: Path) -> int:
    """The size of the log that an earlier export speaks of. Raises ConfigError when it is none."""
    try:
        return int((evidence / CHECKPOINT).read_text().split("\n")[1])
    except (OSError, IndexError, ValueError) as error:
        raise ConfigError(f"{evidence} is no export: {error}", "Name the folder of an earlier export") from error


def _write_population(made: Bundle, population: Population, wanted: Sequence[int]) -> int:
    count, indices = -1, wanted if isinstance(wanted, range) else frozenset(wanted)  # the first line is the header
    with made.file(POPULATION) as writing:
        for line in csv_of(population.rows(indices.__contains__)):
            writing.write(line)
            count += 1
    return count
