"""Which sandbox a configuration gets; and that code by agents never runs without one unless somebody has said so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import WELL, EdgeKit

from controller.adapters import sandbox_rungs
from controller.adapters.edge_config import SandboxSettings
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
from controller.errors import ConfigError

linux = pytest.mark.skipif(sys.platform != "linux", reason="isolated rungs are for Linux")


@pytest.fixture
def nothing_isolates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine such as a Mac: no rung but the plain one starts."""
    monkeypatch.setattr("controller.adapters.sandbox.sys.platform", "darwin")


@linux
async def test_best_isolated_rung_is_chosen_when_nothing_is_said() -> None:
    chosen = await Sandbox.chosen("best", accept_plain=False)
    assert chosen == await Sandbox.best()
    assert chosen.rung is not Rung.PLAIN


@linux
async def test_accepting_the_plain_rung_does_not_ask_for_it() -> None:
    assert (await Sandbox.chosen("best", accept_plain=True)).rung is not Rung.PLAIN


@linux
async def test_machine_without_bubblewrap_has_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox_rungs._bwrap.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    chosen = await Sandbox.chosen("best", accept_plain=False)
    sandbox_rungs._bwrap.cache_clear()
    assert chosen.rung is Rung.NAMESPACES
    assert "bubblewrap is not installed" in chosen.isolation


@linux
async def test_rung_that_is_asked_for_by_name_is_that_one() -> None:
    assert (await Sandbox.chosen("namespaces", accept_plain=False)).rung is Rung.NAMESPACES


@pytest.mark.usefixtures("nothing_isolates")
async def test_plain_rung_is_refused_with_what_to_install_and_what_to_set() -> None:
    with pytest.raises(ConfigError) as refused:
        await Sandbox.chosen("best", accept_plain=False)
    said = str(refused.value)
    assert "sandboxes need Linux" in said
    assert "install bubblewrap" in said
    assert "unsafe_accept_plain = true under [sandbox]" in said
    assert "flyball demo --unsafe-accept-plain" in said


async def test_asking_for_the_plain_rung_is_not_accepting_it() -> None:
    with pytest.raises(ConfigError, match="unsafe_accept_plain"):
        await Sandbox.chosen("plain", accept_plain=False)


@pytest.mark.usefixtures("nothing_isolates")
@pytest.mark.parametrize("rung", ["bubblewrap", "namespaces"])
async def test_rung_that_does_not_start_is_refused_whatever_is_accepted(rung: str) -> None:
    with pytest.raises(ConfigError, match=f"sandbox.rung is '{rung}'.*sandboxes need Linux"):
        await Sandbox.chosen(rung, accept_plain=True)


@pytest.mark.usefixtures("nothing_isolates")
async def test_accepted_plain_rung_says_that_it_is_none_and_who_accepted_it() -> None:
    chosen = await Sandbox.chosen("best", accept_plain=True)
    assert chosen.isolation == (
        "process group only: no isolation (accepted by sandbox.unsafe_accept_plain; sandboxes need Linux)"
    )


async def test_edge_does_not_start_on_a_plain_rung_that_nobody_accepted(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path)
    kit.config = kit.config.model_copy(update={"sandbox": SandboxSettings(rung="plain")})
    with pytest.raises(ConfigError, match="unsafe_accept_plain"):
        await kit.up()
    await kit.down()


async def test_build_on_an_accepted_plain_rung_says_so(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path)
    accepted = SandboxSettings(rung="plain", unsafe_accept_plain=True)
    kit.config = kit.config.model_copy(update={"sandbox": accepted})
    await kit.up()
    built = await kit.build(kit.commit(WELL))
    assert built.isolation.startswith("process group only: no isolation (accepted by sandbox.unsafe_accept_plain")
    await kit.release(1, kit.commit(WELL))
    await kit.serving()
    await kit.down()
