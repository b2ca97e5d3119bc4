"""The population: every change that landed, one row each, from which a reviewer draws a sample.

Rows are made while the log is read once from its beginning, because a change may have been asked for long before the
window in which it landed, and reverted long after. What is kept is one small record per delivery, never an entry.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from controller.ledger.merkle import leaf_hash

COLUMNS = (
    "change_id",
    "commit",
    "landed_at",
    "repository",
    "feature",
    "requester",
    "author",
    "session",
    "model",
    "model_label",
    "prompt_digest",
    "approver",
    "approved_by_person",
    "policy_rules",
    "policy_digest",
    "colour",
    "tests",
    "tests_passed",
    "live_at",
    "confirmed_at",
    "rolled_back_at",
    "reverted_by",
    "log_index",
    "leaf_hash",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


@dataclass(slots=True)
class _Change:
    known: dict[str, str] = field(default_factory=dict)  # columns so far, of the head under way
    landed: list[dict[str, str]] = field(default_factory=list)


class Population:
    def __init__(self) -> None:
        self._changes: dict[str, _Change] = {}
        self._reverts: dict[str, str] = {}  # the delivery that reverts a commit: the commit

    def read(self, leaf: bytes) -> None:
        """One entry, in the order of the log. Most are passed over without being parsed."""
        if not any(mark in leaf for mark in _MARKS):
            return
        entry: dict[str, Any] = json.loads(leaf)
        kind, _, delivery = entry["stream"].partition("/")
        taken = _TAKEN.get(entry["kind"])
        if taken is None or kind != "delivery":
            return
        change = self._changes.setdefault(delivery, _Change())
        said = {name: _cell(value) for name, value in taken(entry, entry["body"]).items()}
        if entry["kind"] == "Merged":
            change.landed.append({**change.known, **said, "change_id": delivery, "leaf_hash": leaf_hash(leaf).hex()})
        elif entry["kind"] in _AFTERWARDS:
            for row in change.landed[-1:]:
                row.update({name: value for name, value in said.items() if not row.get(name)})
        else:
            change.known.update(said)
        if entry["kind"] == "TaskRequested" and entry["body"]["cause"] == "revert":
            self._reverts[delivery] = entry["body"]["bad_commit"]

    def rows(self, wanted: Callable[[int], bool]) -> Iterator[dict[str, str]]:
        """In the order in which they landed; those whose log index is `wanted`."""
        reverted = {commit: by for by, commit in self._reverts.items() if self._changes[by].landed}
        found = [row for change in self._changes.values() for row in change.landed if wanted(int(row["log_index"]))]
        for row in sorted(found, key=lambda row: int(row["log_index"])):
            yield {**row, "reverted_by": reverted.get(row["commit"], "")}


def csv_of(rows: Iterable[dict[str, str]]) -> Iterator[bytes]:
    """The header, and a line a row."""
    yield _line({name: name for name in COLUMNS})
    for row in rows:
        yield _line(row)


def _line(row: dict[str, str]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """None is empty. A text that a spreadsheet would take for a formula gets a quote before it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            text = str(value)
            return f"'{text}" if text.startswith(_FORMULA) else text


def _requested(_: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return {"repository": body["repository"], "feature": body["feature"], "requester": body["asked_by"]}


def _authored(entry: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return {
        "author": entry["principal"],
        "session": body["session"],
        "model": body["model"],
        "model_label": body["label"],
        "prompt_digest": body["prompt_digest"],
    }


def _classified(_: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    verdict = body["verdict"]
    return {"colour": verdict["colour"], "policy_rules": " ".join(verdict["rules"])}


def _cleared(_: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return {"approver": body["approver"], "approved_by_person": body["by_person"], "policy_digest": body["policy"]}


_AFTERWARDS = frozenset({"ReleaseLive", "DeliveryConfirmed", "RolledBack"})
_TAKEN: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "TaskRequested": _requested,
    "ChangeAuthored": _authored,
    "CiReported": lambda _, body: {"tests": body["tests"], "tests_passed": body["passed"]},
    "RiskClassified": _classified,
    "Cleared": _cleared,
    "Merged": lambda entry, body: {
        "commit": body["commit"],
        "landed_at": entry["time"],
        "log_index": entry["index"],
    },
    "ReleaseLive": lambda entry, _: {"live_at": entry["time"]},
    "DeliveryConfirmed": lambda entry, _: {"confirmed_at": entry["time"]},
    "RolledBack": lambda entry, _: {"rolled_back_at": entry["time"]},
}
_MARKS = tuple(f'"kind":"{kind}"'.encode() for kind in _TAKEN)
