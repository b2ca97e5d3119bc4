"""What share of mutants honest changes kill: the shop's tasks, the library's, and small changes with ordinary tests.

PYTHONPATH=. .venv/bin/python bench/mutants.py [--bound 60] [--samples 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_mutants import measure
from controller.adapters.sandbox import Sandbox
from controller.domain.change import MutantFacts
from controller.domain.ids import Commit

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SEEDS = ("a", "b", "c")  # commits to draw a sample from


@dataclass(frozen=True)
class Honest:
    name: str
    base: Path
    head: Path


def edited(tree: Path, edits: list[dict[str, Any]]) -> None:
    for edit in edits:
        path = tree / edit["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if "content" in edit:
            path.write_text(edit["content"])
        else:
            text = path.read_text()
            assert edit["old"] in text, edit
            path.write_text(text.replace(edit["old"], edit["new"], 1))


def honest_changes(folder: Path) -> Iterator[Honest]:
    shop = [yaml.safe_load((EXAMPLES / "shop_tasks" / f"{name}.yaml").read_text()) for name in ("good", "fix", "bad")]
    yield scripted(folder / "good", "shop: volume discount", EXAMPLES / "shop", [], shop[0]["edits"])
    yield scripted(folder / "fix", "shop: loyalty, corrected", EXAMPLES / "shop", shop[0]["edits"], shop[1]["edits"])
    yield scripted(
        folder / "bad", "shop: loyalty, with its defect", EXAMPLES / "shop", shop[0]["edits"], shop[2]["edits"]
    )
    library = yaml.safe_load((ROOT / "tests" / "e2e" / "scripts" / "library.yaml").read_text())
    yield scripted(folder / "library", "library: separator", EXAMPLES / "library", [], library["edits"])
    for number, change in enumerate(yaml.safe_load(Path(__file__).with_name("mutants_honest.yaml").read_text())):
        base, head = folder / str(number) / "base", folder / str(number) / "head"
        for tree, files in ((base, change["base"]), (head, {**change["base"], **change["head"]})):
            tree.mkdir(parents=True)
            edited(tree, [{"path": path, "content": text} for path, text in files.items()])
            (tree / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        yield Honest(change["name"], base, head)


def scripted(folder: Path, name: str, source: Path, before: list[Any], edits: list[Any]) -> Honest:
    base, head = folder / "base", folder / "head"
    for tree in (base, head):
        shutil.copytree(source, tree)
        edited(tree, before)
    edited(head, edits)
    return Honest(name, base, head)


async def measured(sandbox: Sandbox, change: Honest, seed: str) -> MutantFacts:
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(change.head, tree)
        config, commit = CiConfig(environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),)), Commit(seed * 40)
        return await measure(sandbox, tree, config, Path(scratch), base=change.base, commit=commit)


async def main(bound: int, samples: int) -> None:
    sandbox, yellow, shares = await Sandbox.best(), 0, []
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"
    )
    print(f"load {os.getloadavg()[0]:.1f}; {samples} samples a change; {sandbox.isolation}\n")
    print("| change | possible | share killed | least | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for change in honest_changes(Path(folder)):
            found = [await measured(sandbox, change, seed) for seed in SEEDS[:samples]]
            if not all(one.measured for one in found):
                print(f"| {change.name} | {' '.join({one.why_not for one in found})} | | | |")
                continue
            kills = [100 * (one.share_killed or 0) for one in found]
            mean, least, took = sum(kills) / len(kills), min(kills), sum(one.took_ms for one in found) / len(found)
            print(
                f"| {change.name} | {found[0].possible} | {mean:.0f} % | {least:.0f} % | {took / 1000:.1f} |",
                flush=True,
            )
            shares.append(mean)
            yellow += least < bound
    print(f"\n{yellow} of {len(shares)} below {bound} % in at least one sample; mean {sum(shares) / len(shares):.0f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bound", type=int, default=60)
    parser.add_argument("--samples", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1))
    asked = parser.parse_args()
    asyncio.run(main(asked.bound, asked.samples))
