"""Which tests execute which lines: found once, kept by test file, and asked for the tests that may notice a mutant.

What is kept is known by the digest of the test file and of the files that are mutated: whoever changes one test file
pays for that file alone. A kit beside it that has changed makes the choice of tests worse, never an answer wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

import coverage
from mutation_plugin import RECORD
from mutation_sites import Mutant

HERE = Path(__file__).resolve().parent
LEFT_OUT = (".git", ".venv*", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".flyball")
PLUGINS = ("mutation_plugin", "pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
QUIET = ("-q", "--tb=no", "-p", "no:cacheprovider", *(part for name in PLUGINS for part in ("-p", name)))
MAP_S = 3_600  # for one batch of test files
BATCH = 12  # files a run: each run pays for its imports once
ENOUGH = 400  # tests of one mutant that are ever thought about


@dataclass
class Covering:
    """Tests by file and line. `seconds` names those that passed, and only they count."""

    lines: dict[str, dict[int, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, kept: dict[str, dict[str, object]]) -> None:
        for name, what in kept.items():
            self.seconds[name] = float(str(what["seconds"]))
            lines = what["lines"]
            assert isinstance(lines, dict)
            for file, numbers in lines.items():
                for number in numbers:
                    self.lines[file][number].add(name)

    def of(self, mutant: Mutant) -> list[str]:
        """Fast ones and those that come to the rarest lines of the function in turn. Empty: no test executes it."""
        known = self.lines.get(mutant.file, {})
        wanted = mutant.lines or frozenset(known)
        tests = set(chain.from_iterable(known.get(line, ()) for line in wanted))
        if not tests and not mutant.function:  # a table that other modules read
            tests = set(chain.from_iterable(known.values()))
        fast = _one_of_each(sorted(tests, key=lambda one: (self.seconds[one], one)))
        rare = _one_of_each(sorted(tests, key=lambda one: (-self._rarity(one, mutant), self.seconds[one], one)))
        mixed = chain.from_iterable(zip_longest(fast, rare))
        return list(dict.fromkeys(one for one in mixed if one is not None))[:ENOUGH]

    def _rarity(self, test: str, mutant: Mutant) -> float:
        known = self.lines[mutant.file]
        return sum(1 / len(known[line]) for line in mutant.around if line in known and test in known[line])


def _one_of_each(tests: Sequence[str]) -> list[str]:
    """The first of every function before the second of any: its parameters differ less than two functions do."""
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for at, name in enumerate(tests):
        function = name.partition("[")[0]
        ranked.append((seen[function], at, name))
        seen[function] += 1
    return [name for _, _, name in sorted(ranked)]


def copied(root: Path, to: Path) -> Path:
    """The project without its environment and its history, to be changed at will."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    return to


def environment(**more: str) -> dict[str, str]:
    """Of a run: plugins are named one by one, for finding and importing all that are installed takes a second."""
    named = {"PYTHONPATH": str(HERE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**os.environ, **named, **more}


def covering(root: Path, tree: Path, tests: Sequence[str], targets: Sequence[str], kept: Path) -> Covering:
    """Of the test files (paths from `root`), run in `tree` where nothing is kept of them in the folder `kept`."""
    kept.mkdir(parents=True, exist_ok=True)
    sources = hashlib.sha256(b"".join((root / one).read_bytes() for one in sorted(targets))).hexdigest()
    places = {
        one: kept / f"{hashlib.sha256(sources.encode() + (root / one).read_bytes()).hexdigest()}.json" for one in tests
    }
    missing = [one for one in tests if not places[one].exists()]
    for at in range(0, len(missing), BATCH):
        batch = missing[at : at + BATCH]
        print(f"Which lines do they execute: {at + len(batch)} of {len(missing)} test files", flush=True)
        found = _recorded(tree, batch, targets, kept / "recording")
        for one in batch:
            places[one].write_text(
                json.dumps({name: what for name, what in found.items() if name.startswith(f"{one}::")})
            )
    result = Covering()
    for place in places.values():
        result.add(json.loads(place.read_text()))
    return result


def _recorded(tree: Path, tests: Sequence[str], targets: Sequence[str], folder: Path) -> dict[str, dict[str, object]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "targets.json").write_text(json.dumps([str(tree / one) for one in targets]))
    command = [sys.executable, "-m", "pytest", *QUIET, *tests]
    with (folder / "output").open("wb") as output:
        subprocess.run(
            command, cwd=tree, env=environment(**{RECORD: str(folder)}), stdout=output, stderr=output, timeout=MAP_S
        )
    if not (folder / "passed.json").exists():
        raise SystemExit(f"The tests could not be run:\n{(folder / 'output').read_text()[-3000:]}")
    return _read(tree, folder)


def _read(tree: Path, folder: Path) -> dict[str, dict[str, object]]:
    passed: dict[str, float] = json.loads((folder / "passed.json").read_text())
    lines: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in passed}
    data = coverage.CoverageData(str(folder / "coverage"))
    if not Path(data.data_filename()).exists():
        return {}
    data.read()
    for file in data.measured_files():
        for line, contexts in data.contexts_by_lineno(file).items():
            for name in contexts:
                if name in lines:
                    lines[name][str(Path(file).relative_to(tree))].append(line)
    return {name: {"seconds": seconds, "lines": lines[name]} for name, seconds in passed.items()}
