"""The rollout's table: what each phase of a release does next, and as whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controller.canary.common import OBSERVER, RELEASER, RESPONDER
from controller.canary.exposing import expose, judge, resume
from controller.canary.living import watch
from controller.canary.opening import build, open_release, start
from controller.canary.recovering import recover
from controller.canary.restoring import restore, unstick
from controller.domain.entry import Draft
from controller.domain.rollout import Rollout, RolloutPhase
from controller.ports import Ports

Step = Callable[[Rollout, Ports], Awaitable[list[Draft]]]

TABLE: dict[RolloutPhase, Step] = {
    RolloutPhase.IDLE: open_release,
    RolloutPhase.OPENED: build,
    RolloutPhase.BUILT: start,
    RolloutPhase.READY: expose,
    RolloutPhase.CANARY: judge,
    RolloutPhase.PAUSED: resume,
    RolloutPhase.LIVE: watch,
    RolloutPhase.REGRESSED: restore,
    RolloutPhase.RECOVERING: recover,
    RolloutPhase.STUCK: unstick,
}

AGENTS: dict[RolloutPhase, str] = {
    RolloutPhase.IDLE: RELEASER,
    RolloutPhase.OPENED: RELEASER,
    RolloutPhase.BUILT: RELEASER,
    RolloutPhase.READY: RELEASER,
    RolloutPhase.CANARY: OBSERVER,
    RolloutPhase.PAUSED: RELEASER,
    RolloutPhase.LIVE: OBSERVER,
    RolloutPhase.REGRESSED: RESPONDER,
    RolloutPhase.RECOVERING: OBSERVER,
    RolloutPhase.STUCK: RESPONDER,
}
