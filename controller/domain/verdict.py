"""What a canary judge says: one verdict, and every number that it depends on besides the counts.

Logarithms of e-values are natural, in micro-nats (`..._micro`); ratios and phi are in thousandths (`..._milli`); rates
and error probabilities in millionths (`..._ppm`). A verdict rests on nothing but these integers, so whoever holds the
counts can compute it again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from controller.domain.base import Fact
from controller.domain.counts import BucketIndex, Count, Level, Name, Totals

Plain = Annotated[str, Field(min_length=1, max_length=600)]
TraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Outcome(StrEnum):
    PROMOTE = "promote"  # shown to be good enough for the next step
    HOLD = "hold"  # neither shown; the verdict says what is missing
    ROLL_BACK = "roll_back"  # shown to be worse; final for this rollout
    ABSENT = "absent"  # silent where traffic was due; acts alone only where callers confirm that they asked it


class Rule(StrEnum):
    """The rule that decided; its id stands in the log."""

    ERRORS = "canary/errors"
    LATENCY = "canary/latency"
    PROMOTED = "canary/promoted"
    MORE_REQUESTS = "canary/more-requests"
    SUSPECT = "canary/suspect"
    TOO_NOISY = "canary/too-noisy"
    SILENT = "canary/silent"  # and nobody can say whether it was asked
    ABSENT = "canary/absent"  # asked by its callers, and silent
    SAMPLE_RATIO = "canary/sample-ratio"
    SHARED_INCIDENT = "canary/shared-incident"
    GAUGE = "canary/gauge"


class View(StrEnum):
    """Whose counts a test reads."""

    SERVER = "server"  # the service's own report
    CALLERS = "callers"  # what those saw who called it


class TestKind(StrEnum):
    __test__ = False
    ERRORS = "errors"
    LATENCY = "latency"
    ABSENT = "absent"  # windows of silence, of windows in which it was asked


class PromotionRule(StrEnum):
    ABSOLUTE = "absolute"  # shown to fail less often than the SLO allows
    RELATIVE = "relative"  # shown to fail less often than `worst_ratio` times the baseline; needs high traffic
    EITHER = "either"  # the mean of both e-values: rejects "above the SLO and above the worst ratio"


class PhiSource(StrEnum):
    MEASURED = "measured"
    PRIOR = "prior"


class Phi(Fact):
    """Overdispersion: variance of the baseline's counts over that of independent requests. It divides evidence."""

    milli: int = Field(ge=1000, le=1_000_000)
    source: PhiSource
    instances: Count
    minutes: Count


class BoundarySource(StrEnum):
    HISTORY = "history"
    CONCURRENT_BASELINE = "concurrent_baseline"


class Boundaries(Fact):
    """Latency boundaries, fixed before the first judged window.

    The three tuples run in parallel; empty ones mean that latency is not judged.
    """

    quantiles_milli: tuple[int, ...] = ()
    indices: tuple[BucketIndex, ...] = ()  # boundary b means base^b milliseconds
    slower: tuple[Count, ...] = ()  # how many of `requests` were slower than each
    source: BoundarySource
    requests: Count  # timed requests that they were chosen from

    @model_validator(mode="after")
    def _parallel(self) -> Boundaries:
        if not len(self.quantiles_milli) == len(self.indices) == len(self.slower):
            raise ValueError(
                "boundaries need one quantile, one index and one count each: build them with choose_boundaries()"
            )
        return self


class Silence(Fact):
    """How often the confirmed release itself leaves a window empty in which its callers asked it."""

    asked: Count  # windows in which callers sent it requests
    silent: Count  # of those, windows that it reported nothing of
    bound_ppm: int = Field(ge=1, le=999_999)  # taken as the most that a window of a sound canary is empty by chance


class Exemplars(Fact):
    """Traces to look at, newest last. Empty where the service sends no traces."""

    bad: tuple[TraceId, ...] = Field(default=(), max_length=20)  # of the canary, failed
    good: tuple[TraceId, ...] = Field(default=(), max_length=20)  # of the baseline, served


class JudgeConfig(Fact):
    """Every number that a verdict depends on besides the counts.

    Defaults come from simulation over 0.05 to 50 canary requests a second.
    """

    alpha_ppm: int = Field(default=1_000, ge=1, le=500_000)  # false rollbacks, per rollout and not per look
    page_alpha_ppm: int = Field(default=10_000, ge=1, le=500_000)  # weaker evidence that pages and stops promotion
    theta0_milli: int = Field(default=1_250, ge=1_000, le=100_000)  # tolerated ratio of error rates
    grid_points: int = Field(default=16, ge=2, le=64)
    grid_first_milli: int = Field(default=1_250, ge=1_001)  # alternatives, as multiples of what is tolerated
    grid_last_milli: int = Field(default=128_000, le=10_000_000)
    errors_weight_ppm: int = Field(default=500_000, ge=1, le=999_999)  # the rest is spread evenly over the boundaries
    beta_ppm: int = Field(default=50_000, ge=1, le=500_000)  # wrong promotions
    promotion: PromotionRule = PromotionRule.ABSOLUTE
    slo_error_ppm: int = Field(default=10_000, ge=1, le=500_000)
    worst_ratio_milli: int = Field(default=3_000, ge=2_000, le=100_000)
    min_step_requests: int = Field(
        default=100, ge=1, le=10**9
    )  # canary requests seen at the present weight before it may grow
    quantiles_milli: tuple[Annotated[int, Field(gt=0, lt=1000)], ...] = (500, 750, 900, 950, 990)
    min_tail_requests: int = Field(default=5, ge=1)  # a quantile is used when history has this many requests beyond it
    tolerance_buckets: int = Field(
        default=1, ge=0, le=16
    )  # canary may be this many 9 % buckets slower at every boundary
    history_weight_requests: int = Field(default=1_000, ge=1)  # history counts as at most this many baseline requests
    phi_prior_milli: int = Field(default=2_000, ge=1_000)  # assumed where it cannot be measured
    phi_margin_milli: int = Field(default=10_000, ge=0, le=1_000_000)  # over the root of the errors it is measured by
    phi_too_noisy_milli: int = Field(default=10_000, ge=1_000)
    phi_min_instances: int = Field(default=3, ge=2)
    phi_min_minutes: int = Field(default=10, ge=1)
    phi_min_errors: int = Field(default=20, ge=1)
    absent_ppm: int = Field(default=1, ge=1, le=10_000)  # how improbable a silence must be
    absent_min_baseline_requests: int = Field(default=50, ge=1)
    absent_weight_ppm: int = Field(default=50_000, ge=1, le=500_000)  # ABSENT's share of alpha, where it may act alone
    silence_prior_ppm: int = Field(default=50_000, ge=1, le=500_000)  # a sound canary's empty windows, at least this
    callers_weight_ppm: int = Field(default=400_000, ge=0, le=900_000)  # of errors and of latency, where callers tell
    routes_weight_ppm: int = Field(default=300_000, ge=0, le=900_000)  # of the service's own errors, for its routes
    gauges: tuple[Name, ...] = Field(default=("process.memory.usage",), max_length=16)  # compared; they only page
    gauge_tolerance_milli: int = Field(default=1_250, ge=1_000, le=100_000)  # a canary's gauge may be so many times
    incident_ratio_milli: int = Field(default=3_000, ge=1_000, le=100_000)  # of its history: more, and both arms suffer
    watch_ratio_milli: int = Field(default=1_500, ge=1_000, le=100_000)  # after promotion, of its history
    watch_run_windows: int = Field(default=259_200, ge=100, le=10**9)  # to a false alarm, on average: 30 days of 10 s
    recovery_alpha_ppm: int = Field(default=10_000, ge=1, le=500_000)  # that it is called over while it goes on
    blame_posterior_ppm: int = Field(default=900_000, ge=500_000, le=999_999)  # to revert one of several changes alone
    blame_lead_milli: int = Field(default=10_000, ge=1_000, le=10**9)  # and so many times the next one's
    interval_alpha_ppm: int = Field(default=50_000, ge=1, le=500_000)
    max_windows: int = Field(default=8_640, ge=1, le=100_000)  # 24 h of 10 s windows

    @model_validator(mode="after")
    def _grid_rises(self) -> JudgeConfig:
        if self.grid_last_milli <= self.grid_first_milli:
            raise ValueError("grid_last_milli must exceed grid_first_milli")
        return self


class Evidence(Fact):
    """One test of the combined e-value: the counts it saw and how far it got."""

    boundary: BucketIndex | None  # None: the test of errors; else baseline requests above base^boundary ms are bad
    weight_ppm: int
    log_e_micro: int
    canary_bad: Count
    canary_total: Count
    baseline_bad: Count
    baseline_total: Count
    kind: TestKind | None = None  # None: written before tests named theirs; `boundary` tells
    view: View = View.SERVER
    route: str | None = None  # None: all routes together


class RatioInterval(Fact):
    """Anytime-valid confidence interval of (canary error rate / baseline error rate), rounded outwards."""

    lower_milli: int
    upper_milli: int | None  # None: beyond 10,000, or the baseline has not failed often enough to tell
    alpha_ppm: int


class Promotion(Fact):
    """Evidence that the canary is good enough. The rule in force decides which of the two counts."""

    absolute_log_e_micro: int
    relative_log_e_micro: int
    log_e_micro: int  # by the rule in force
    threshold_micro: int
    step_requests: Count  # canary requests at the present weight
    requests_needed: (
        int | None
    )  # more canary requests at the observed rates; 0: enough; None: out of reach at these rates
    wait_ms: int | None = None  # until then at the canary's present traffic. None: out of reach, or no traffic


class SampleRatio(Fact):
    """Whether the canary gets the share of requests that it was given, by whoever counts them first."""

    intended_ppm: int
    seen_ppm: int | None  # None: no request yet
    log_e_micro: int
    threshold_micro: int


class SharedIncident(Fact):
    """Whether the baseline fails more than its own history: then both arms suffer, and the canary is not to blame."""

    history_ppm: int
    seen_ppm: int | None  # in the newest window with requests. None: there was none
    log_e_micro: int
    threshold_micro: int


class GaugeEvidence(Fact):
    name: Name
    log_e_micro: int
    threshold_micro: int
    canary_milli: Level | None  # in the newest window that had both. None: there was none
    baseline_milli: Level | None


class Spent(Fact):
    """What the rollout cost users: failed canary requests beyond what the baseline's rate would have failed."""

    failed_requests: int
    budget_ppm: int | None  # of the failures that the SLO allows for all requests seen. None: no request was seen


class Verdict(Fact):
    outcome: Outcome
    rule: Rule
    may_act_alone: bool  # the controller may promote or roll back on this with nobody asked
    must_page: bool  # a person must look, since nothing here may act
    log_e_micro: int  # combined over `evidence`
    threshold_micro: int
    first_crossing_window: int | None  # 0-based; None: never crossed. Evidence stands as it was in that window
    windows: int
    evidence: tuple[Evidence, ...]
    canary: Totals
    baseline: Totals
    ratio: RatioInterval
    promotion: Promotion
    phi: Phi  # of errors
    latency_phi: Phi | None  # None: not measured, that of errors serves for latency too
    caveats: tuple[Plain, ...]
    sentence: Plain
    judge: int = 1  # which judge spoke; 2 from when it had a panel. Another one's words differ, its numbers must not
    sample_ratio: SampleRatio | None = None  # None: not tested
    incident: SharedIncident | None = None  # None: no history to hold the baseline against
    gauges: tuple[GaugeEvidence, ...] = ()
    spent: Spent | None = None  # None: written before verdicts said so
    outlook: tuple[Plain, ...] = ()  # what the traffic can show, by when, and what would help; empty: nothing to say

    @model_validator(mode="after")
    def _only_proof_acts(self) -> Verdict:
        proven = self.outcome in (Outcome.PROMOTE, Outcome.ROLL_BACK) or self.rule is Rule.ABSENT
        if self.may_act_alone != proven:
            raise ValueError(
                f"{self.outcome} by {self.rule} with may_act_alone={self.may_act_alone}: "
                "only promote and roll_back act alone, and absent where callers confirm it"
            )
        return self
