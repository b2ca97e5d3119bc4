"""`flyball benchmarks` over a log: the series, the landing that changed one, and what it says when there is none."""

from __future__ import annotations

import asyncio
import getpass
import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, sample

from controller.cli import main
from controller.domain import events as e
from controller.domain.benchmark import MICRO, Benchmark
from controller.domain.entry import Draft
from controller.domain.ids import Branch, Commit, DeliveryId, Repository, StreamId, delivery_stream, queue_stream
from controller.history.benchmarks import MOST_LANDINGS, landings
from controller.ports import Receipt
from controller.recording import Folder, Record, open_record
from controller.settings import FILE, load

SHOP, MAIN = Repository("shop"), Branch("main")
NAME = "pricing_ms"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text('[repository]\nname = "shop"\n')
    open_record(Folder(tmp_path / ".flyball"), load(tmp_path / FILE), tmp_path).close()
    return tmp_path


def flyball(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(main, ["benchmarks", *arguments, "--repo", str(root)])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done


def head_of(number: int) -> Commit:
    return Commit(f"{number:040x}")


def commit_of(number: int) -> Commit:
    return Commit(f"{number:08x}" + "c" * 32)


async def land(record: Record, number: int, *measured: Benchmark, red_first: bool = False) -> DeliveryId:
    """One delivery, from its request to its landing, with the very facts that the loop writes."""
    asked = await record.intake.ask(
        getpass.getuser(), f"Change {number}", repository=SHOP, branch=MAIN, source="cli", event_id=f"m{number}"
    )
    head, stream = head_of(number), delivery_stream(asked.delivery)
    change = sample(e.ChangeAuthored, head=head)
    opened = sample(e.PullRequestOpened, head=head)
    started = sample(e.CiStarted, head=head)
    report = sample(e.CiReported, head=head, passed=True, benchmarks=measured)
    red = sample(e.CiReported, head=Commit("e" * 40), passed=False, benchmarks=(one(NAME, 9_999),))
    facts = [sample(e.TaskAccepted), change, opened, *([red] if red_first else []), started, report]
    await append(record, stream, 1, *facts)
    queue = queue_stream(SHOP, MAIN)
    row = await record.log.stream(queue)
    carried: dict[str, Any] = {"landing": number, "deliveries": (asked.delivery,), "heads": (head,)}
    planned = sample(e.LandingPlanned, **carried, tested=commit_of(number), order=(asked.delivery,), lane="normal")
    checked = sample(e.LandingChecked, landing=number, passed=True)
    landed = sample(e.Landed, **carried, commit=commit_of(number), verified=True)
    await append(record, queue, row.version if row else 0, planned, checked, landed)
    return asked.delivery


async def append(record: Record, stream: StreamId, version: int, *events: e.Event) -> None:
    kept = await record.log.append([Draft(stream, event) for event in events], expect={stream: version}, by=BY)
    assert isinstance(kept, Receipt), kept


def one(name: str, value: float) -> Benchmark:
    return Benchmark(name=name, value_micro=round(value * MICRO), samples=1)


def furnished(root: Path, values: Sequence[float], name: str = NAME) -> list[DeliveryId]:
    record = open_record(Folder(root / ".flyball"), load(root / FILE), root)

    async def all_land() -> list[DeliveryId]:
        return [await land(record, n + 1, one(name, value), red_first=n % 7 == 3) for n, value in enumerate(values)]

    try:
        return asyncio.run(all_land())
    finally:
        record.close()


def shifted(before: int, after: int) -> list[float]:
    rng = random.Random(1)
    return [rng.gauss(14.2, 0.2) for _ in range(before)] + [rng.gauss(19.8, 0.2) for _ in range(after)]


def test_a_change_of_level_is_laid_at_the_door_of_the_landing_that_brought_it(root: Path) -> None:
    deliveries = furnished(root, shifted(12, 6))
    done = flyball(root, NAME)
    assert done.exit_code == 0
    head, change = done.stdout.splitlines()
    assert head == f"pricing_ms: 18 landings, newest {shifted(12, 6)[-1]:.1f} ({deliveries[-1]})"
    assert re.match(r"  14\.\d -> 19\.\d \(\+(39|40|41)%, p < 1e-12\) ", change)
    assert f"since {commit_of(13)[:8]}, landed by {deliveries[12]} (" in change


def test_scripts_get_every_landing_with_its_place_in_the_log(root: Path) -> None:
    deliveries = furnished(root, shifted(12, 6))
    (found,) = json.loads(flyball(root, "--json").stdout)
    assert found["name"] == NAME
    assert [row["delivery"] for row in found["landings"]] == deliveries
    assert [row["commit"] for row in found["landings"]] == [commit_of(n + 1) for n in range(18)]
    assert [row["value_micro"] for row in found["landings"]] == [round(v * MICRO) for v in shifted(12, 6)]
    (change,) = found["change_points"]
    assert (change["delivery"], change["commit"]) == (deliveries[12], commit_of(13))
    assert 0.38 < change["relative_change"] < 0.42
    assert change["p"] < 1e-6
    record = open_record(Folder(root / ".flyball"), load(root / FILE), root)
    reports = [entry for entry in asyncio.run(_reports(record)) if entry[1].passed]
    record.close()
    assert [row["log_entry"] for row in found["landings"]] == [index for index, _ in reports]


async def _reports(record: Record) -> list[tuple[int, e.CiReported]]:
    return [(one.index, one.event) async for one in record.log.scan() if isinstance(one.event, e.CiReported)]


def test_a_log_without_benchmarks_says_so_and_how_to_record_one(root: Path) -> None:
    assert flyball(root).stdout.splitlines()[0] == "no data: none of the 0 landings in the log has recorded a benchmark"
    assert "record_property" in flyball(root).stdout
    assert json.loads(flyball(root, "--json").stdout) == []


def test_an_unknown_name_is_answered_with_the_known_ones(root: Path) -> None:
    furnished(root, [14.2, 14.3])
    done = flyball(root, "pricing_us")
    assert done.exit_code == 1
    assert "no landing has measured 'pricing_us'" in done.stderr
    assert "Known: pricing_ms" in done.stderr


def test_a_steady_series_says_that_it_is_steady(root: Path) -> None:
    furnished(root, shifted(12, 0))
    assert flyball(root).stdout.rstrip().endswith("no change of level")


@pytest.mark.slow
def test_only_the_newest_landings_are_looked_at(root: Path) -> None:
    deliveries = furnished(root, [14.2] * (MOST_LANDINGS + 5))
    record = open_record(Folder(root / ".flyball"), load(root / FILE), root)
    found = asyncio.run(landings(record.log, SHOP, MAIN))
    record.close()
    assert [one.delivery for one in found] == deliveries[5:]
