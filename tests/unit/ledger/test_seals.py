from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import FileBlobs
from controller.ledger.key_store import MASTER_KEY
from controller.ledger.seals import PSEUDONYM_KEY, REDACTION_KEY, LocalSeals

TEXT = "please ask Grüneberg in room 7"


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def seals(keys: Path, blobs: FileBlobs) -> LocalSeals:
    return LocalSeals(keys, blobs)


def contents_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def modes_of(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


async def test_sealed_text_opens_and_its_words_are_nowhere_on_disk(
    seals: LocalSeals, keys: Path, blobs: FileBlobs, tmp_path: Path
) -> None:
    sealed = await seals.seal(TEXT)
    assert sealed.size == len(TEXT.encode())
    assert await seals.open(sealed) == TEXT
    assert await LocalSeals(keys, blobs).open(sealed) == TEXT
    assert not any("Grüneberg".encode() in content for content in contents_of(tmp_path))


async def test_the_same_text_sealed_twice_cannot_be_told_to_be_the_same(seals: LocalSeals) -> None:
    assert (await seals.seal(TEXT)).digest != (await seals.seal(TEXT)).digest


async def test_a_destroyed_key_erases_the_text_at_once_and_for_good(seals: LocalSeals, keys: Path) -> None:
    sealed = await seals.seal(TEXT)
    assert LocalSeals(keys, seals._blobs).keys.destroy(sealed.key_id)  # by another process
    with pytest.raises(Permanent, match="has been destroyed"):
        await seals.open(sealed)
    later = await seals.seal(TEXT)
    assert later.key_id != sealed.key_id
    assert await seals.open(later) == TEXT
    with pytest.raises(Permanent, match="has been destroyed"):
        await seals.open(sealed)


async def test_a_ciphertext_that_was_altered_does_not_open(seals: LocalSeals, blobs: FileBlobs) -> None:
    sealed = await seals.seal(TEXT)
    content = bytearray(await blobs.get(sealed.digest))
    content[-1] ^= 1
    forged = sealed.model_copy(update={"digest": await blobs.put(bytes(content))})
    with pytest.raises(Permanent, match="is no text sealed under"):
        await seals.open(forged)
    short = sealed.model_copy(update={"digest": await blobs.put(b"short")})
    with pytest.raises(Permanent, match="is no text sealed under"):
        await seals.open(short)


async def test_keys_are_readable_by_their_owner_only(seals: LocalSeals, keys: Path) -> None:
    await seals.seal(TEXT, subject=seals.pseudonym("U123"))
    seals.remember("U123")
    own, folders = {MASTER_KEY, PSEUDONYM_KEY, REDACTION_KEY}, {"person", "names"}
    assert modes_of(keys) == {keys.name: 0o700} | dict.fromkeys(own, 0o600) | dict.fromkeys(folders, 0o700)
    assert {mode for name in folders for mode in list(modes_of(keys / name).values())[1:]} == {0o600}


def test_a_person_keeps_a_pseudonym_that_says_nothing_without_the_key(
    seals: LocalSeals, keys: Path, blobs: FileBlobs, tmp_path: Path
) -> None:
    name = seals.pseudonym("ada@example.org")
    assert re.fullmatch(r"person:[0-9a-f]{12}", name)
    assert LocalSeals(keys, blobs).pseudonym("ada@example.org") == name
    assert seals.pseudonym("bob@example.org") != name
    assert LocalSeals(tmp_path / "elsewhere", blobs).pseudonym("ada@example.org") != name


async def test_pseudonyms_outlive_the_key_of_the_person(seals: LocalSeals) -> None:
    name = seals.pseudonym("ada@example.org")
    sealed = await seals.seal(TEXT, subject=name)
    assert seals.keys.destroy(sealed.key_id)
    assert seals.pseudonym("ada@example.org") == name


def test_of_many_that_make_the_first_key_at_once_all_use_the_same(keys: Path, blobs: FileBlobs) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: LocalSeals(keys, blobs).pseudonym("ada@example.org"), range(32)))
    assert len(set(names)) == 1
    assert [path.name for path in keys.iterdir()] == [PSEUDONYM_KEY]


def test_a_damaged_key_is_named_and_not_replaced(seals: LocalSeals, keys: Path) -> None:
    seals.pseudonym("ada@example.org")
    (keys / PSEUDONYM_KEY).write_bytes(b"short")
    with pytest.raises(Permanent, match="has 5 bytes, not 32"):
        seals.pseudonym("ada@example.org")
    assert (keys / PSEUDONYM_KEY).read_bytes() == b"short"


def test_a_folder_that_cannot_be_written_is_worth_another_try(tmp_path: Path, blobs: FileBlobs) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match=r"cannot be (read|made)"):
        LocalSeals(tmp_path / "file", blobs).pseudonym("ada@example.org")
