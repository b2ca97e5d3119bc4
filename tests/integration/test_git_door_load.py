"""Clients that begin and do not go on: each keeps a place for a while, one of them never all, and nobody for ever."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import STREAM
from git_door_kit import HARMLESS, HOST, Site, serving

from controller.domain.bounds import Bounds
from tools.git_asked import No
from tools.git_places import DoorLimits, Places

QUICK = DoorLimits(at_once=6, of_one_caller=3, for_newcomers=2, idle_s=1.0, read_s=3.0)
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def begun(folder: Path, limits: DoorLimits) -> AsyncIterator[Site]:
    async with serving(Site(folder, door_limits=limits)) as site:
        await site.begin(HARMLESS)
        yield site


@asynccontextmanager
async def stalled(site: Site, service: str = "git-upload-pack", body: bytes = b"0032want ") -> AsyncIterator[Line]:
    """A request whose body stops after these bytes."""
    reader, writer = await asyncio.open_connection(HOST, site.port)
    head = (
        f"POST /git/shop.git/{service} HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n"
        f"Authorization: Bearer {site.token}\r\nContent-Type: application/x-{service}-request\r\n"
        f"Content-Length: 1000\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(line: Line) -> int:
    first = await asyncio.wait_for(line[0].readline(), 20)
    return int(first.split()[1])


def another_session(site: Site) -> str:
    """The token of a session of another delivery, in the same repository."""
    badge = replace(site.world.badge(), role="contributor", session="client.editor/1", delivery="client.editor")
    return site.world.desk.sign_in(badge)


async def until_busy(site: Site, places: int) -> None:
    async with asyncio.timeout(30):
        while site.door.places.busy != places:  # noqa: ASYNC110 - a count of the door's own, which sets no event
            await asyncio.sleep(0.01)


async def test_unfinished_fetches_of_one_session_do_not_shut_the_door_for_others(tmp_path: Path) -> None:
    async with begun(tmp_path, replace(QUICK, idle_s=30.0, read_s=30.0)) as site, AsyncExitStack() as lines:
        opened = [await lines.enter_async_context(stalled(site)) for _ in range(16)]
        refused = [await status(one) for one in opened[QUICK.of_one_caller :]]
        assert set(refused) == {503}
        assert site.door.places.busy == QUICK.of_one_caller
        mine = site.token
        site.token = another_session(site)
        said = await site.git("clone", "--quiet", site.url, "clone")
        assert said.code == 0, said.text
        site.token = mine


@pytest.mark.parametrize(
    ("service", "body"),
    [
        ("git-upload-pack", b"0032want "),
        ("git-upload-pack", b""),
        ("git-receive-pack", b"00"),
        ("git-receive-pack", b""),
    ],
)
async def test_a_request_that_stops_ends_and_frees_its_place(tmp_path: Path, service: str, body: bytes) -> None:
    async with begun(tmp_path, QUICK) as site, stalled(site, service, body) as line:
        assert await status(line) == 408
        assert site.door.places.busy == 0


async def test_a_request_that_drips_ends_as_a_whole(tmp_path: Path) -> None:
    async with begun(tmp_path, QUICK) as site, stalled(site) as (reader, writer):
        ends = asyncio.create_task(status((reader, writer)))
        while not ends.done():
            writer.write(b"0")
            await asyncio.wait({ends}, timeout=0.3)
        assert await ends == 408
        assert site.door.places.busy == 0


async def test_a_push_whose_pack_stops_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async with begun(tmp_path, QUICK) as site:
        command = f"{'0' * 40} {'1' * 40} {'refs/heads/' + site.world.badge().branch}\0report-status".encode()
        body = b"%04x%s0000PACK" % (len(command) + 4, command)
        refs, objects = site.refs(), site.objects()
        async with stalled(site, "git-receive-pack", body) as line:
            assert await status(line) == 408
        assert site.left_over() == []
        assert (site.refs(), site.objects(), site.door.places.busy) == (refs, objects, 0)


async def test_a_client_that_does_not_take_its_answer_keeps_no_place(tmp_path: Path) -> None:
    async with begun(tmp_path, QUICK) as site:
        site.land({f"src/{number}.txt": os.urandom(400_000).hex() for number in range(24)})
        want = b"0032want " + site.refs()["refs/heads/main"].encode() + b"\n00000009done\n"
        reader, writer = await asyncio.open_connection(HOST, site.port, limit=1)
        head = (
            f"POST /git/shop.git/git-upload-pack HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n"
            f"Authorization: Bearer {site.token}\r\nContent-Type: application/x-git-upload-pack-request\r\n"
            f"Content-Length: {len(want)}\r\n\r\n"
        )
        writer.write(head.encode() + want)
        await writer.drain()
        await until_busy(site, 1)
        await until_busy(site, 0)
        writer.close()
        del reader


def taken(places: Places, session: str, times: int, stack: AsyncExitStack) -> int:
    """How many places it got."""
    for number in range(times):
        try:
            stack.enter_context(places.taken(session))
        except No:
            return number
    return times


async def test_the_last_places_are_for_callers_that_have_none() -> None:
    places = Places(QUICK)
    async with AsyncExitStack() as stack:
        assert taken(places, "shop-1/1", 9, stack) == 3
        assert taken(places, "shop-2/1", 9, stack) == 1  # four of six are taken: the rest is for newcomers
        assert taken(places, "shop-3/1", 1, stack) == 1
        assert taken(places, "shop-4/1", 1, stack) == 1
        assert taken(places, "shop-5/1", 1, stack) == 0
        assert places.busy == 6
    assert places.busy == 0
    async with AsyncExitStack() as stack:
        assert taken(places, "shop-5/1", 3, stack) == 3


async def test_all_sessions_of_one_program_share_its_places() -> None:
    places = Places(QUICK)
    async with AsyncExitStack() as stack:
        for number in range(3):
            assert taken(places, f"client.editor/{number}", 1, stack) == 1
        assert taken(places, "client.editor/9", 1, stack) == 0
        assert taken(places, "client.other/1", 1, stack) == 1


def test_ordinary_bounds_leave_room_for_others() -> None:
    assert DoorLimits().of_one_caller < DoorLimits().at_once - DoorLimits().for_newcomers
    assert Bounds().session_seconds > DoorLimits().fetch_s
    assert STREAM.startswith("session/")
