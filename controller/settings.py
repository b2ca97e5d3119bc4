"""`flyball.toml`: one object that chooses everything.

Whatever nobody wrote has a default that is safe; whatever nobody knows is an error.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from controller.domain.approvals import ApprovalRules
from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.counts import MOST_GAUGES
from controller.domain.ids import NAME, Branch, Digest, MicroUsd, Repository, Service, digest_of
from controller.domain.money import price_of
from controller.domain.verdict import JudgeConfig
from controller.errors import ConfigError
from controller.ports import RepositoryConfig, ServiceConfig
from controller.settings_errors import as_config_error
from controller.settings_sandbox import Places, SandboxSection, SecretSection, Section, VariableName
from rbac.load import SHIPPED
from rbac.model import PathPattern

FILE = "flyball.toml"
STATE = ".flyball"
MAX_BYTES = 200_000
SCRAPES_IN_A_WINDOW = 2  # at least: one that is lost must not look like silence
MIN_REASONING_DAYS = 184  # Regulation (EU) 2024/1689, article 19: six months
Argv = Annotated[tuple[str, ...], Field(min_length=1)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
UrlPath = Annotated[str, Field(pattern=r"^/[!-~]*$")]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_./-]{0,199}$")]
Usd = Annotated[float, Field(gt=0, le=100_000)]
Metric = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$")]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,99}$")]
Matcher = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,99}(=~|!~|!=|=)[^\n]{0,200}$")]  # value unquoted
# No agent may touch what decides what agents may do, nor what runs outside the sandbox.
PROTECTED = (
    ".github/**",
    ".gitlab-ci.yml",
    ".ci/**",
    "flyball.toml",
    "rbac/**",
    "prompts/**",
    "AGENTS.md",
    "CLAUDE.md",
    ".git*",
)


# Bounds that another section sets: written under [bounds], they would be without effect.
SAID_ELSEWHERE = {
    "call_micro_usd": "budget.call_usd",
    "session_micro_usd": "budget.session_usd",
    "delivery_micro_usd": "budget.delivery_usd",
    "day_micro_usd": "budget.day_usd",
    "session_turns": "agents.turns",
    "session_seconds": "agents.seconds",
    "ci_seconds": "test.seconds",
}


class RepositorySection(Section):
    path: Path = Path()  # relative to flyball.toml
    name: str = ""  # "": the folder's name
    branch: Branch = Branch("main")
    allowed: tuple[str, ...] = ("**",)
    protected: tuple[str, ...] = PROTECTED


class TestSection(Section):
    __test__ = False
    command: Argv = ("{python}", "-m", "pytest", "-q")
    python: str = ""  # "": that of the repository's .venv if it has one, else Flyball's own
    seconds: Seconds = 600
    slots: Annotated[int, Field(ge=1, le=64)] = 2
    mutants_seconds: Seconds = 60  # for all mutants of a change: whether its tests notice when its lines are broken
    plugins: bool = True  # False: pytest loads only the plugins that the repository names itself
    network: Places = ()
    keeps: Annotated[tuple[PathPattern, ...], Field(max_length=50)] = ()  # what an agent's test run may bring back


class BuildSection(Section):
    command: Argv | None = None  # None: the tree itself is what is deployed
    network: Places = ()


class ServiceSection(Section):
    name: str
    start: Argv
    environment: str = "production"
    health: str = "/health"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    telemetry: Literal["auto", "otlp", "proxy", "prometheus"] = "auto"
    otlp_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    otlp_grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    otlp_token_file: Path | None = None  # relative to flyball.toml. None: the edge makes one of its own
    gauges: Annotated[tuple[MetricName, ...], Field(max_length=MOST_GAUGES)] = ("process.memory.usage",)
    probes: Annotated[tuple[UrlPath, ...], Field(max_length=16)] = ()
    probe_rps: Annotated[float, Field(ge=0, le=50)] = 0
    python: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    secrets: Annotated[dict[VariableName, SecretSection], Field(max_length=64)] = Field(default_factory=dict)
    network: Places = ()
    reads: Annotated[tuple[Path, ...], Field(max_length=16)] = ()  # relative to flyball.toml
    judge_process: bool = False  # True: canaries are judged by a process of their own, which may only look


class PrometheusSection(Section):
    """Where counts come from with service.telemetry = "prometheus": metrics of OpenTelemetry's names by default."""

    url: str = ""  # what /api/v1 is below; required there
    token_env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""  # "": no token
    scrape_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    requests: Metric = "http_server_request_duration_seconds_count"
    errors: Annotated[tuple[Matcher, ...], Field(min_length=1, max_length=16)] = (
        "http_response_status_code=~5..",
        "error_type!=",
    )
    latency: Metric | Literal[""] = "http_server_request_duration_seconds_bucket"  # "": latency is not judged
    latency_unit: Literal["s", "ms"] = "s"
    service_label: LabelName = "job"
    version_label: LabelName = "service_version"
    instance_label: LabelName = "instance"
    route_label: LabelName | Literal[""] = "http_route"  # "": no routes, and health checks count as requests
    only: Annotated[tuple[Matcher, ...], Field(max_length=16)] = ()

    @property
    def scrape_ms(self) -> int:
        return self.scrape_seconds * 1000

    @property
    def unit_ms(self) -> float:
        """Milliseconds of one unit of the buckets' bounds."""
        return 1000.0 if self.latency_unit == "s" else 1.0


class AgentsSection(Section):
    model: str = "claude-sonnet-5-5"
    base_url: str | None = None  # None: the provider's own address
    turns: Annotated[int, Field(ge=1, le=500)] = 60
    seconds: Seconds = 900


class IssuerSection(Section):
    """Whose tokens the gateway takes besides its own (RFC 9068): of clients registered here under the same name."""

    url: str  # as `iss` says it
    keys_url: str  # JWK set
    client_claim: str = "client_id"
    # The `sub` of a client's own tokens, by client; one that is not named here is its own `sub`.
    subjects: dict[str, str] = Field(default_factory=dict)


class MountedTool(Section):
    """A tool of another server, as it was when somebody looked at it: `flyball rbac pin` prints these lines."""

    digest: str  # of its definition: another one is another tool, and refused
    tool_class: Literal["effect", "contained", "read"] = "effect"
    broadcasts: bool = True
    production_impacting: bool = False
    sensitivity: Literal["public", "internal", "confidential"] = "internal"
    taints: bool = True  # what it gives back is text by somebody outside


class MountSection(Section):
    url: str
    secret_env: str = ""  # the environment variable that holds the secret; agents never see it. "": it needs none
    header: str = "Authorization"
    prefix: str = "Bearer "
    seconds: Annotated[int, Field(ge=1, le=25)] = 20  # below the deadline of an effect
    tools: dict[str, MountedTool] = Field(default_factory=dict)


class GatewaySection(Section):
    """Where agents reach their tools over MCP. Only loopback is listened on; a proxy may make a `public_url` of it."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 0  # 0: any free one, which clients cannot know beforehand
    public_url: str = ""  # "": loopback
    token_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    issuer: IssuerSection | None = None  # None: only our own tokens
    mounts: dict[str, MountSection] = Field(default_factory=dict)


class WitnessSection(Section):
    url: str
    key: str  # its verification key, as `flyball witness --print-key` prints it


class LedgerSection(Section):
    """Where the log is kept, and who signs and witnesses it."""

    postgres_env: str = ""  # environment variable with a Postgres connection string. "": SQLite in the state folder
    origin: str = ""  # first line of its checkpoints. "": made from its first entry
    effects_wait_for: Literal["log", "signature", "witness"] = "log"  # of its intent, before an effect is acted
    witnesses: tuple[WitnessSection, ...] = ()
    heartbeat_seconds: Annotated[int, Field(ge=10, le=86_400)] = 300  # of silence, and an entry says that all is well


class PrivacySection(Section):
    reasoning_days: Annotated[int, Field(ge=1, le=36_500)] = 400

    @field_validator("reasoning_days")
    @classmethod
    def _six_months_at_least(cls, days: int) -> int:
        if days < MIN_REASONING_DAYS:
            raise ValueError(f"is below {MIN_REASONING_DAYS}: the AI Act, article 19, asks for six months")
        return days


class TelemetrySection(Section):
    """Where Flyball tells about itself, over OTLP/HTTP."""

    endpoint: str = ""  # the address before /v1/traces. "": OTEL_EXPORTER_OTLP_ENDPOINT; without it nothing is told
    headers_env: str = ""  # environment variable with headers, like "authorization=Bearer …". "": none
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    interval_seconds: Annotated[int, Field(ge=1, le=3_600)] = 10

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, endpoint: str) -> str:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError("begins with neither http:// nor https://")
        return endpoint


class BudgetSection(Section):
    call_usd: Usd = 0.5
    session_usd: Usd = 2.0
    delivery_usd: Usd = 5.0
    day_usd: Usd = 50.0


class PolicySection(Section):
    owner: str = "policy-owner"  # who answers for what the policy lets through
    large_change_lines: Annotated[int, Field(ge=1, le=1_000_000)] = 400
    careful: tuple[str, ...] = ()  # paths whose change asks for a person
    mutants_killed_percent: Annotated[int, Field(ge=0, le=100)] = 60  # of a change's mutants; fewer ask for a person
    mutants_required: bool = False  # True: a change whose mutants cannot be measured asks for a person
    exit_code_is_green: bool = False  # True: a test command that is not pytest may make a change Green
    asked_moves_are_green: bool = True  # another version of a package that is there already and that the task names
    interfaces: Literal["auto", "always", "never"] = "auto"  # auto: public ones count where no service is deployed
    codeowners: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # "@team" of CODEOWNERS to people's names
    rules: Path | None = None  # a folder with grants/ and policy/, relative to flyball.toml. None: those shipped
    people: tuple[str, ...] = ()  # who may do everything; empty, and no groups: whoever runs the command
    groups: dict[Literal["requesters", "approvers", "operators", "owners"], tuple[str, ...]] = Field(
        default_factory=dict
    )

    @property
    def members(self) -> Mapping[str, tuple[str, ...]]:
        return {str(group): names for group, names in self.groups.items()}

    @property
    def approvals(self) -> ApprovalRules:
        in_groups = {name for names in self.groups.values() for name in names}
        owners = frozenset(self.groups.get("owners", ()))
        return ApprovalRules(frozenset({*self.people, *in_groups}), owners, self.codeowners)


class Settings(Section):
    repository: RepositorySection = RepositorySection()
    test: TestSection = TestSection()
    build: BuildSection = BuildSection()
    service: ServiceSection | None = None  # None: nothing is deployed
    sandbox: SandboxSection = SandboxSection()
    prometheus: PrometheusSection = PrometheusSection()
    rollout: RolloutPlan = RolloutPlan()
    judge: JudgeConfig = JudgeConfig()
    agents: AgentsSection = AgentsSection()
    gateway: GatewaySection = GatewaySection()
    ledger: LedgerSection = LedgerSection()
    privacy: PrivacySection = PrivacySection()
    telemetry: TelemetrySection = TelemetrySection()
    budget: BudgetSection = BudgetSection()
    policy: PolicySection = PolicySection()
    bounds: Bounds = Bounds()

    @property
    def digest(self) -> Digest:
        return digest_of(self.model_dump(mode="json", exclude={"budget"}) | {"budget": str(self.budget)})

    def bounded(self) -> Bounds:
        """The bounds with the budgets and limits of the other sections in their place."""
        return self.bounds.model_copy(
            update={
                "call_micro_usd": _micro(self.budget.call_usd),
                "session_micro_usd": _micro(self.budget.session_usd),
                "delivery_micro_usd": _micro(self.budget.delivery_usd),
                "day_micro_usd": _micro(self.budget.day_usd),
                "session_turns": self.agents.turns,
                "session_seconds": self.agents.seconds,
                "ci_seconds": self.test.seconds,
            }
        )

    def configured(self, root: Path) -> RepositoryConfig:
        """The repository as the loop knows it. `root` is the folder of flyball.toml."""
        service = None
        if self.service is not None:
            service = ServiceConfig(Service(self.service.name), self.service.environment, self.rollout, self.judge)
        return RepositoryConfig(
            name=Repository(self.repository.name or slug(self.source(root).name)),
            branch=self.repository.branch,
            model=self.agents.model,
            protected=self.repository.protected,
            allowed=self.repository.allowed,
            service=service,
            approvals=self.policy.approvals,
        )

    def rules(self, root: Path) -> Path:
        """The folder of grants and policies. `root` is the folder of flyball.toml."""
        return SHIPPED if self.policy.rules is None else root / self.policy.rules

    def source(self, root: Path) -> Path:
        return (root / self.repository.path).resolve()


def load(path: Path) -> Settings:
    """Read a flyball.toml. Raises ConfigError that names the key, the value and the way out."""
    if not path.is_file():
        raise ConfigError(f"there is no {path}", "Write one with: flyball init")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes", "It should be a page long")
    try:
        raw = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", "Correct the line that it names") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply", "No setting lies more than two tables deep") from error
    settings = parse(raw, str(path))
    price_of(settings.agents.model)
    return settings


def parse(raw: dict[str, Any], where: str = FILE) -> Settings:
    for bound, setting in SAID_ELSEWHERE.items():
        if isinstance(raw.get("bounds"), dict) and bound in raw["bounds"]:
            raise ConfigError(f"{where}: bounds.{bound} is not a setting", f"Set {setting} instead")
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise as_config_error(error, where, Settings) from error
    for key, value in (
        ("repository.name", settings.repository.name),
        ("service.name", settings.service and settings.service.name),
    ):
        if value and not NAME.fullmatch(value):
            raise ConfigError(
                f"{where}: {key} is {value!r}", "Use lower-case letters, digits, dots, dashes and underscores"
            )
    _check_sandboxed(settings, where)
    if settings.service is not None and settings.service.telemetry == "prometheus":
        _check_prometheus(settings, where)
    return settings


def _check_sandboxed(settings: Settings, where: str) -> None:
    """What code in the sandbox may reach never is our own door for agents."""
    service = settings.service
    own = {f"{host}:{settings.gateway.port}" for host in ("127.0.0.1", "localhost")} if settings.gateway.port else set()
    for key, places in (
        ("test.network", settings.test.network),
        ("build.network", settings.build.network),
        ("service.network", service.network if service else ()),
    ):
        if found := sorted(own & set(places)):
            raise ConfigError(f"{where}: {key} has {found[0]}, which is gateway.port", "Take it out")
    twice = sorted(set(service.env) & set(service.secrets)) if service else []
    if twice:
        raise ConfigError(f"{where}: service.env and service.secrets both have {twice[0]!r}", "Keep it in secrets")


def _check_prometheus(settings: Settings, where: str) -> None:
    if settings.service is not None and settings.service.judge_process:
        raise ConfigError(
            f"{where}: service.judge_process is true and service.telemetry is 'prometheus'",
            "The judge's own process reads the edge's counts only: set one of the two otherwise",
        )
    if not settings.prometheus.url:
        raise ConfigError(
            f"{where}: service.telemetry is 'prometheus' and prometheus.url is not set",
            'Set it, such as url = "http://127.0.0.1:9090" under [prometheus]',
        )
    width_ms, scrape_ms = settings.rollout.window_ms, settings.prometheus.scrape_ms
    if width_ms < SCRAPES_IN_A_WINDOW * scrape_ms:
        raise ConfigError(
            f"{where}: rollout.window_ms is {width_ms}, shorter than two scrapes of "
            f"prometheus.scrape_seconds = {settings.prometheus.scrape_seconds}",
            f"Set rollout.window_ms to {SCRAPES_IN_A_WINDOW * scrape_ms} or more, or scrape more often",
        )


def _micro(value: float) -> MicroUsd:
    return MicroUsd(round(value * 1_000_000))


def slug(name: str) -> str:
    """A folder's name as a repository's name."""
    cleaned = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in name.lower()).strip("-._")
    return cleaned[:60] or "repository"


def python_of(section: TestSection | ServiceSection, source: Path) -> str:
    """The interpreter that has the repository's dependencies.

    The one named, else that of the repository's own .venv, else Flyball's.
    """
    if section.python:
        return str(source / section.python) if "/" in section.python else section.python
    own = source / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
