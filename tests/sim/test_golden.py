"""Old logs stay readable, and no fold needs a word of what was sealed: the golden logs come without blobs or keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_logs import GOLDEN, folded, read
from scenarios import BAD, GOOD, begun, one_by_one

from controller.domain.entry import UnknownEvent
from controller.errors import Permanent
from controller.ledger.rebuild import rebuilt
from controller.ledger.seals import LocalSeals


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_golden_log_folds_to_the_phases_it_had_with_all_sealed_text_destroyed(path: Path) -> None:
    entries = read(path)
    assert not [entry.kind for entry in entries if isinstance(entry.event, UnknownEvent)]
    assert folded(entries) == json.loads(path.with_suffix(".json").read_text())
    assert {row.terminal for row in rebuilt(entries).streams.values() if row.stream.startswith("delivery/")} == {True}


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
