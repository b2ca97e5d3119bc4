"""Whoever judges production cannot change it: the edge's token that only looks."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import ENVIRONMENT, SERVICE, WELL, EdgeKit, until

from controller.adapters.edge_admin import READING, Admin
from controller.adapters.edge_client import EdgeLink, EdgePlatform, EdgeTelemetry
from controller.adapters.edge_effects import Effects
from controller.adapters.edge_sources import Counts
from controller.adapters.edge_start import handle_of
from controller.adapters.edge_state import StateKeeper
from controller.domain.ids import EffectKey
from controller.domain.verbs import RestoreTraffic
from controller.errors import ConfigError, Permanent, Unavailable


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[EdgeKit]:
    world = EdgeKit(tmp_path)
    yield world
    await world.down()


@pytest.fixture
async def reader(kit: EdgeKit) -> AsyncIterator[EdgeLink]:
    await kit.up()
    link = EdgeLink(kit.folder, read_only=True)
    yield link
    await link.close()


def table_of_routes(folder: Path) -> set[tuple[str, str]]:
    """The Admin's own."""
    effects, counts = Effects({}, StateKeeper(folder / "state.json")), Counts({}, lambda: 0, lambda: 0)
    admin = Admin("all", "look", {}, effects, counts, configure=lambda _: None, shut_down=lambda: None)
    return set(admin._routes)


async def asked_as_a_reader(kit: EdgeKit, method: str, path: str) -> httpx2.Response:
    handle = handle_of(kit.folder, read_only=True)
    assert handle is not None
    told: dict[str, Any] = {} if method == "GET" else {"json": {}}
    return await kit.client.request(method, handle.admin_url + path, headers=handle.authorization, **told)


async def test_reader_is_refused_every_route_that_does_not_only_look(kit: EdgeKit, tmp_path: Path) -> None:
    await kit.up()
    routes = table_of_routes(tmp_path)
    acting = routes - READING
    assert routes >= READING
    assert {path for _, path in acting} >= {"/act", "/find", "/config", "/shutdown"}
    for method, path in sorted(acting):
        answer = await asked_as_a_reader(kit, method, path)
        assert answer.status_code == 403, path
        assert answer.json()["message"] == f"the token in token.read only looks: {method} {path} is not for it"
        assert f"only looks: {method} {path}" in (kit.folder / "edge.log").read_text()
    assert (await kit.status()).confirmed_release is None  # it still runs, and nothing has happened


async def test_route_that_is_not_known_is_refused_to_a_reader_as_well(kit: EdgeKit) -> None:
    await kit.up()
    for method, path in (("POST", "/not-yet-thought-of"), ("DELETE", "/status"), ("POST", "/status")):
        assert (await asked_as_a_reader(kit, method, path)).status_code == 403


async def test_reader_sees_what_its_owner_sees(kit: EdgeKit, reader: EdgeLink) -> None:
    commit = kit.commit(WELL)
    await kit.release(1, commit)
    await kit.serving()
    assert await EdgePlatform(reader).status(SERVICE, ENVIRONMENT) == await kit.status()
    seen = EdgeTelemetry(reader)
    assert await seen.baseline(SERVICE, commit, from_ms=0, to_ms=1_000) == await kit.telemetry.baseline(
        SERVICE, commit, from_ms=0, to_ms=1_000
    )
    assert await seen.excluded(SERVICE) == await kit.telemetry.excluded(SERVICE)
    for method, path in READING:  # an empty question is malformed, which only those hear who may ask
        assert (await asked_as_a_reader(kit, method, path)).status_code in {200, 400}, path


async def test_reader_who_acts_hears_a_definite_no(kit: EdgeKit, reader: EdgeLink) -> None:
    await kit.release(1, kit.commit(WELL))
    restore = RestoreTraffic(service=SERVICE, environment=ENVIRONMENT, release=1)
    with pytest.raises(Permanent, match="only looks: POST /act"):
        await EdgePlatform(reader).act(EffectKey("restore/1"), restore)
    assert (await kit.status()).confirmed_release == 1


async def test_two_tokens_are_their_owners_alone_and_stay_the_same(kit: EdgeKit) -> None:
    await kit.up()
    both = {name: (kit.folder / name).read_text() for name in ("token", "token.read")}
    assert len(set(both.values())) == 2
    assert all((kit.folder / name).stat().st_mode & 0o777 == 0o600 for name in both)
    await kit.kill()
    await kit.up()
    assert both == {name: (kit.folder / name).read_text() for name in both}


async def test_reader_needs_no_more_than_its_own_token(kit: EdgeKit, reader: EdgeLink) -> None:
    (kit.folder / "token").rename(kit.folder / "token.away")
    try:
        assert (await reader.ask("GET", "/health", 5.0))["ready"]
    finally:
        (kit.folder / "token.away").rename(kit.folder / "token")


async def test_reader_keeps_no_edge_alive_that_nobody_else_asks_for(kit: EdgeKit) -> None:
    kit.config = kit.config.model_copy(update={"orphan_seconds": 2.0})
    await kit.up()
    reader = EdgeLink(kit.folder, read_only=True)

    async def gone() -> bool:
        try:
            await reader.ask("GET", "/health", 1.0)
        except Unavailable:
            return True
        return False

    await until(gone, "the edge has ended")
    await reader.close()
    assert "nobody has asked for 2 s" in (kit.folder / "edge.log").read_text()


async def test_reader_never_starts_an_edge(kit: EdgeKit) -> None:
    with pytest.raises(ConfigError, match="cannot start an edge"):
        EdgeLink(kit.folder, kit.config, read_only=True)
    link = EdgeLink(kit.folder, read_only=True)
    with pytest.raises(Unavailable, match=r"no edge that knows a token\.read runs"):
        await link.ask("GET", "/health", 1.0)
    await link.close()
    assert not kit.folder.exists()
