"""What the controller may ask of the edge, and have it do: JSON on loopback, with a bearer token.

An effect is done once per key: a key that was seen gives its recorded result, a key in progress is waited for, and a
key with another intent is refused. 409 is a definite no with nothing changed. Everything else that goes wrong leaves
open whether it happened.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.adapters.edge_config import CountSource, EdgeConfig
from controller.adapters.edge_http import Request, Response, SmallServer
from controller.adapters.edge_service import EdgeService
from controller.adapters.edge_state import DoneEffect, StateKeeper
from controller.adapters.otlp_counts import ServiceCounts
from controller.domain.base import Fact
from controller.domain.ids import Commit, EffectKey, digest_of
from controller.domain.verbs import VERBS, Build, ConfirmRelease, RestoreTraffic, SetWeight, StartCanary, Verb
from controller.errors import Permanent
from controller.ports import Baseline, PlatformStatus

LARGEST_REQUEST_BYTES = 1 << 20
SOURCES_KEPT = 256
SOURCE_WORDS = {
    CountSource.OTLP: "the service's own OTLP metrics",
    CountSource.PROXY: "the proxy's status codes and latencies",
}
STATUS: TypeAdapter[PlatformStatus] = TypeAdapter(PlatformStatus)
BASELINE: TypeAdapter[Baseline] = TypeAdapter(Baseline)
log = logging.getLogger("flyball.edge")


class Effects:
    """Verbs, each done once per key."""

    def __init__(self, services: Mapping[str, EdgeService], keeper: StateKeeper) -> None:
        self._services = services
        self._keeper = keeper
        self._under_way: dict[EffectKey, tuple[str, asyncio.Task[dict[str, Any]]]] = {}

    async def act(self, key: EffectKey, verb: Verb) -> dict[str, Any]:
        """Raises `Permanent` when nothing was changed and nothing will be."""
        found = self.find(key, verb)
        if found is not None:
            return found
        intent = digest_of(verb.model_dump(mode="json"))
        known, task = self._under_way.get(key, (intent, None))
        _same_intent(key, known, intent)
        if task is None:
            task = asyncio.create_task(self._once(key, verb, intent), name=f"effect {key}")
            self._under_way[key] = (intent, task)
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(task)

    def find(self, key: EffectKey, verb: Verb) -> dict[str, Any] | None:
        """None: it has not happened, or so long ago that it is forgotten."""
        done = self._keeper.state.done.get(key)
        if done is None:
            return None
        _same_intent(key, done.intent, digest_of(verb.model_dump(mode="json")))
        return done.result

    async def _once(self, key: EffectKey, verb: Verb, intent: str) -> dict[str, Any]:
        result = (await self._do(verb)).model_dump(mode="json")
        effect = DoneEffect.model_validate({"verb": verb.name, "intent": intent, "result": result})
        await self._keeper.update(lambda state: state.with_done(key, effect))
        log.info("%s %s: %s", verb.name, key, result)
        return result

    async def _do(self, verb: Verb) -> Fact:
        match verb:
            case Build():
                return await self._service(verb).build(verb)
            case StartCanary():
                return await self._service(verb).start_canary(verb)
            case SetWeight():
                return await self._service(verb).set_weight(verb)
            case ConfirmRelease():
                return await self._service(verb).confirm(verb)
            case RestoreTraffic():
                return await self._service(verb).restore(verb)
        raise Permanent(f"the edge has no verb {verb.name}")

    def _service(self, verb: Build | StartCanary | SetWeight | ConfirmRelease | RestoreTraffic) -> EdgeService:
        return service_of(self._services, verb.service, verb.environment)


def _same_intent(key: EffectKey, known: str, intent: str) -> None:
    if known != intent:
        raise Permanent(f"effect key {key} was used for another intent", "Make a key of its own for every effect")


def service_of(services: Mapping[str, EdgeService], name: str, environment: str) -> EdgeService:
    found = services.get(name)
    if found is None or found.settings.environment != environment:
        raise Permanent(f"this edge runs no service {name}@{environment}", "Add it to `services` and restart the edge")
    return found


class Counts:
    """Which source a service is judged by, and its counts. A pair of versions keeps its source while it is compared."""

    def __init__(
        self, services: Mapping[str, EdgeService], hold_ms: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self._services = services
        self._hold_ms = hold_ms
        self._now_ms = now_ms
        self._latched: OrderedDict[tuple[str, str, str], CountSource] = OrderedDict()

    def windows(self, service: str, canary: Commit, baseline: Commit, from_ms: int, width_ms: int) -> dict[str, Any]:
        pair = (service, canary, baseline)
        source = self._latched.setdefault(pair, self._source(service, baseline))
        if len(self._latched) > SOURCES_KEPT:
            self._latched.popitem(last=False)
        counts = self._of(service, source)
        now_ms, hold_ms = self._now_ms(), self._hold_ms()
        found = counts.windows(canary, baseline, from_ms=from_ms, width_ms=width_ms, now_ms=now_ms, hold_ms=hold_ms)
        return {
            "source": SOURCE_WORDS[source],
            "windows": [window.model_dump(mode="json") for window in found],
            "late": dict(counts.late),
        }

    def baseline(self, service: str, version: Commit, from_ms: int, to_ms: int) -> dict[str, Any]:
        source = self._source(service, version)
        found = self._of(service, source).baseline(version, from_ms=from_ms, to_ms=to_ms)
        return {"source": SOURCE_WORDS[source], "baseline": BASELINE.dump_python(found, mode="json")}

    def failures(self, service: str, version: Commit) -> dict[str, Any]:
        """The first failure that either source knows of, and traces of failed requests."""
        edge = self._edge(service)
        both = [
            counts.versions[version] for counts in (edge.told_by_otlp, edge.seen_by_proxy) if version in counts.versions
        ]
        known = [counts.first_failure_ms for counts in both if counts.first_failure_ms is not None]
        traces = [trace for counts in both for trace in counts.failed_traces]
        return {"first_failure_ms": min(known) if known else None, "failed_traces": traces}

    def _edge(self, service: str) -> EdgeService:
        found = self._services.get(service)
        if found is None:
            raise Permanent(f"this edge runs no service {service}", "Add it to `services` and restart the edge")
        return found

    def _source(self, service: str, confirmed: Commit) -> CountSource:
        edge = self._edge(service)
        if edge.settings.telemetry is not CountSource.AUTO:
            return edge.settings.telemetry
        told = edge.told_by_otlp.versions.get(confirmed)
        return CountSource.OTLP if told is not None and told.total.requests else CountSource.PROXY

    def _of(self, service: str, source: CountSource) -> ServiceCounts:
        edge = self._edge(service)
        return edge.told_by_otlp if source is CountSource.OTLP else edge.seen_by_proxy


class Admin:
    """The routes. `asked_at` (monotonic seconds) is when the controller was last heard."""

    def __init__(
        self, token: str, services: Mapping[str, EdgeService], effects: Effects, counts: Counts, configure:
        Callable[[EdgeConfig], None], shut_down: Callable[[], None], ) -> None:  # fmt: skip self.asked_at =
        time.monotonic() self._token = token self._services = services self._effects = effects self._counts = counts
        self._configure = configure self._shut_down = shut_down self._routes: dict[tuple[str, str], Callable[[Any],
        Awaitable[Any]]] = { ("GET", "/health"): self._health, ("GET", "/status"): self._status, ("POST", "/act"):
        self._act, ("POST", "/find"): self._find, ("POST", "/windows"): self._windows, ("POST", "/baseline"):
        self._baseline, ("POST", "/failures"): self._failures, ("POST", "/config"): self._config, ("POST", "/shutdown"):
        self._shutdown, }

    def server(self) -> SmallServer:
        return SmallServer(self.handle, most_body_bytes=LARGEST_REQUEST_BYTES)

    async def handle(self, request: Request) -> Response:
        if not hmac.compare_digest(request.field("authorization").encode(), f"Bearer {self._token}".encode()):
            return _json(401, {"message": "the bearer token is not the one in the edge's token file"})
        self.asked_at = time.monotonic()
        route = self._routes.get((request.method, request.path))
        if route is None:
            return _json(404, {"message": f"the edge has no {request.method} {request.path}"})
        try:
            return _json(200, await route(json.loads(request.body) if request.body else request.query))
        except Permanent as no:
            return _json(409, {"message": no.message, "way_out": no.way_out})
        except (ValidationError, KeyError, TypeError, ValueError) as error:
            return _json(400, {"message": f"the request is malformed: {error}"})

    async def _health(self, _: Any) -> Any:
        ports = {name: service.port for name, service in self._services.items()}
        return {"ready": True, "services": ports}

    async def _status(self, query: Any) -> Any:
        edge = service_of(self._services, query["service"], query["environment"])
        instances = [
            {"name": one.name, "port": one.port, "life": one.life, "reason": one.reason} for one in edge.instances()
        ]
        changes = [change.model_dump(mode="json") for change in edge.state.changes]
        status = STATUS.dump_python(edge.status(), mode="json")
        return {
            "status": status,
            "changes": changes,
            "instances": instances,
            "proxy": dict(edge.proxy.seen),
            "port": edge.port,
        }

    async def _act(self, body: Any) -> Any:
        return {"result": await self._effects.act(EffectKey(body["key"]), _verb(body))}

    async def _find(self, body: Any) -> Any:
        return {"result": self._effects.find(EffectKey(body["key"]), _verb(body))}

    async def _windows(self, body: Any) -> Any:
        return self._counts.windows(**body)

    async def _baseline(self, body: Any) -> Any:
        return self._counts.baseline(**body)

    async def _failures(self, body: Any) -> Any:
        return self._counts.failures(**body)

    async def _config(self, body: Any) -> Any:
        self._configure(EdgeConfig.model_validate_json(json.dumps(body)))
        return {}

    async def _shutdown(self, _: Any) -> Any:
        self._shut_down()
        return {}


def _verb(body: Any) -> Verb:
    kind = VERBS.get(body["verb"])
    if kind is None:
        raise Permanent(f"the edge has no verb {body['verb']}")
    return kind.model_validate_json(json.dumps(body["arguments"]))


def _json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode())
