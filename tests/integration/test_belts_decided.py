"""All belts together, behind the desk: what is on them is what can be granted, and each role sees its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from belts_kit import MAIN, SHOP, Belts

from controller.adapters.limits import SharedLimits
from controller.adapters.unserved import NoService
from controller.desk import SessionDesk
from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.ids import Service
from controller.domain.verdict import JudgeConfig
from controller.ports import RepositoryConfig, ServiceConfig
from rbac.catalogue import AGENT_TOOLS
from tools.catalogue import toolbelt
from tools.sites import KnownWorkspaces
from tools.toolbox import Toolbox

GITS_OWN = {"git_fetch"}  # decided under this name, and served by git's own door


class Decided(Belts):
    """Nothing of its repository is deployed yet; a service is configured."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        bounds = Bounds()
        service = ServiceConfig(Service("shop"), "production", RolloutPlan(), JudgeConfig())
        self.repositories = {SHOP: RepositoryConfig(SHOP, MAIN, "scripted", (), ("**",), service)}
        self.desk = SessionDesk(
            log=self.log,
            seals=self.seals,
            authority=self.authority,
            bounds=bounds,
            clock=self.clock,
            limits=SharedLimits(folder / "limits.db", self.clock),
        )
        self.tools = toolbelt(
            gate=self.gate,
            workspaces=KnownWorkspaces(self.workspaces),
            desk=self.desk,
            log=self.log,
            seals=self.seals,
            run_in_workspace=self._run,
            clock=self.clock,
            forge=self.forge,
            ci=self.ci,
            platform=NoService(),
            telemetry=NoService(),
            requests=self.requests,
            authority=self.authority,
            repositories=self.repositories,
            bounds=bounds,
            policy_folder=self.rules,
        )
        self.toolbox = Toolbox(self.desk, self.tools, result_bytes=bounds.tool_result_bytes)

    async def _run(self, root: Path, target: str) -> str:
        return f"{target} in {root.name}"


@pytest.fixture
def world(tmp_path: Path) -> Decided:
    return Decided(tmp_path)


def test_what_is_on_the_belts_is_what_can_be_granted(world: Decided) -> None:
    assert {tool.definition.name for tool in world.tools} == set(AGENT_TOOLS) - GITS_OWN


async def test_the_assistant_of_whoever_is_on_call_sees_its_tools_and_no_others(world: Decided) -> None:
    badge = await world.visited("on-call", "deploy:read", "deploy:write")
    world.desk.sign_in(badge)
    seen = [tool.name for tool in world.toolbox.visible(badge)]
    assert seen == ["hold_release", "promote", "read_deployment", "roll_back"]


async def test_a_release_is_held_in_the_named_environment_or_not_at_all(world: Decided) -> None:
    badge = await world.visited("on-call", "deploy:read", "deploy:write")
    world.desk.sign_in(badge)
    call = world.toolbox.call
    allowed = await call(badge, "hold_release", {"environment": "production", "reason": "odd"}, turn=0, index=0)
    assert allowed.text == "Not done: no release of shop is under way in production."
    for environment in ("staging", "Production", "production/../staging"):
        refused = await call(badge, "hold_release", {"environment": environment, "reason": "odd"}, turn=0, index=1)
        assert refused.refused, refused.text
    unknown = await call(badge, "git_push", {"branch": "main"}, turn=0, index=2)
    assert (unknown.refused, "There is no tool" in unknown.text) == (True, True)
