"""Keys of their own for months, people and deliveries: what one destroyed key takes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import BY, HandClock
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import StreamId
from controller.domain.sealed import Sealed
from controller.errors import Permanent
from controller.ledger.blobs import FileBlobs
from controller.ledger.key_store import ERASED, MASTER_KEY, SEALING_KEY, KeyStore, made, named, scope_of
from controller.ledger.merkle import includes
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tiles import inclusion, root_at
from controller.ledger.verify import verify

TEXT = "please ask Grüneberg in room 7"
ANN = "person:0123456789ab"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs", durable=False)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def seals(keys: Path, blobs: FileBlobs, clock: HandClock) -> LocalSeals:
    return LocalSeals(keys, blobs, now=clock.now)


async def test_text_lies_under_the_key_of_its_month_or_of_whom_it_is_about(seals: LocalSeals, clock: HandClock) -> None:
    november = await seals.seal(TEXT)
    clock.time = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
    december = await seals.seal(TEXT)
    hers, its = await seals.seal(TEXT, subject=ANN), await seals.seal(TEXT, subject="delivery/shop-1a2b3c")
    scopes = [scope_of(one.key_id) for one in (november, december, hers, its)]
    assert scopes == ["month/2026-11", "month/2026-12", "person/0123456789ab", "delivery/shop-1a2b3c"]
    assert sorted(one.key_id for one in (november, december, hers, its)) == seals.keys.held()
    seals.keys.destroy(hers.key_id)
    with pytest.raises(Permanent, match="has been destroyed"):
        await seals.open(hers)
    assert [await seals.open(one) for one in (november, december, its)] == [TEXT] * 3


@pytest.mark.parametrize(
    "subject", ["person/../x", "person:ann", "month/2026-13", "root", "delivery/", "delivery/../up"]
)
async def test_what_is_no_scope_gets_no_file(seals: LocalSeals, keys: Path, subject: str) -> None:
    with pytest.raises(Permanent, match="is no scope of a key"):
        await seals.seal(TEXT, subject=subject)
    assert not [path for path in files(keys) if path.suffix == ".key" and path.parent != keys]


async def test_text_under_the_one_key_of_before_stays_readable_and_no_more_is_added_to_it(
    seals: LocalSeals, keys: Path, blobs: FileBlobs
) -> None:
    key = made(keys / SEALING_KEY, os.urandom(32))
    name = named("local", key)
    nonce = os.urandom(12)
    digest = await blobs.put(nonce + AESGCM(key).encrypt(nonce, TEXT.encode(), name.encode()))
    old = Sealed(key_id=name, digest=digest, size=len(TEXT.encode()))
    assert len(name) == len("local:") + 16
    assert await seals.open(old) == TEXT
    assert scope_of((await seals.seal(TEXT)).key_id) == "month/2026-11"
    assert seals.keys.destroy(name)
    with pytest.raises(Permanent, match="has been destroyed"):
        await seals.open(old)


async def test_no_key_of_a_scope_lies_on_disk_in_clear(seals: LocalSeals, keys: Path) -> None:
    sealed = await seals.seal(TEXT)
    key = seals.keys.find(sealed.key_id)
    assert key is not None
    assert not [path for path in files(keys) if key in path.read_bytes()]


async def test_without_the_master_key_nothing_opens_and_none_is_made_in_its_place(
    seals: LocalSeals, keys: Path
) -> None:
    sealed = await seals.seal(TEXT)
    (keys / MASTER_KEY).rename(keys / "elsewhere")
    for attempt in (seals.open(sealed), seals.seal(TEXT), seals.seal(TEXT, subject=ANN)):
        with pytest.raises(Permanent, match=r"master\.key is missing"):
            await attempt
    (keys / "elsewhere").rename(keys / MASTER_KEY)
    assert await seals.open(sealed) == TEXT


async def test_a_wrapped_key_opens_under_its_own_name_only(seals: LocalSeals, keys: Path) -> None:
    await seals.seal(TEXT, subject=ANN)
    (keys / "person/0123456789ab.key").rename(keys / "person/ba9876543210.key")
    with pytest.raises(Permanent, match=r"does not open under master\.key"):
        seals.keys.existing("person/ba9876543210")


def test_of_many_that_make_a_scopes_first_key_at_once_all_use_the_same(keys: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: KeyStore(keys).of_scope("month/2026-11"), range(32)))
    assert len(set(found)) == 1


async def test_a_destroyed_keys_bytes_are_overwritten_and_its_name_is_free(seals: LocalSeals, keys: Path) -> None:
    sealed = await seals.seal(TEXT, subject=ANN)
    path = keys / "person/0123456789ab.key"
    wrapped = path.read_bytes()
    with path.open("rb") as held_open:  # the file itself, whatever becomes of its name
        assert seals.keys.destroy(sealed.key_id)
        after = held_open.read()
    assert len(after) == len(wrapped)
    assert after != wrapped
    assert list(path.parent.iterdir()) == []
    assert not seals.keys.destroy(sealed.key_id)
    assert (await seals.seal(TEXT, subject=ANN)).key_id != sealed.key_id


async def test_what_a_process_killed_while_destroying_has_left_is_destroyed_next_time(
    seals: LocalSeals, keys: Path
) -> None:
    sealed = await seals.seal(TEXT, subject=ANN)
    path = keys / "person/0123456789ab.key"
    killed = (
        "import os, pathlib, sys\nfrom controller.ledger import key_store\n"
        "key_store._overwrite = lambda path: os._exit(9)\n"
        "key_store.KeyStore(pathlib.Path(sys.argv[1])).destroy(sys.argv[2])"
    )
    command = [sys.executable, "-c", killed, str(keys), sealed.key_id]
    done = await asyncio.to_thread(subprocess.run, command, check=False, timeout=60)
    assert done.returncode == 9
    assert [one.name.startswith(ERASED) for one in path.parent.iterdir()] == [True]
    with pytest.raises(Permanent, match="has been destroyed"):
        await seals.open(sealed)
    seals.keys.destroy(sealed.key_id)
    assert list(path.parent.iterdir()) == []


async def test_a_name_is_shown_until_its_person_is_forgotten(seals: LocalSeals, keys: Path) -> None:
    who = seals.pseudonym("ada@example.org")
    assert seals.name(who) is None
    seals.remember("ada@example.org")
    seals.remember("ada@example.org")
    assert seals.name(who) == "ada@example.org"
    assert not [path for path in files(keys) if b"ada@" in path.read_bytes()]
    seals.keys.destroy(seals.keys.held()[0])
    assert seals.name(who) is None
    seals.forget(who)
    assert list((keys / "names").iterdir()) == []
    seals.remember("ada@example.org")
    assert seals.name(who) == "ada@example.org"


async def test_secrets_are_taken_out_before_text_is_sealed(seals: LocalSeals) -> None:
    token = "gh" + "p_" + "a1B2" * 9
    sealed = await seals.seal(f"push with {token} please")
    opened = await seals.open(sealed)
    assert opened.startswith("push with [secret:github-token:")
    assert opened.endswith("] please")
    assert sealed.size == len(opened)


async def test_one_of_forty_subjects_is_erased_and_every_proof_of_two_thousand_entries_holds(
    tmp_path: Path, seals: LocalSeals, clock: HandClock
) -> None:
    log = SqliteLog(tmp_path / "log.db", clock, inline=True)
    people = [seals.pseudonym(f"person{number}@example.org") for number in range(40)]
    stream, sealed = StreamId("people/shop-1a2b3c"), []
    for number in range(2_000):
        who = people[number % 40]
        sealed.append(await seals.seal(f"words {number}", subject=who))
    for begin in range(0, 2_000, 500):
        drafts = [
            Draft(stream, e.PersonActed(act="hold", person=people[n % 40], event_id=f"m{n}", words=sealed[n]))
            for n in range(begin, begin + 500)
        ]
        await log.append(drafts, expect={stream: begin}, by=BY)
    root = (await log.head()).root
    assert seals.keys.destroy(sealed[7].key_id)
    for number, one in enumerate(sealed):
        if number % 40 == 7:
            with pytest.raises(Permanent, match="has been destroyed"):
                await seals.open(one)
        else:
            assert await seals.open(one) == f"words {number}"
    with snapshot(tmp_path / "log.db") as tree:
        assert root_at(tree, 2_000).hex() == root
        for index in range(2_000):
            assert includes(bytes.fromhex(root), 2_000, index, tree.leaf(index), inclusion(tree, index, 2_000))
    log.close()
    assert verify(tmp_path / "log.db", tmp_path / "blobs").whole
