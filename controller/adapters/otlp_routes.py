"""Requests and errors by route: which routes are counted apart, and which of them a pair of versions is compared by.

Routes are counted as they come, up to a bound. A comparison takes the baseline's busiest ones when it begins and has
some places left for routes on which something fails; a place once given is kept, and a route is shown only in windows
that were still open when it got its place, so that no window changes after it was handed out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from controller.domain.counts import MOST_ROUTES, RouteCounts, Totals

SECONDS_KEPT = 2 * 3600
MOST_KNOWN = 64  # of a service; requests of others are counted in the whole only
FAILING_PLACES = 8  # of MOST_ROUTES, left for routes that fail later
MOST_PAIRS = 64
LONGEST_ROUTE = 200

RouteSeconds = dict[int, dict[str, tuple[int, int]]]  # requests and errors, by second and route


class ServiceRoutes:
    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._failing: dict[str, None] = {}
        self._chosen: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()  # since which second, by route

    def add(self, seconds: RouteSeconds, route: str, second: int, requests: int, errors: int) -> bool:
        """Whether it is counted apart. `seconds`: of the version that served."""
        if route not in self._known:
            if len(self._known) >= MOST_KNOWN:
                return False
            self._known[route] = None
        if errors:
            self._failing.setdefault(route)
        here = seconds.get(second)
        if here is None:
            here = seconds[second] = {}
            if len(seconds) > SECONDS_KEPT:
                del seconds[next(iter(seconds))]
        before = here.get(route, (0, 0))
        here[route] = before[0] + requests, before[1] + errors
        return True

    def chosen(self, pair: tuple[str, str], baseline: RouteSeconds, open_from_s: int) -> dict[str, int]:
        """By route, the second from which on it is shown. `open_from_s`: the first one not handed out yet."""
        found = self._chosen.get(pair)
        if found is None:
            busy = busiest(baseline.values())[: MOST_ROUTES - FAILING_PLACES]
            found = self._chosen[pair] = dict.fromkeys(busy, open_from_s)
            if len(self._chosen) > MOST_PAIRS:
                self._chosen.popitem(last=False)
        for route in (*self._failing, *(self._known if len(self._known) <= MOST_ROUTES else ())):
            if len(found) < MOST_ROUTES:
                found.setdefault(route, open_from_s)
        return found


def busiest(seconds: Iterable[dict[str, tuple[int, int]]]) -> list[str]:
    """Routes by requests, most first; by name where these are equal."""
    requests: Counter[str] = Counter()
    for here in seconds:
        for route, (count, _) in here.items():
            requests[route] += count
    return sorted(requests, key=lambda route: (-requests[route], route))


def route_counts(
    chosen: dict[str, int], canary: RouteSeconds, baseline: RouteSeconds, from_s: int, to_s: int
) -> tuple[RouteCounts, ...]:
    """Of the chosen routes, those with requests in [from_s, to_s), by name."""
    arms = _sums(canary, from_s, to_s), _sums(baseline, from_s, to_s)
    shown = sorted(route for route in {*arms[0], *arms[1]} if chosen.get(route, to_s) <= from_s)
    return tuple(RouteCounts(route=route, canary=_of(arms[0], route), baseline=_of(arms[1], route)) for route in shown)


def _sums(seconds: RouteSeconds, from_s: int, to_s: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for second in range(from_s, to_s):
        for route, (requests, errors) in seconds.get(second, {}).items():
            before = found.get(route, (0, 0))
            found[route] = before[0] + requests, before[1] + errors
    return found


def _of(arm: dict[str, tuple[int, int]], route: str) -> Totals:
    requests, errors = arm.get(route, (0, 0))
    return Totals(requests=requests, errors=errors)
