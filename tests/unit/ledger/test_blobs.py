from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from controller.domain.ids import Digest, digest_bytes
from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import FileBlobs, stored_digests


@pytest.fixture(params=[True, False], ids=["durable", "simulated"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs", durable=request.param)


async def test_what_was_put_comes_back_by_its_digest(blobs: FileBlobs, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    digest = await blobs.put(content)
    assert digest == digest_bytes(content)
    assert await blobs.get(digest) == content
    assert await FileBlobs(tmp_path / "blobs").get(digest) == content


async def test_the_same_content_put_by_many_at_once_is_one_file(blobs: FileBlobs, tmp_path: Path) -> None:
    digests = await asyncio.gather(*[blobs.put(b"again") for _ in range(20)])
    assert set(digests) == {digest_bytes(b"again")}
    assert list(stored_digests(tmp_path / "blobs")) == [digests[0]]
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


async def test_a_blob_that_was_altered_is_not_given_out_until_it_is_put_again(blobs: FileBlobs) -> None:
    digest = await blobs.put(b"what was said")
    blobs.path_of(digest).write_bytes(b"what was not")
    with pytest.raises(Permanent, match="has been altered"):
        await blobs.get(digest)
    await blobs.put(b"what was said")
    assert await blobs.get(digest) == b"what was said"


async def test_a_blob_that_is_not_there_is_named(blobs: FileBlobs) -> None:
    with pytest.raises(Permanent, match=digest_bytes(b"never put")):
        await blobs.get(digest_bytes(b"never put"))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "sha256:../../../etc/passwd", "sha256:AB", "", "sha256:" + "g" * 64]
)
async def test_a_name_that_is_no_digest_reaches_no_file(blobs: FileBlobs, name: str) -> None:
    with pytest.raises(Permanent, match="is no digest"):
        await blobs.get(Digest(name))


async def test_a_folder_that_cannot_be_made_is_worth_another_try(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be written"):
        await FileBlobs(tmp_path / "file").put(b"content")


async def test_what_a_crash_left_unfinished_is_no_blob(blobs: FileBlobs, tmp_path: Path) -> None:
    digest = await blobs.put(b"finished")
    (blobs.path_of(digest).parent / ".unfinished-1").write_bytes(b"half")
    assert list(stored_digests(tmp_path / "blobs")) == [digest]


async def test_blobs_are_readable_by_their_owner_only(blobs: FileBlobs, tmp_path: Path) -> None:
    digest = await blobs.put(b"a transcript")
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    assert stat.S_IMODE(blobs.path_of(digest).stat().st_mode) == 0o600
