"""RECOVERING: traffic is back. See that it is over for the users; if it goes on, the release was not the cause."""

from __future__ import annotations

from controller.canary.common import current, draft, ms, page, place, policy_of, wait, windows_from
from controller.canary.court import pack
from controller.canary.recovery import Recovery, recovery
from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import Digest
from controller.domain.rollout import Rollout
from controller.domain.verdict import JudgeConfig
from controller.errors import Permanent
from controller.ports import Ports


async def recover(r: Rollout, ports: Ports) -> list[Draft]:
    """Every window since traffic came back, looked at anew each time: nothing is carried between two looks."""
    release, (_, service) = current(r), place(r, ports)
    restored = release.restored
    if restored is None or restored.badness is None or r.confirmed is None:
        raise Permanent(f"{r.stream} recovers from nothing", "Run `flyball log verify`")
    width, back = service.plan.window_ms, max(ms(restored.traffic_back_at), r.recheck_from_ms)
    windows = await ports.telemetry.windows(
        service.name,
        canary=release.commit,
        baseline=r.confirmed.version,
        from_ms=windows_from(ports, back + 1, width),
        width_ms=width,
    )
    phi_milli = _phi_milli(r, service.judge)
    seen = recovery(windows, restored.badness, phi_milli, service.judge)
    over = ms(ports.clock.now()) >= back + service.plan.recovery_ms
    if not (seen.ended or seen.lasting or over):
        reason = f"watching {service.name} until it fares as before release {release.number}"
        return wait(r, ports, e.WaitsFor.EFFECT, service.plan.recovery_ms / 1000, reason)
    counts = await ports.blobs.put(pack(windows))
    if seen.lasting and not seen.ended:
        return [await _lasting(r, ports, seen, counts)]
    if not seen.ended:
        words = f"too few requests to tell within {service.plan.recovery_ms // 1000} s: {_rate(seen)}"
        await page(r, ports, "recovery-unseen", f"release {release.number} of {service.name} is rolled back; {words}")
    else:
        words = f"it is over: {_rate(seen)}"
    verified = e.RecoveryVerified(
        release=release.number,
        recovered=seen.ended,
        requests=seen.requests,
        errors=seen.bad,
        log_e_micro=seen.ended_micro,
        threshold_micro=seen.threshold_micro,
        phi_milli=_phi_milli(r, place(r, ports)[1].judge),
        counts=counts,
        policy=await policy_of(r, ports),
        reason=words,
    )
    return [draft(r, verified)]


async def _lasting(r: Rollout, ports: Ports, seen: Recovery, counts: Digest) -> Draft:
    release = current(r).number
    reason = f"it goes on without release {release}: {_rate(seen)}; look at what else changed"
    await page(r, ports, f"not-recovered-{r.unstuck}", f"{r.stream} has not recovered. {reason}")
    failed = e.RecoveryFailed(
        release=release,
        requests=seen.requests,
        errors=seen.bad,
        log_e_micro=seen.lasting_micro,
        threshold_micro=seen.threshold_micro,
        phi_milli=_phi_milli(r, place(r, ports)[1].judge),
        counts=counts,
        policy=await policy_of(r, ports),
        reason=reason,
    )
    return draft(r, failed)


def _phi_milli(r: Rollout, config: JudgeConfig) -> int:
    return r.ready.phi.milli if r.ready else config.phi_prior_milli


def _rate(seen: Recovery) -> str:
    return f"{seen.bad:,} of {seen.requests:,} requests were bad since traffic came back"
