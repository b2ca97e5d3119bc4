"""After promotion there is no control to compare with: the live release is held against its own history.

An e-SR detector (`alarms`) runs over the windows since the release went live. Its state is no truth and is not stored:
it begins anew when a process starts and after `MOST_WINDOWS` windows, which costs detection time and never the promised
run length. When it raises an alarm, the windows that it saw go into the log, so that the alarm can be computed again.
An alarm pages and keeps a release from being confirmed; it rolls nothing back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from controller.canary.alarms import NOT_BEGUN, Detector, log_mean, usual_rate
from controller.canary.common import policy_of, windows_from
from controller.canary.court import pack
from controller.canary.eprocess import Sums, to_micro
from controller.canary.plain_words import fraction
from controller.domain import events as e
from controller.domain.counts import Totals, WindowCounts
from controller.domain.ids import Commit, StreamId
from controller.domain.rollout import Release, Rollout
from controller.domain.verdict import JudgeConfig
from controller.ports import Log, Ports, ServiceConfig

WATCH = "live/errors"
MOST_WINDOWS = 720  # of one run of the detector: two hours of 10 s
MOST_WATCHES = 64


@dataclass(frozen=True, slots=True)
class Watch:
    """One run of the detector."""

    next_ms: int
    windows: tuple[WindowCounts, ...] = ()
    logs: Sums = NOT_BEGUN


Watches = OrderedDict[tuple[StreamId, Commit], Watch]
_watches: WeakKeyDictionary[Log, Watches] = WeakKeyDictionary()  # two logs know nothing of each other


def detector(history: Totals, phi_milli: int, config: JudgeConfig) -> Detector:
    rate = config.watch_ratio_milli / 1000 * usual_rate(history)
    return Detector(rate, phi_milli, config.watch_run_windows)


def ran(windows: Sequence[WindowCounts], by: Detector, logs: Sums = NOT_BEGUN) -> Sums:
    """The detector's statistics after these windows, in which the canary's arm is the live release."""
    for window in windows:
        logs = by.step(logs, window.canary.errors, window.canary.requests)
    return logs


async def alarm(
    r: Rollout, ports: Ports, service: ServiceConfig, release: Release, since_ms: int
) -> e.AlarmRaised | None:
    """None: nothing looks wrong, or there is no history to hold it against, or it was said before."""
    if r.usual is None or (r.alarm is not None and r.alarm.release == release.number):
        return None
    by = detector(r.usual, r.usual_phi_milli, service.judge)
    key = (r.stream, release.version)
    watches = _watches.setdefault(ports.log, Watches())
    known = watches.get(key)
    start = windows_from(ports, known.next_ms if known else since_ms, service.plan.window_ms)
    if known is None or start != known.next_ms:
        known = Watch(start)
    watch = watches[key] = await _looked(known, ports, service, release, by)
    while len(watches) > MOST_WATCHES:
        watches.popitem(last=False)
    if not watch.windows or to_micro(log_mean(watch.logs)) < by.threshold_micro:
        return None
    bad, total = (sum(getattr(w.canary, what) for w in watch.windows) for what in ("errors", "requests"))
    usual = fraction(r.usual.errors, r.usual.requests)
    reason = (
        f"release {release.number} of {service.name} fails {fraction(bad, total)} with all the traffic on it, {usual} "
        f"before it; nothing beside it to compare with, so nothing is rolled back. A false alarm comes once in "
        f"{by.run_windows:,} windows"
    )
    return e.AlarmRaised(
        release=release.number,
        what=WATCH,
        windows=len(watch.windows),
        log_e_micro=to_micro(log_mean(watch.logs)),
        threshold_micro=by.threshold_micro,
        counts=await ports.blobs.put(pack(list(watch.windows))),
        policy=await policy_of(r, ports),
        reason=reason,
    )


async def _looked(known: Watch, ports: Ports, service: ServiceConfig, release: Release, by: Detector) -> Watch:
    """With the windows that have closed since."""
    version, width = release.version, service.plan.window_ms
    windows = await ports.telemetry.windows(
        service.name, canary=version, baseline=version, from_ms=known.next_ms, width_ms=width
    )
    if not windows:
        return known
    if len(known.windows) + len(windows) > MOST_WINDOWS:
        known = Watch(known.next_ms)
    newest = windows[-MOST_WINDOWS:]
    return Watch(windows[-1].end_ms, (*known.windows, *newest), ran(newest, by, known.logs))
