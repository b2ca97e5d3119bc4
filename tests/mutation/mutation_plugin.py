"""What pytest does differently here: it says which test executes which lines, or runs the chosen tests in their order.

Loaded with `-p mutation_plugin`, never by a `conftest.py`: everybody else's runs stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

RECORD, CHOSEN = "MUTATION_RECORD", "MUTATION_CHOSEN"  # environment variables that name a file


class Recorder:
    """Lines by test, and how long each that passed took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        targets = json.loads((folder / "targets.json").read_text())
        self.coverage = coverage.Coverage(
            data_file=str(folder / "coverage"), include=targets, config_file=False, concurrency="thread"
        )
        self.coverage.set_option("run:disable_warnings", ["no-data-collected"])  # not every test is about them
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        self.coverage.save()
        passed = {name: seconds for name, seconds in self.seconds.items() if name not in self.failed}
        (self.folder / "passed.json").write_text(json.dumps(passed))


class Chooser:
    """Only these tests, in this order."""

    def __init__(self, chosen: list[str]) -> None:
        self.order = {name: at for at, name in enumerate(chosen)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    if folder := os.environ.get(RECORD):
        config.pluginmanager.register(Recorder(Path(folder)))
    if chosen := os.environ.get(CHOSEN):
        config.pluginmanager.register(Chooser(json.loads(Path(chosen).read_text())))
