"""What a canary judge sees and says: counts in, one verdict out, all of them integers that fit in a log entry.

Logarithms of e-values are natural, in micro-nats (`..._micro`); ratios and phi are in thousandths (`..._milli`); rates
and error probabilities in millionths (`..._ppm`). A verdict rests on nothing but these integers, so whoever holds the
counts can compute it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from controller.domain.base import Fact

Count = Annotated[int, Field(ge=0, le=10**12)]
EpochMs = Annotated[int, Field(ge=0, le=10**14)]
BucketIndex = Annotated[int, Field(ge=-1024, le=1024)]  # 2^-128 ms to 2^128 ms at scale 3
Plain = Annotated[str, Field(min_length=1, max_length=600)]

SCALE = 3  # OpenTelemetry exponential histogram scale: base 2^(1/8), buckets 9.05 % wide
BUCKETS_PER_DOUBLING = 2**SCALE


class Histogram(Fact):
    """Sparse exponential histogram at scale 3: bucket `i` counts durations in (base^i, base^(i+1)] milliseconds.

    `buckets` holds (index, count) pairs, sorted, each index once, counts positive; empty means that nothing was timed.
    """

    buckets: tuple[tuple[BucketIndex, Annotated[int, Field(gt=0, le=10**12)]], ...] = Field(default=(), max_length=2048)

    @model_validator(mode="after")
    def _sorted_once(self) -> Histogram:
        indices = [index for index, _ in self.buckets]
        if indices != sorted(set(indices)):
            raise ValueError("histogram buckets must be sorted by index, each index once: build it with Histogram.of()")
        return self

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Histogram:
        return cls(buckets=tuple(sorted((index, count) for index, count in counts.items() if count)))

    @property
    def total(self) -> int:
        return sum(count for _, count in self.buckets)

    def slower_than(self, index: int) -> int:
        """How many durations exceed base^index milliseconds, the lower edge of bucket `index`."""
        return sum(count for bucket, count in self.buckets if bucket >= index)

    def merged_with(self, other: Histogram) -> Histogram:
        counts = Counter(dict(self.buckets))
        counts.update(dict(other.buckets))
        return Histogram.of(counts)

    def downscaled(self, halvings: int) -> Histogram:
        """Read a histogram of scale 3 + `halvings` at scale 3: neighbours merge in pairs, exactly."""
        counts: Counter[int] = Counter()
        for index, count in self.buckets:
            counts[index >> halvings] += count
        return Histogram.of(counts)


class _Erring(Fact):
    requests: Count
    errors: Count

    @model_validator(mode="after")
    def _errors_are_requests(self) -> _Erring:
        if self.errors > self.requests:
            raise ValueError(f"errors {self.errors} exceed requests {self.requests}: count each logical request once")
        return self


class Totals(_Erring):
    """Requests of one arm since the rollout began, and how many of them failed."""


class ArmCounts(_Erring):
    """One arm in one window. `latency` may time fewer requests than were counted, or none."""

    latency: Histogram = Histogram()

    def merged_with(self, other: ArmCounts) -> ArmCounts:
        return ArmCounts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=self.latency.merged_with(other.latency),
        )


class WindowCounts(Fact):
    """Canary and concurrent baseline over the same [start_ms, end_ms) of epoch milliseconds."""

    start_ms: EpochMs
    end_ms: EpochMs
    canary: ArmCounts
    baseline: ArmCounts

    @model_validator(mode="after")
    def _has_length(self) -> WindowCounts:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"window ends at {self.end_ms}, not after its start {self.start_ms}")
        return self


class InstanceMinute(_Erring):
    """One baseline instance over the minute that starts at `minute_ms`; what dispersion is learnt from."""

    instance: str
    minute_ms: EpochMs


class Outcome(StrEnum):
    PROMOTE = "promote"  # shown to be good enough for the next step
    HOLD = "hold"  # neither shown; the verdict says what is missing
    ROLL_BACK = "roll_back"  # shown to be worse; final for this rollout
    ABSENT = "absent"  # silent where traffic was due; no error guarantee, so it only holds and pages


class Rule(StrEnum):
    """The rule that decided; its id stands in the log."""

    ERRORS = "canary/errors"
    LATENCY = "canary/latency"
    PROMOTED = "canary/promoted"
    MORE_REQUESTS = "canary/more-requests"
    SUSPECT = "canary/suspect"
    TOO_NOISY = "canary/too-noisy"
    SILENT = "canary/silent"


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
    phi_too_noisy_milli: int = Field(default=10_000, ge=1_000)
    phi_min_instances: int = Field(default=3, ge=2)
    phi_min_minutes: int = Field(default=10, ge=1)
    phi_min_errors: int = Field(default=20, ge=1)
    absent_ppm: int = Field(default=1, ge=1, le=10_000)  # how improbable a silence must be
    absent_min_baseline_requests: int = Field(default=50, ge=1)
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

    @model_validator(mode="after")
    def _only_proof_acts(self) -> Verdict:
        if self.may_act_alone != (self.outcome in (Outcome.PROMOTE, Outcome.ROLL_BACK)):
            raise ValueError(
                f"{self.outcome} with may_act_alone={self.may_act_alone}: only promote and roll_back act alone"
            )
        return self
