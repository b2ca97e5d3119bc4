"""Our words in OpenTelemetry's: the one place that changes when the semantic conventions do.

Names are those of semantic conventions 1.44.0; a test looks every one up in the pinned package
`opentelemetry-semantic-conventions`. What the conventions have no word for begins with `flyball.`. Stability as of
1.44.0: `service.*`, `deployment.environment.name` and `error.type` are stable, `cicd.*` and `vcs.*` release
candidates, `deployment.*`, `artifact.*` and `gen_ai.*` in development.
"""

from __future__ import annotations

from controller.domain.delivery import Phase
from controller.domain.events import Cause
from controller.ports.telling import Attributes, Instrument, Metric, Value

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "flyball"

# --- resource ---------------------------------------------------------------------------------------------------------

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"

# --- spans ------------------------------------------------------------------------------------------------------------

ERROR_TYPE = "error.type"
PIPELINE_NAME = "cicd.pipeline.name"
PIPELINE_ACTION = "cicd.pipeline.action.name"
PIPELINE_RUN_ID = "cicd.pipeline.run.id"
PIPELINE_RUN_STATE = "cicd.pipeline.run.state"
PIPELINE_RESULT = "cicd.pipeline.result"
TASK_NAME = "cicd.pipeline.task.name"
TASK_RUN_ID = "cicd.pipeline.task.run.id"
TASK_RESULT = "cicd.pipeline.task.run.result"
TASK_TYPE = "cicd.pipeline.task.type"
WORKER_ID = "cicd.worker.id"
REPOSITORY = "vcs.repository.name"
BASE_NAME = "vcs.ref.base.name"
BASE_TYPE = "vcs.ref.base.type"
BASE_REVISION = "vcs.ref.base.revision"
HEAD_NAME = "vcs.ref.head.name"
HEAD_TYPE = "vcs.ref.head.type"
HEAD_REVISION = "vcs.ref.head.revision"
CHANGE_ID = "vcs.change.id"
CHANGE_STATE = "vcs.change.state"
ENVIRONMENT = "deployment.environment.name"
DEPLOYMENT_ID = "deployment.id"
DEPLOYMENT_STATUS = "deployment.status"
ARTIFACT_HASH = "artifact.hash"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a kind of token of a model
TOOL_NAME = "gen_ai.tool.name"

BRANCH = "branch"  # as a type of ref
RUN = "RUN"  # a pipeline's action
INVOKE_AGENT, CHAT = "invoke_agent", "chat"

# --- what the conventions have no word for ----------------------------------------------------------------------------

LABEL = "flyball.label"
LOG_INDEX = "flyball.log.index"
CAUSE = "flyball.delivery.cause"
CAUSED_BY = "flyball.delivery.caused_by"
ROOT_DELIVERY = "flyball.delivery.root"
ASKED_BY = "flyball.delivery.asked_by"
END_PHASE = "flyball.delivery.phase"
ITERATION = "flyball.delivery.iteration"
ROUNDS = "flyball.delivery.rounds"
COST = "flyball.cost_micro_usd"
CUT_OFF = "flyball.cut_off"
LEFT_OUT = "flyball.events_left_out"
COLOUR = "flyball.risk.colour"
TESTS = "flyball.ci.tests"
FAILED_TESTS = "flyball.ci.failures"
LINES = "flyball.change.lines"
FILES = "flyball.change.files"
TAINTED = "flyball.tainted"
LANDING = "flyball.queue.landing"
LANE = "flyball.queue.lane"
WHY_EVICTED = "flyball.queue.why"
SERVICE = "flyball.rollout.service"
RELEASE = "flyball.rollout.release"
AGAINST = "flyball.rollout.against"
STEP = "flyball.rollout.step"
WEIGHT = "flyball.rollout.weight_percent"
FIRST_BAD_AT = "flyball.rollout.first_bad_request_at"
TRAFFIC_BACK_AT = "flyball.rollout.traffic_back_at"
HEALTH_CHECKS = "flyball.rollout.health_checks"
OUTCOME = "flyball.verdict.outcome"
RULE = "flyball.verdict.rule"
LOG_E = "flyball.verdict.log_e"
THRESHOLD = "flyball.verdict.threshold"
SENTENCE = "flyball.verdict.sentence"
MUST_PAGE = "flyball.verdict.must_page"
CANARY_REQUESTS = "flyball.verdict.canary.requests"
CANARY_ERRORS = "flyball.verdict.canary.errors"
BASELINE_REQUESTS = "flyball.verdict.baseline.requests"
BASELINE_ERRORS = "flyball.verdict.baseline.errors"
QUESTION = "flyball.decision.question"
CHOICE = "flyball.decision.choice"
RULES = "flyball.decision.rules"
CONFIDENCE = "flyball.decision.confidence_percent"
POLICY = "flyball.decision.policy"
SESSION_OUTCOME = "flyball.session.outcome"
TURNS = "flyball.session.turns"
TURN = "flyball.session.turn"
ALLOWED = "flyball.call.allowed"
CALL_FAILED = "flyball.call.failed"
CALL_RULES = "flyball.call.rules"
VERB = "flyball.effect.verb"
DIRECTION = "flyball.effect.direction"
HOW = "flyball.effect.how"
ALLOWED_BY = "flyball.effect.allowed_by"
ACT = "flyball.person.act"
PERSON = "flyball.person"
FAILED_STEP = "flyball.step"
ATTEMPT = "flyball.step.attempt"
LINK = "flyball.link"

DECISION, VERDICT, TOOL_CALL, PERSON_ACTED = (
    "flyball.decision",
    "flyball.verdict",
    "flyball.tool_call",
    "flyball.person_acted",
)
ALARM = "flyball.alarm"
STEP_FAILED, SESSION_RESUMED, LANDING_CHECKED = (
    "flyball.step_failed",
    "flyball.session_resumed",
    "flyball.landing_checked",
)

# --- words ------------------------------------------------------------------------------------------------------------

SUCCESS, FAILURE, ERROR, CANCELLATION, SKIP = "success", "failure", "error", "cancellation", "skip"
FAILURES = frozenset({FAILURE, ERROR})
PIPELINES = {Cause.TASK: "deliver", Cause.REVERT: "revert", Cause.FIX: "fix"}
RESULTS = {
    Phase.CONFIRMED: SUCCESS,
    Phase.HANDED_OVER: FAILURE,  # it was rolled back
    Phase.ABANDONED: FAILURE,
    Phase.SUPERSEDED: CANCELLATION,
}
TASKS = {
    Phase.NEW: "accept",
    Phase.ACCEPTED: "author",
    Phase.AUTHORED: "propose",
    Phase.PROPOSED: "check",
    Phase.CHECKED: "classify",
    Phase.CLASSIFIED: "clear",
    Phase.CLEARED: "merge",
    Phase.MERGED: "await_release",
    Phase.ROLLED_BACK: "hand_over",
    Phase.STUCK: "stuck",
}  # what is not here is told by the release's own spans
TASK_TYPES = {"build": "build", "ci": "test", "release": "deploy"}
PROVIDERS = {"claude": "anthropic"}


def provider_of(model: str) -> dict[str, Value]:
    """Empty: nobody knows whose model it is."""
    found = PROVIDERS.get(model.partition("-")[0])
    return {PROVIDER: found} if found else {}


def task(name: str, run: str) -> dict[str, Value]:
    """What every task's span says of itself. `run` is unique within its pipeline run."""
    typed: dict[str, Value] = {TASK_TYPE: TASK_TYPES[name]} if name in TASK_TYPES else {}
    return {TASK_NAME: name, TASK_RUN_ID: run} | typed


# --- metrics ----------------------------------------------------------------------------------------------------------

_C, _U, _G, _H = Instrument.COUNTER, Instrument.UP_DOWN_COUNTER, Instrument.GAUGE, Instrument.HISTOGRAM
# Seconds: the finest a canary is looked at, to a day.
_QUICK_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0)
_LONG_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0, 604_800.0)
# The two below are what the GenAI conventions advise.
_TOKENS = tuple(float(4**power) for power in range(14))
_CALL_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

RUN_DURATION = Metric("cicd.pipeline.run.duration", "s", _H, "From being asked for to the end.", _LONG_S)
RUN_ACTIVE = Metric("cicd.pipeline.run.active", "{run}", _U, "Deliveries that have not ended.")
RUN_ERRORS = Metric("cicd.pipeline.run.errors", "{error}", _C, "Deliveries that ended badly.")
CHANGE_COUNT = Metric("vcs.change.count", "{change}", _U, "Pull requests by state.")
CHANGE_DURATION = Metric("vcs.change.duration", "s", _G, "How long an open pull request has been open.")
TIME_TO_MERGE = Metric("vcs.change.time_to_merge", "s", _G, "From its opening to its landing: the last that landed.")
TOKEN_USAGE = Metric("gen_ai.client.token.usage", "{token}", _H, "Tokens of a model call.", _TOKENS)
CALL_DURATION = Metric("gen_ai.client.operation.duration", "s", _H, "From reservation to reply.", _CALL_S)
MODEL_COST = Metric("flyball.model.cost", "{micro_usd}", _C, "List price of the model calls, in millionths of a USD.")
LOG_E_NOW = Metric("flyball.rollout.log_e", "{nat}", _G, "ln of the evidence against the canary under way.")
LOG_E_LINE = Metric("flyball.rollout.log_e_threshold", "{nat}", _G, "Where the canary is rolled back: ln(1/alpha).")
VERDICTS = Metric("flyball.verdicts", "{verdict}", _C, "Verdicts that were written down.")
TIME_TO_DETECT = Metric(
    "flyball.rollout.time_to_detect", "s", _H, "From the first bad request to the regression's being found.", _QUICK_S
)
TIME_TO_RESTORE = Metric(
    "flyball.rollout.time_to_restore", "s", _H, "From the regression's being found to traffic's being back.", _QUICK_S
)
DOOR_REFUSED = Metric("flyball.gateway.refused", "{request}", _C, "Requests that the gateway turned away at its door.")
DOOR_KIND = "flyball.gateway.kind"
REFUSED = Metric("flyball.telemetry.refused", "{span}", _C, "Spans that the receiver refused for good.")

EXECUTING: Attributes = {PIPELINE_RUN_STATE: "executing"}
OPEN, MERGED, CLOSED = "open", "merged", "closed"
