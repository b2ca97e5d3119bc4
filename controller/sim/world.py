"""The seeded world with memory: one repository with a service, its forge, CI, platform, users and chat.

It outlives every controller. Every act that really changed something is counted by its key, so
that "at most once" can be looked up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.ids import Branch, Commit, EffectKey, Repository, Service
from controller.domain.verbs import Verb
from controller.domain.verdict import JudgeConfig
from controller.ports import RepositoryConfig, ServiceConfig
from controller.sim.chat import SimChat
from controller.sim.ci import SimCi
from controller.sim.clock import SimClock
from controller.sim.forge import SimForge
from controller.sim.model import Play, SimModel
from controller.sim.platform import SimPlatform
from controller.sim.traffic import SimTelemetry
from controller.sim.workspaces import SimWorkspaces

SHOP = Repository("shop")
MAIN = Branch("main")
SERVICE = Service("shop")
PRODUCTION = "production"
START = {"app.py": "def price(): return 1\n", "cart.py": "items = []\n", "tests/test_app.py": "assert price() == 1\n"}
PLAN = RolloutPlan(
    step_requests=40,
    step_dwell_ms=2_000,
    window_ms=1_000,
    segment_ms=4_000,
    weight_ttl_ms=12_000,
    warmup_ms=1_000,
    bake_ms=4_000,
    recovery_ms=60_000,
    ready_seconds=20,
)
MODEL = "claude-sonnet-5-5"


@dataclass(frozen=True, slots=True)
class Acted:
    key: EffectKey
    verb: Verb


@dataclass
class SimWorld:
    seed: int
    with_service: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    plan: RolloutPlan = PLAN
    judge: JudgeConfig = field(default_factory=lambda: JudgeConfig(min_step_requests=40))
    clock: SimClock = field(default_factory=SimClock)
    acts: list[Acted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forge = SimForge(self._count)
        self.first = self.forge.commit(SHOP, MAIN, START, "The shop", at=self.clock.now())
        self.ci = SimCi(self.seed, self.clock, self.forge, self._count)
        self.platform = SimPlatform(self.clock, self.forge, SHOP, self._count)
        self.telemetry = SimTelemetry(self.seed, self.clock, self.platform, PRODUCTION)
        self.chat = SimChat(self._count)
        self.model = SimModel(self.clock)
        self.workspaces = SimWorkspaces(self.forge)

    def _count(self, key: EffectKey, verb: Verb) -> None:
        self.acts.append(Acted(key, verb))

    def acted(self) -> Counter[EffectKey]:
        """How often each key has changed something."""
        return Counter(one.key for one in self.acts)

    @property
    def repositories(self) -> dict[Repository, RepositoryConfig]:
        service = ServiceConfig(SERVICE, PRODUCTION, self.plan, self.judge) if self.with_service else None
        config = RepositoryConfig(SHOP, MAIN, MODEL, protected=(".ci/**",), allowed=("**",), service=service)
        return {SHOP: config}

    def plays(self, title: str, *tries: dict[str, str], fixes: tuple[dict[str, str], ...] = ()) -> str:
        """Put a task into the model's book. Returns the task."""
        self.model.book[title] = Play(tries, fixes)
        return title

    def push_to_main(self, files: dict[str, str | None], message: str = "By hand") -> Commit:
        """Somebody pushes past the queue."""
        return self.forge.commit(SHOP, MAIN, files, message, at=self.clock.now())

    @property
    def served(self) -> Commit | None:
        """The commit that all users see. None: nothing is deployed."""
        confirmed = self.platform.slot(SERVICE, PRODUCTION).confirmed
        return confirmed.commit if confirmed else None
