"""Disks that are really full or read-only, under either store: no effect without its intent, recovery without a gap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit
from facts_kit import WHY
from postgres_kit import HandClock, say, stream

from controller.adapters.chat_local import LocalChat
from controller.adapters.grants import RbacGrants
from controller.domain.ids import DeliveryId, EffectKey, delivery_stream, effect_stream
from controller.domain.verbs import Tell
from controller.errors import Unavailable
from controller.gate import EffectGate
from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_verify import verify_postgres
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Done, Log, Receipt
from rbac.decide import Authority
from rbac.model import Served

MIB = 1024 * 1024
DELIVERY = DeliveryId("shop-1a2b3c")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="NO SMALL DISK WITHOUT ROOT: full disks were not tested here"
)


@pytest.fixture
def disk() -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many MiB."""
    mounted: list[Path] = []

    def make(mib: int) -> Path:
        folder = postgres_kit._new_folder()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("NO DISK MAY BE MOUNTED HERE: full disks were not tested")
        mounted.append(folder)
        shutil.chown(folder, "nobody")
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path, *, leaving: int) -> Path:
    """A file that takes all the room but `leaving` bytes."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free - leaving))
    return ballast


def to_the_last_page(folder: Path) -> None:
    """What an entry did not fit into, a smaller one might."""
    with (folder / "crumbs").open("wb", buffering=0) as crumbs:
        while shutil.disk_usage(folder).free:
            crumbs.write(bytes(4096))


def remounted(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


async def appended_until_full(log: Log) -> int:
    """The versions of stream "a" that were acknowledged."""
    for version in range(0, 100_000, 100):
        try:
            await say(log, at=version, times=100, size=5_000)
        except Unavailable:
            return version
    raise AssertionError("the disk is too large for this test")


async def no_effect_without_intent(log: Log, folder: Path, free: Callable[[], object]) -> None:
    """A gate over this log tells nobody anything while the disk is full, and once when it is not."""
    chat = LocalChat(folder / "messages.jsonl", HandClock())
    grants = RbacGrants(Authority([Served(repository="shop", branch="main")]))
    gate = EffectGate(log=log, clock=HandClock(), grants=grants, hands={"chat": chat}, worker="w1")
    key, verb = EffectKey(f"tell/{DELIVERY}/live"), Tell(to="person:0123456789ab", thread=DELIVERY, text="x" * 9_000)

    async def tell() -> object:
        return await gate.act("merger", verb, key=key, decision=WHY, subject=delivery_stream(DELIVERY))

    with pytest.raises(Unavailable):
        await tell()
    assert await chat.messages() == []
    free()
    assert await log.read(effect_stream(key)) == []
    assert isinstance(await tell(), Done)
    assert [message.key for message in await chat.messages()] == [key]
    assert [entry.kind for entry in await log.read(effect_stream(key))] == ["EffectIntended", "EffectDone"]


async def test_a_full_disk_under_the_file_acts_on_nothing_and_goes_on_with_space(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = disk(8)
    ballast = fill(folder, leaving=5 * MIB)
    log = SqliteLog(folder / "log.db", HandClock())
    version = await appended_until_full(log)
    to_the_last_page(folder)

    def freed() -> None:
        ballast.unlink()
        (folder / "crumbs").unlink()

    await no_effect_without_intent(log, tmp_path, freed)
    assert await say(log, at=version) == Receipt(version + 2, version + 3)
    report = verify(folder / "log.db")
    assert (report.size, report.findings) == (version + 3, ())
    log.close()


async def test_a_read_only_disk_under_the_file_is_named_and_costs_no_entry(disk: Callable[[int], Path]) -> None:
    folder = disk(8)
    log = SqliteLog(folder / "log.db", HandClock())
    await say(log)
    log.close()
    remounted(folder, "ro")
    with pytest.raises(Unavailable, match=r"read-?only|unable to open"):
        SqliteLog(folder / "log.db", HandClock())
    remounted(folder, "rw")
    log = SqliteLog(folder / "log.db", HandClock())
    assert await say(log, at=1) == Receipt(1, 2)
    assert verify(folder / "log.db").whole
    log.close()


async def test_a_full_disk_under_the_tables_acts_on_nothing_and_goes_on_with_space(
    disk: Callable[[int], Path],
) -> None:
    folder, server = disk(24), postgres_kit.new_server()
    ballast = fill(folder, leaving=14 * MIB)
    server.run(f"CREATE TABLESPACE small LOCATION '{folder}'")
    dsn = server.database(options="TABLESPACE small")
    log = PostgresLog(dsn, HandClock())
    version = await appended_until_full(log)
    to_the_last_page(folder)
    with pytest.raises(Unavailable, match="Free space on the server's disk"):
        await say(log, "other", times=1000, size=9_000)
    ballast.unlink()
    (folder / "crumbs").unlink()
    assert await say(log, at=version) == Receipt(version, version + 1)
    log.close()
    report = verify_postgres(dsn)
    assert (report.size, report.findings) == (version + 1, ())
    server.remove()


@pytest.mark.timeout(90)
async def test_a_full_disk_under_the_server_acts_on_nothing_and_goes_on_without_a_gap(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = disk(220)
    server = postgres_kit.new_server("max_wal_size=32MB", "min_wal_size=32MB", folder=folder)
    dsn = server.database()
    log = PostgresLog(dsn, HandClock())
    ballast = fill(folder, leaving=8 * MIB)
    version = await appended_until_full(log)

    def freed() -> None:
        ballast.unlink()
        if server.process is not None and server.process.poll() is not None:  # it panicked: its log has no room
            server.process = None
            server.start()

    await no_effect_without_intent(log, tmp_path, freed)
    row = await log.stream(stream("a"))
    assert row is not None
    assert row.version in (version, version + 100)  # the last one may have been committed
    assert await say(log, at=row.version) == Receipt(row.version + 2, row.version + 3)
    report = verify_postgres(dsn)
    assert (report.size, report.findings) == (row.version + 3, ())
    log.close()
    server.stop()
