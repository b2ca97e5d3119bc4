"""Why a release is shown to more users, held, promoted, confirmed or paused: the decisions of `exposing`, as data."""

from __future__ import annotations

from controller.canary.common import OBSERVER, Ground, current
from controller.domain.decision import Decision, decide
from controller.domain.rollout import Rollout
from controller.domain.verdict import Verdict


def stepping(r: Rollout, on: Ground, step: int, weight: int) -> Decision:
    words = r.last_verdict.sentence if r.last_verdict else "its health check passes and no user has seen it"
    return decide(
        f"Send {weight} % of traffic to release {current(r).number}?",
        "step",
        over={"stay": "the former step has passed", "promote": "promotion needs its own proof"},
        because=(on.claim(f"step {step}: {words}{_counted_by(r)}"),),
        would_change="a verdict to roll back, a hold, or a stop",
        fallback="the weight returns to the confirmed release by itself if it is not renewed",
        rules=("rollout/steps", f"agent/{OBSERVER}-read-only"),
        policy=on.policy,
    )


def holding(r: Rollout, on: Ground, verdict: Verdict) -> Decision:
    return decide(
        f"Keep {r.weight_percent} % on release {current(r).number}?",
        "hold",
        over={"roll back": "the evidence has not crossed its line", "step": "the step is not over"},
        because=(on.claim(verdict.sentence),),
        would_change="the next window",
        fallback="the weight returns to the confirmed release by itself",
        rules=(verdict.rule.value,),
        policy=on.policy,
    )


def baking(r: Rollout, on: Ground) -> Decision:
    return decide(
        f"Keep all traffic on release {current(r).number}?",
        "hold",
        over={"confirm": "it has not been live long enough", "roll back": "it is healthy"},
        because=(on.claim("its health check passes; at 100 % there is no control to compare with"),),
        would_change="a failing health check, a stop, or the end of its bake",
        fallback="the weight returns to the former release by itself",
        rules=("rollout/bake",),
        policy=on.policy,
    )


def promoting(r: Rollout, on: Ground) -> Decision:
    words = r.last_verdict.sentence if r.last_verdict else "the first release: there is nothing to compare it with"
    return decide(
        f"Send all traffic to release {current(r).number}?",
        "promote",
        over={
            "hold": "the promotion test is passed, or a person asked for it",
            "roll back": "nothing speaks against it",
        },
        because=(on.claim(f"{words}{_counted_by(r)}"),),
        would_change="a verdict to roll back, a hold, or a stop",
        fallback="the former release stands by until this one is confirmed",
        rules=((r.last_verdict.rule.value if r.last_verdict else "rollout/first-release"),),
        policy=on.policy,
    )


def confirming(r: Rollout, on: Ground) -> Decision:
    return decide(
        f"Confirm release {current(r).number}?",
        "confirm",
        over={"keep the former one standing by": "it has baked, healthy, with all the traffic"},
        because=(on.claim(f"live since {r.live_at.isoformat() if r.live_at else 'now'}"),),
        would_change="a failing health check or a hold",
        fallback="the former artefact can be released again",
        rules=("rollout/bake",),
        policy=on.policy,
    )


def retrying(r: Rollout, on: Ground, by: str) -> Decision:
    return decide(
        f"Begin the canary of release {current(r).number} again?",
        "begin again",
        over={"go on with it": f"{by} asked for it to be judged anew"},
        because=(on.claim(f"{by} asked for another try; the evidence so far stays in the log and decides nothing"),),
        would_change="nothing: it is a person's decision, and takes traffic off the canary first",
        fallback="the platform's own deadline takes the traffic back",
        rules=("people/retry",),
        policy=on.policy,
    )


def pausing(r: Rollout, on: Ground, reason: str) -> Decision:
    return decide(
        f"Take the traffic off release {current(r).number}?",
        "pause",
        over={"let it run on": "a stop takes running canaries to stable first"},
        because=(on.claim(reason),),
        would_change="the stop being lifted",
        fallback="the platform's own deadline does the same",
        rules=("control/stop-is-safe",),
        policy=on.policy,
    )


def _counted_by(r: Rollout) -> str:
    """Empty: nothing has been counted yet."""
    return f", counted by {r.segments[-1].source}" if r.segments else ""
