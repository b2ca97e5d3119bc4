"""The index finds what the log says, however it was built, and can be thrown away."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import ConfigError, Permanent
from controller.metrics.audit_facets import Facet
from controller.metrics.audit_index import PIECE, PIECE_BYTES, AuditIndex, _bits, _members
from controller.metrics.audit_query import Question, ask, every, place_at, time_of

GOLDEN = (Path(__file__).parents[1] / "golden" / "first.jsonl").read_bytes().splitlines()
RAW = [json.loads(leaf) for leaf in GOLDEN]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Leaves:
    """A log that is held in memory."""

    def __init__(self, leaves: list[bytes]) -> None:
        self._leaves = leaves

    def size(self) -> int:
        return len(self._leaves)

    def leaf(self, index: int) -> bytes:
        return self._leaves[index]

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        return iter(self._leaves[start:stop])


def long_log(size: int) -> list[bytes]:
    """The golden log over and over, its streams and indices made new each time."""
    found = []
    for index in range(size):
        entry, again = RAW[index % len(RAW)], index // len(RAW)
        time = datetime.fromisoformat(entry["time"]) + again * timedelta(hours=1)
        changed = {**entry, "index": index, "stream": f"{entry['stream']}-{again}", "time": time.isoformat()}
        found.append(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())
    return found


@pytest.fixture
def index(tmp_path: Path) -> Iterator[AuditIndex]:
    found = AuditIndex(tmp_path / "audit-index.db")
    yield found
    found.close()


@pytest.fixture
def golden(index: AuditIndex) -> Leaves:
    found = Leaves(GOLDEN)
    assert index.catch_up(found) == len(GOLDEN)
    return found


def indices(index: AuditIndex, log: Leaves, text: str = "", **where: str) -> list[int]:
    return every(index, log, Question({Facet(name): (value,) for name, value in where.items()}, text))


def test_every_kind_of_entry_is_found_and_nothing_else(index: AuditIndex, golden: Leaves) -> None:
    for kind in {entry["kind"] for entry in RAW}:
        assert indices(index, golden, kind=kind) == [entry["index"] for entry in RAW if entry["kind"] == kind]


def test_a_landing_is_found_by_the_model_that_wrote_the_change(index: AuditIndex, golden: Leaves) -> None:
    made = {entry["stream"]: entry["body"]["model"] for entry in RAW if entry["kind"] == "ChangeAuthored"}
    landed = [entry for entry in RAW if entry["kind"] == "Merged"]
    by_model = [entry["index"] for entry in landed if made[entry["stream"]] == "claude-sonnet-5-5"]
    assert indices(index, golden, kind="Merged", model="claude-sonnet-5-5") == by_model
    assert len(by_model) < len(landed), "a revert, which no model made, is among them"


def test_an_effects_outcome_is_found_by_the_delivery_that_its_intent_names(index: AuditIndex, golden: Leaves) -> None:
    delivery = RAW[0]["body"]["delivery"]
    subject = f"delivery/{delivery}"
    intents = [e for e in RAW if e["kind"] == "EffectIntended" and e["body"]["subject"] == subject]
    streams = {entry["stream"] for entry in intents}
    outcomes = [entry["index"] for entry in RAW if entry["stream"] in streams and entry["kind"] == "EffectDone"]
    assert set(outcomes) <= set(indices(index, golden, kind="EffectDone", delivery=delivery))
    pushes = indices(index, golden, kind="EffectDone", tool="forge.push")
    assert pushes
    assert all("/push/" in RAW[at]["stream"] for at in pushes)


def test_a_session_is_found_by_role_and_by_the_prompt_it_was_given(index: AuditIndex, golden: Leaves) -> None:
    begun = next(entry for entry in RAW if entry["kind"] == "SessionStarted")
    session = begun["stream"].removeprefix("session/")
    own = [entry["index"] for entry in RAW if entry["stream"] == begun["stream"]]
    assert set(own) <= set(indices(index, golden, session=session))
    assert set(own) <= set(indices(index, golden, agent="author"))
    assert set(own) <= set(indices(index, golden, prompt=begun["body"]["prompt_digest"]))


def test_words_of_reasons_are_found_in_any_order_and_sealed_text_is_not(index: AuditIndex, golden: Leaves) -> None:
    regressed = [entry["index"] for entry in RAW if entry["kind"] == "RegressionFound"]
    assert regressed == indices(index, golden, "users? hurting Release", kind="RegressionFound")
    sealed = {entry["body"]["task"]["digest"] for entry in RAW if entry["kind"] == "TaskRequested"}
    for digest in sealed:
        assert indices(index, golden, digest.removeprefix("sha256:")) == []


def test_either_value_of_one_facet_and_all_facets_must_hold(index: AuditIndex, golden: Leaves) -> None:
    both = every(index, golden, Question({Facet.KIND: ("Merged", "Landed"), Facet.REPOSITORY: ("shop",)}))
    assert both == [entry["index"] for entry in RAW if entry["kind"] in ("Merged", "Landed")]
    assert indices(index, golden, kind="Merged", repository="another") == []


def test_a_span_of_time_is_a_span_of_entries(index: AuditIndex, golden: Leaves) -> None:
    since, until = (datetime.fromisoformat(RAW[at]["time"]) for at in (100, 300))
    found = every(index, golden, Question(since=since, until=until))
    assert found == [e["index"] for e in RAW if since <= datetime.fromisoformat(e["time"]) < until]
    assert place_at(golden, NOW) == len(RAW)


def test_pages_are_newest_first_and_miss_nothing(index: AuditIndex, golden: Leaves) -> None:
    found: list[int] = []
    before, total = None, 0
    while True:
        answer = ask(index, golden, Question({Facet.KIND: ("EffectDone",)}, before=before, limit=7))
        total = total or answer.total
        found += answer.hits
        if (before := answer.before) is None:
            break
    assert found[::-1] == [entry["index"] for entry in RAW if entry["kind"] == "EffectDone"]
    assert total == len(found)


def test_an_index_that_grew_with_the_log_is_the_one_that_is_built_at_once(tmp_path: Path) -> None:
    leaves = long_log(PIECE + 700)
    grown, built = AuditIndex(tmp_path / "grown.db"), AuditIndex(tmp_path / "built.db")
    steps = sorted({*random.Random(4).sample(range(len(leaves)), 12), PIECE, len(leaves)})
    for size in steps:
        grown.catch_up(Leaves(leaves[:size]))
    built.catch_up(Leaves(leaves))
    assert contents(tmp_path / "grown.db") == contents(tmp_path / "built.db")
    assert built.position == len(leaves)
    grown.close()
    built.close()


def contents(path: Path) -> dict[tuple[str, str, int], int]:
    db = sqlite3.connect(path)
    rows = db.execute("SELECT facet, value, piece, members FROM sets JOIN keys ON id = key").fetchall()
    db.close()
    return {(facet, value, piece): _bits(members) for facet, value, piece, members in rows}


def test_the_index_of_another_log_is_thrown_away(tmp_path: Path, index: AuditIndex, golden: Leaves) -> None:
    changed = [*GOLDEN[:-1], GOLDEN[-1].replace(b"2026-", b"2027-", 1)]
    assert index.catch_up(Leaves(changed)) == len(changed)
    assert index.catch_up(Leaves(changed[:10])) == 10
    assert indices(index, Leaves(changed[:10]), kind="Merged") == []


def test_a_deleted_index_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "audit-index.db"
    for _ in range(2):
        index = AuditIndex(path)
        index.catch_up(Leaves(GOLDEN))
        assert len(indices(index, Leaves(GOLDEN), kind="Merged")) == sum(e["kind"] == "Merged" for e in RAW)
        index.close()
        for file in tmp_path.iterdir():
            file.unlink()


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "audit-index.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(Permanent, match="Delete it"):
        AuditIndex(path)


@given(st.lists(st.sets(st.integers(0, PIECE - 1), max_size=700), max_size=4))
def test_a_set_is_the_same_however_it_is_stored(parts: list[set[int]]) -> None:
    stored, all_of_it = b"", set[int]()
    for part in parts:
        fresh = sorted(part - all_of_it)
        stored = _members(fresh, stored)
        all_of_it |= part
        assert len(stored) <= PIECE_BYTES
        assert _bits(stored) == sum(1 << place for place in all_of_it)


@pytest.mark.parametrize(("said", "meant"), [("30d", NOW - timedelta(days=30)), ("2h", NOW - timedelta(hours=2))])
def test_a_time_may_be_said_as_how_long_ago(said: str, meant: datetime) -> None:
    assert time_of(said, NOW) == meant


def test_a_time_without_a_zone_is_utc_and_nonsense_is_refused() -> None:
    assert time_of("2026-11-22", NOW) == datetime(2026, 11, 22, tzinfo=UTC)
    assert time_of("2026-11-22T09:00+01:00", NOW) == datetime(2026, 11, 22, 8, tzinfo=UTC)
    with pytest.raises(ConfigError, match="no time"):
        time_of("yesterday", NOW)
