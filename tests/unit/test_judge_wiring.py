"""Where canaries are judged is one setting, and the judge's process is told nothing but where to look."""

from __future__ import annotations

from pathlib import Path

from controller.adapters.judge_process import JudgeProcess
from controller.domain.events import Label
from controller.embedded import judge_in
from controller.recording import Folder
from controller.settings import parse

SERVICE = {"name": "shop", "start": ["shop"], "env": {"PASSWORD": "not-for-judges"}}


def judge(tmp_path: Path, **service: object) -> JudgeProcess | None:
    return judge_in(parse({"service": {**SERVICE, **service}}), Folder(tmp_path), Label.LOAD_TEST)


def test_canaries_are_judged_in_the_controllers_process_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    assert judge(tmp_path) is None
    assert judge_in(parse({}), Folder(tmp_path), Label.LIVE) is None


def test_judges_process_is_told_where_to_look_and_no_more(tmp_path: Path) -> None:
    found = judge(tmp_path, judge_process=True)
    assert found is not None
    told = found._command[found._command.index("controller.service.judging") + 1 :]
    places = str((tmp_path / "edge").resolve()), str((tmp_path / "blobs").resolve())
    assert told == ("--edge", places[0], "--blobs", places[1], "--label", "load_test")


def test_look_ends_well_before_the_step_that_asked_for_it(tmp_path: Path) -> None:
    bounds = {"step_seconds": 8, "lease_seconds": 12}
    settings = parse({"service": {**SERVICE, "judge_process": True}, "bounds": bounds})
    found = judge_in(settings, Folder(tmp_path), Label.LIVE)
    assert found is not None
    assert found._within_s == 4.0
