"""Faults to switch on, so that one can see what a release with them does in production. All are off.

A name in `FAULTS` belongs to one version: a commit puts it there. `SHOP_FAULTS` (names, separated by commas) and the
file that `SHOP_FAULTS_FILE` names (the same, read again while the shop runs) hit every version alike.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

FAULTS: tuple[str, ...] = ()

AT_REQUESTS = frozenset({"errors-on-one-route", "outage", "noise", "slow-median", "slow-tail"})
AT_START = frozenset({"crash-on-start", "leak", "silent"})

FAILING_ROUTE, FAILING_SHARE = "/cart/price", 0.3
OUTAGE_SHARE = 0.5  # of all requests
BURST_STARTS, BURST_GOES_ON = 0.005, 0.5  # per request: bursts of 2 failures on average, 1 % of all requests
SLOWER_S = 0.06
TAIL_SHARE, TAIL_S = 0.02, 1.0
LEAK_BYTES, LEAK_EVERY_S, LEAK_MOST_BYTES = 1 << 20, 0.1, 300 << 20  # 10 MB a second
LOOK_EVERY_S = 0.1  # at the file


class UnknownFaultError(ValueError):
    """A name that stands for no fault."""


class InjectedFailureError(Exception):
    """A fault that was switched on has failed this request."""


def names_in(text: str, known: frozenset[str], where: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if strange := names - known:
        raise UnknownFaultError(f"{where} names {sorted(strange)}: give some of {', '.join(sorted(known))}, or nothing")
    return names


class Switchboard:
    """What is switched on in this process."""

    def __init__(self, of_version: tuple[str, ...], env: Mapping[str, str]) -> None:
        everything = AT_REQUESTS | AT_START
        self._always = names_in(",".join(of_version), everything, "FAULTS") | names_in(
            env.get("SHOP_FAULTS", ""), everything, "SHOP_FAULTS"
        )
        self._file = Path(env["SHOP_FAULTS_FILE"]) if env.get("SHOP_FAULTS_FILE") else None
        self._now = self._always & AT_REQUESTS
        self._look_at = monotonic()
        seed = f"{env.get('SHOP_FAULTS_SEED', '0')} {env.get('SERVICE_INSTANCE_ID', '')}"
        self.dice = random.Random(seed)  # noqa: S311  chance, no secret
        self._in_burst = False

    def at_start(self) -> frozenset[str]:
        return self._always & AT_START

    def now(self) -> frozenset[str]:
        """The faults that hit a request which comes now. A file that is not there names none."""
        if self._file is not None and monotonic() >= self._look_at:
            self._look_at = monotonic() + LOOK_EVERY_S
            text = self._file.read_text() if self._file.exists() else ""
            self._now = self._always & AT_REQUESTS | names_in(text, AT_REQUESTS, str(self._file))
        return self._now

    def delay_s(self, on: frozenset[str]) -> float:
        delay_s = SLOWER_S if "slow-median" in on else 0.0
        return delay_s + TAIL_S if "slow-tail" in on and self.dice.random() < TAIL_SHARE else delay_s

    def fails(self, on: frozenset[str], route: str) -> str | None:
        """The fault that fails this request. None: none does."""
        if "errors-on-one-route" in on and route == FAILING_ROUTE and self.dice.random() < FAILING_SHARE:
            return "errors-on-one-route"
        if "outage" in on and self.dice.random() < OUTAGE_SHARE:
            return "outage"
        if "noise" in on:
            self._in_burst = self.dice.random() < (BURST_GOES_ON if self._in_burst else BURST_STARTS)
            return "noise" if self._in_burst else None
        return None


class Faulty:
    """One route, with whatever is switched on."""

    def __init__(
        self, app: ASGIApp, path: str, switches: Switchboard, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._app = app
        self._path = path
        self._switches = switches
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        on = self._switches.now()
        if on:
            if delay_s := self._switches.delay_s(on):
                await self._pause(delay_s)
            if fault := self._switches.fails(on, self._path):
                raise InjectedFailureError(fault)
        await self._app(scope, receive, send)


def wire(app: Starlette, switches: Switchboard) -> Starlette:
    """The same app, its routes under the switches. Its health check says what it always says."""
    for route in app.routes:
        if isinstance(route, Route) and route.path != "/health":
            route.app = Faulty(route.app, route.path, switches)
    return app


def leak() -> threading.Thread:
    """Memory that nobody gives back, up to a bound that the machine can bear."""
    kept: list[bytes] = []

    def grow() -> None:
        pause = threading.Event()
        while len(kept) * LEAK_BYTES < LEAK_MOST_BYTES:
            kept.append(b"x" * LEAK_BYTES)
            pause.wait(LEAK_EVERY_S)
        pause.wait()  # and keeps it

    thread = threading.Thread(target=grow, name="leak", daemon=True)
    thread.start()
    return thread
