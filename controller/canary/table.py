"""The rollout's table: what each phase of a release does next, and as whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controller.canary.exposing import expose, judge, resume, watch
from controller.canary.opening import build, open_release, start
from controller.canary.restoring import restore, unstick
from controller.domain.entry import Draft
from controller.domain.rollout import Rollout, RolloutPhase
from controller.ports import Ports

Step = Callable[[Rollout, Ports], Awaitable[list[Draft]]]

TABLE: dict[RolloutPhase, Step] = {
    RolloutPhase.IDLE: open_release,  # releaser
    RolloutPhase.OPENED: build,  # releaser
    RolloutPhase.BUILT: start,  # releaser
    RolloutPhase.READY: expose,  # releaser
    RolloutPhase.CANARY: judge,  # observer
    RolloutPhase.PAUSED: resume,  # releaser
    RolloutPhase.LIVE: watch,  # observer
    RolloutPhase.REGRESSED: restore,  # responder
    RolloutPhase.STUCK: unstick,  # a named person
}
