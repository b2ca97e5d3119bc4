"""Old logs stay readable, and no fold needs a word of what was sealed: the golden logs come without blobs or keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_logs import GOLDEN, folded, read
from scenarios import BAD, GOOD, begun, one_by_one

from controller.canary.replay import replay
from controller.domain import events as e
from controller.domain.control import fold_people
from controller.domain.effect import fold as fold_effect
from controller.domain.entry import Entry, UnknownEvent
from controller.domain.ids import EffectKey, SessionId, StreamId, kind_of, rest_of
from controller.domain.session import fold as fold_session
from controller.errors import Permanent
from controller.ledger.rebuild import rebuilt
from controller.ledger.seals import LocalSeals
from controller.sim.blobs import SimBlobs


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_golden_log_folds_to_the_phases_it_had_with_all_sealed_text_destroyed(path: Path) -> None:
    entries = read(path)
    assert not [entry.kind for entry in entries if isinstance(entry.event, UnknownEvent)]
    assert folded(entries) == json.loads(path.with_suffix(".json").read_text())
    for stream, told in by_stream(entries).items():
        if (fold := FOLDS.get(kind_of(stream))) is not None:
            fold(stream, told)  # sessions, effects and what people said fold without a word, too
    assert {row.terminal for row in rebuilt(entries).streams.values() if row.stream.startswith("delivery/")} == {True}


FOLDS: dict[str, Callable[[StreamId, list[Entry]], object]] = {
    "session": lambda stream, told: fold_session(SessionId(rest_of(stream)), told),
    "effect": lambda stream, told: fold_effect(EffectKey(rest_of(stream)), told),
    "people": lambda _, told: fold_people(told),
}


def by_stream(entries: list[Entry]) -> dict[StreamId, list[Entry]]:
    found: dict[StreamId, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.stream, []).append(entry)
    return found


async def test_every_verdict_of_a_golden_log_is_computed_again_to_the_last_digit() -> None:
    path = GOLDEN / "panel.jsonl"
    blobs, entries = SimBlobs(), [entry for entry in read(path) if entry.stream.startswith("rollout/")]
    for digest, text in json.loads(path.with_suffix(".blobs.json").read_text()).items():
        assert await blobs.put(text.encode()) == digest
    kinds = e.Observed | e.RegressionFound | e.Promoted | e.RecoveryVerified
    judged = [
        one for one in entries if isinstance(one.event, kinds) and getattr(one.event, "verdict", True) is not None
    ]
    for entry in judged:
        again = await replay(entry.stream, entries, entry.index, blobs)
        assert again.differences == (), (entry.index, again.differences)
    assert {entry.kind for entry in judged} == {"Observed", "RegressionFound", "Promoted", "RecoveryVerified"}


def test_the_golden_logs_are_of_both_shapes_of_reasons() -> None:
    """The older one has test names and last words in clear; the newer one has them sealed."""
    reports = {
        path.stem: [one.event for one in read(path) if isinstance(one.event, e.CiReported)]
        for path in GOLDEN.glob("*.jsonl")
    }
    assert {report.results is None for report in reports["first"]} == {True}
    assert {report.results is None for report in reports["reasons"]} == {False}


def test_there_is_a_golden_log() -> None:
    assert list(GOLDEN.glob("*.jsonl"))


async def test_a_destroyed_key_takes_the_words_and_leaves_every_phase(tmp_path: Path) -> None:
    sim = begun(1)
    sim.start("w1")
    await one_by_one(sim, GOOD, BAD)
    entries = await sim.entries()
    before = folded(entries)
    sealed = (await sim.delivery(next(iter(await sim.deliveries())))).task
    assert await sim.seals.open(sealed) == GOOD
    with pytest.raises(Permanent):
        await LocalSeals(tmp_path, sim.blobs).open(sealed)
    sim.blobs.contents.clear()
    assert folded(await sim.entries()) == before
    sim.close()
