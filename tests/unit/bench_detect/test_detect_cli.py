"""The bench from its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.detect import table
from bench.detect.__main__ import main
from bench.detect.cells import Cell


def test_a_quick_look_prints_tables_and_writes_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "all.json"
    main(["--quick", "--runs", "10", "--only", "errors", "--only", "bound", "--seed", "3", "--json", str(written)])
    told, progress = capsys.readouterr()
    assert "| 5 | **E1**, alpha 0.001 |" in told
    assert "First, as configured by default:" in told
    assert "errors, 0.5 canary requests a second: incident" in progress
    found = json.loads(written.read_text())
    assert found["seed"] == 3
    cells = {(c["canary_rps"], c["scenario"], c["method"], c["alpha_ppm"]): c for c in found["cells"]}
    always_failing = cells[5.0, "100 %", "E1 tol 1.25", 1_000]
    assert (always_failing["percent"], always_failing["is_null"]) == (100.0, False)
    assert always_failing["median_minutes"] < cells[5.0, "100 %", "Argo >1 %, fl=0", None]["median_minutes"]
    assert cells[5.0, "null", "Argo >1.2x stable, fl=3", None]["percent"] > 90
    assert {row["canary_rps"] for row in found["bound"]} == {0.5, 5.0}
    assert all(row["split_percent"] <= row["oracle_percent"] + 1e-6 for row in found["bound"])


def test_the_same_seed_finds_the_same_whatever_else_is_run(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    few = ["--quick", "--runs", "5", "--null-runs", "10", "--alpha-ppm", "20000", "--only", "errors"]
    main([*few, "--json", str(alone)])
    main(["--only", "noise", *few, "--json", str(together)])
    both = json.loads(together.read_text())["cells"]
    assert json.loads(alone.read_text())["cells"] == [each for each in both if each["section"] == "errors"]
    assert {each["section"] for each in both} == {"errors", "noise"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs", "0"], "0 rollouts show nothing"),
        (["--alpha-ppm", "900000"], "give 1 to 500000 millionths"),
        (["--only", "everything"], "invalid choice: 'everything'"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_way_out(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err


def cell(method: str, alpha_ppm: int | None, flagged: int, minutes: float | None, *, scenario: str = "x5") -> Cell:
    return Cell("errors", 5.0, scenario, method, scenario == "null", 1_000, flagged, minutes, alpha_ppm)


def test_a_peer_that_is_quiet_and_earlier_is_said_to_be_first_and_a_loud_one_is_named() -> None:
    cells = [
        cell("E1", 1_000, 0, None, scenario="null"),
        cell("Kayenta", None, 3, None, scenario="null"),
        cell("Argo", None, 300, 9.0, scenario="null"),
        cell("E1", 1_000, 1_000, 6.0),
        cell("Kayenta", None, 1_000, 5.0),
        cell("Argo", None, 1_000, 1.0),
    ]
    (line,) = table.first_lines(cells, table.is_ours)
    assert "NOT FIRST: Kayenta" in line
    assert line.endswith("but not quiet: Argo")


def test_a_promise_is_kept_only_when_the_upper_bound_says_so() -> None:
    kept = [cell("E1", 10_000, 2, None, scenario="null")]
    unshown = [cell("E1", 1_000, 0, None, scenario="null")]
    broken = [cell("E1", 1_000, 20, None, scenario="null")]
    starts = [next(table.promise_lines(cells)).split(":")[0] for cells in (kept, unshown, broken)]
    assert starts == ["- kept", "- not shown", "- BROKEN"]
