"""Every edit by hand is found, and the guards are what the log says."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import CONTROL, Digest, MicroUsd, StreamId
from controller.errors import FlyballError
from controller.ledger.blobs import FileBlobs
from controller.ledger.rebuild import differences, rebuilt, stored
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import Report, verify
from controller.ports import Clock, Receipt

DIGEST = Digest("sha256:" + "0" * 64)
BY = Caller("service:controller", DIGEST)
SOON = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
STREAMS = (StreamId("session/a/1"), StreamId("session/b/1"), StreamId("people/a"), StreamId("effect/k"), CONTROL)

EVENTS = st.one_of(
    st.builds(
        e.ModelCallReserved, turn=st.just(0), micro_usd=st.integers(0, 9).map(MicroUsd), request_digest=st.just(DIGEST)
    ),
    st.builds(e.Frozen, scope=st.sampled_from(["all", "service:till"]), reason=st.text(max_size=5)),
    st.builds(e.Stopped, scope=st.just("all"), by=st.just("person:0"), reason=st.just("smoke"), event_id=st.just("1")),
    st.builds(e.Resumed, scope=st.just("all"), by=st.just("person:0"), reason=st.just("out"), event_id=st.just("2")),
    st.builds(e.SessionRevoked, session=st.just("a/1"), by=st.just("person:0"), reason=st.just("done")),
    st.builds(
        e.Waited,
        waits_for=st.sampled_from(e.WaitsFor),
        on=st.sampled_from([None, *STREAMS]),
        until=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
        reason=st.text(max_size=5),
    ),
    st.builds(e.EffectClaimed, owner=st.sampled_from(["one", "two"]), fence=st.integers(1, 9), deadline=st.just(SOON)),
    st.builds(e.EffectDone, fence=st.integers(1, 9), how=st.just("acted"), result=st.just("{}")),
    st.builds(e.Superseded, by=st.just("shop-2")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(st.sampled_from(STREAMS), EVENTS), max_size=25))
async def test_guards_rebuilt_from_the_log_equal_those_that_decided(
    clock: Clock, said: list[tuple[StreamId, e.Event]]
) -> None:
    log = SqliteLog(":memory:", clock, inline=True)
    for stream, event in said:
        row = await log.stream(stream)
        await log.append([Draft(stream, event)], expect={stream: row.version if row else 0}, by=BY)
    entries = [entry async for entry in log.scan()]
    assert len(entries) == len(said)
    assert list(differences(rebuilt(entries), stored(log._reader))) == []
    log.close()


@pytest.fixture
async def whole(path: Path, clock: Clock) -> Path:
    """A log of 40 entries on a closed file, with its triggers dropped: whoever tampers does that first."""
    log = SqliteLog(path, clock)
    for version in range(10):
        for name in ("a", "b", "c"):
            stream = StreamId(f"session/{name}/1")
            event = e.ModelCallReserved(turn=version, micro_usd=MicroUsd(5), request_digest=DIGEST)
            assert isinstance(await log.append([Draft(stream, event)], expect={stream: version}, by=BY), Receipt)
        frozen = e.Frozen(scope=f"service:{version}", reason="three rollbacks")
        assert isinstance(await log.append([Draft(CONTROL, frozen)], expect={CONTROL: version}, by=BY), Receipt)
    log.close()
    assert verify(path) == Report(40, (verify(path)).root, None, ())
    tamper(path, "DROP TRIGGER entries_are_never_changed")
    tamper(path, "DROP TRIGGER entries_are_never_removed")
    return path


def tamper(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def _edit(old: str, new: str) -> str:
    return f"UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '{old}', '{new}') AS BLOB) WHERE idx = 8"  # noqa: S608


_SWAP = "UPDATE entries SET leaf = (SELECT leaf FROM entries WHERE idx = 5) WHERE idx = 1"
TAMPERINGS = {
    "an amount in a leaf": (
        _edit('"micro_usd":5', '"micro_usd":4'),
        {
            "head",
            "counters ('session/a/1', 'all')",
            "counters ('delivery/a', 'all')",
            "counters ('total', '2026-11-22')",
        },
    ),
    "a name in a leaf": (
        _edit("service:controller", "person:controller"),
        {"head"},
    ),
    "a leaf that is no JSON": ("UPDATE entries SET leaf = x'7b' WHERE idx = 8", {"entry 8", "head"}),
    "a leaf in another's place": (_SWAP, {"entry 1", "head"}),
    "a row that belies its leaf": ("UPDATE entries SET kind = 'Frozen' WHERE idx = 8", {"entry 8"}),
    "an entry removed": ("DELETE FROM entries WHERE idx = 8", {"entry 9", "entry 12", "head"}),
    "the newest entry removed": (
        "DELETE FROM entries WHERE idx = 39",
        {"head", "streams control", "control service:9"},
    ),
    "an entry added": (
        "INSERT INTO entries SELECT 40, 'session/z/1', 1, kind, leaf FROM entries WHERE idx = 0",
        {"entry 40", "head"},
    ),
    "a head moved back": ("UPDATE head SET size = 39", {"head"}),
    "a node of the tree": ("UPDATE head SET frontier = zeroblob(64)", {"head"}),
    "the time of the head": ("UPDATE head SET last_time = '2026-11-22T09:00:01.000000+00:00'", {"head"}),
    "a budget refilled": (
        "UPDATE counters SET reserved = 0 WHERE scope = 'total'",
        {"counters ('total', '2026-11-22')"},
    ),
    "a freeze lifted by hand": (
        "UPDATE control SET state = 'running' WHERE scope = 'service:3'",
        {"control service:3"},
    ),
    "a freeze forgotten": ("DELETE FROM control WHERE scope = 'service:3'", {"control service:3"}),
    "a stream ended by hand": ("UPDATE streams SET terminal = 1 WHERE stream = 'session/b/1'", {"streams session/b/1"}),
    "an effect nobody intended": (
        "INSERT INTO effects VALUES ('k', 'done', '', 1, '2026-11-22T09:00:00.000000+00:00')",
        {"effects k"},
    ),
}


@pytest.mark.parametrize("name", list(TAMPERINGS))
def test_tampering_is_found_where_it_was_done(whole: Path, name: str) -> None:
    statement, places = TAMPERINGS[name]
    tamper(whole, statement)
    report = verify(whole)
    assert not report.whole
    assert places <= {finding.where for finding in report.findings}
    assert all(finding.what and finding.way_out for finding in report.findings)


def test_a_page_of_the_file_overwritten_is_found(whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    at = content.index(b'"ModelCallReserved"')
    content[at : at + 8] = b"\xff" * 8
    whole.write_bytes(content)
    assert not verify(whole).whole


def test_a_file_cut_short_is_found(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes()[: 2 * 4096])
    try:
        assert not verify(whole).whole
    except FlyballError as error:
        assert error.way_out  # noqa: PT017 - SQLite may refuse to read such a file at all


async def test_a_log_in_use_can_be_verified(log: SqliteLog, path: Path, say: Callable[..., Awaitable[object]]) -> None:
    for version in range(5):
        await say(log, at=version)
        report = verify(path)
        assert (report.size, report.findings) == (version + 1, ())
        assert report.root == (await log.head()).root


async def test_an_altered_blob_is_found_and_an_erased_one_is_no_finding(whole: Path, tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    kept, altered, erased = [await blobs.put(content) for content in (b"kept", b"altered", b"erased")]
    blobs.path_of(altered).write_bytes(b"alter")
    blobs.path_of(erased).unlink()
    report = verify(whole, tmp_path / "blobs")
    assert report.blobs == 2
    assert [finding.where for finding in report.findings] == [str(blobs.path_of(altered))]
    assert kept not in str(report.findings)


async def test_time_that_runs_backwards_is_found(path: Path, clock: Clock) -> None:
    log = SqliteLog(path, clock)
    stream = StreamId("session/a/1")
    event = e.SessionResumed(turn=0, from_checkpoint=False, reason="")
    await log.append([Draft(stream, event)], expect={stream: 0}, by=BY)
    log._writer.db.execute("UPDATE head SET last_time = ?", ((SOON - timedelta(days=1)).isoformat(),))
    clock.time -= timedelta(hours=1)  # type: ignore[attr-defined]
    await log.append([Draft(stream, event)], expect={stream: 1}, by=BY)
    log.close()
    (finding,) = verify(path).findings
    assert "time runs backwards" in finding.what
