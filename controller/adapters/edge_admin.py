"""What the controller may ask of the edge, and have it do: JSON on loopback, with a bearer token.

A second token only looks: whoever judges production holds that one, and cannot change what it judges. 403 and 409 are
a definite no with nothing changed. Everything else that goes wrong leaves open whether it happened.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.adapters.edge_config import EdgeConfig
from controller.adapters.edge_effects import Effects, service_of
from controller.adapters.edge_http import Request, Response, SmallServer
from controller.adapters.edge_service import EdgeService
from controller.adapters.edge_sources import Counts
from controller.domain.ids import EffectKey
from controller.domain.verbs import VERBS, Verb
from controller.errors import Permanent
from controller.ports import PlatformStatus

LARGEST_REQUEST_BYTES = 1 << 20
# What the token that only looks may have. A route that is not listed is refused to it.
READING = frozenset(
    {
        ("GET", "/health"),
        ("GET", "/status"),
        ("POST", "/windows"),
        ("POST", "/baseline"),
        ("POST", "/failures"),
        ("POST", "/exemplars"),
        ("POST", "/excluded"),
        ("POST", "/traces"),
    }
)
STATUS: TypeAdapter[PlatformStatus] = TypeAdapter(PlatformStatus)


logger = logging.getLogger(__name__)


class Admin:
    """The routes. `asked_at` (monotonic seconds) is when the controller was last heard."""

    def __init__(
        self,
        token: str,
        read_token: str,
        services: Mapping[str, EdgeService],
        effects: Effects,
        counts: Counts,
        *,
        configure: Callable[[EdgeConfig], None],
        shut_down: Callable[[], None],
    ) -> None:
        self.asked_at = time.monotonic()
        self._token = token
        self._read_token = read_token
        self._services = services
        self._effects = effects
        self._counts = counts
        self._configure = configure
        self._shut_down = shut_down
        self._routes: dict[tuple[str, str], Callable[[Any], Awaitable[Any]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/status"): self._status,
            ("POST", "/act"): self._act,
            ("POST", "/find"): self._find,
            ("POST", "/windows"): self._windows,
            ("POST", "/baseline"): self._baseline,
            ("POST", "/failures"): self._failures,
            ("POST", "/exemplars"): self._exemplars,
            ("POST", "/excluded"): self._excluded,
            ("POST", "/traces"): self._traces,
            ("POST", "/config"): self._config,
            ("POST", "/shutdown"): self._shutdown,
        }

    def server(self) -> SmallServer:
        return SmallServer(self.handle, most_body_bytes=LARGEST_REQUEST_BYTES)

    async def handle(self, request: Request) -> Response:
        if _holds(request, self._token):
            self.asked_at = time.monotonic()
        elif not _holds(request, self._read_token):
            return _json(401, {"message": "the bearer token is not the one in the edge's token file"})
        elif (request.method, request.path) not in READING:
            return _only_looks(request)
        route = self._routes.get((request.method, request.path))
        if route is None:
            return _json(404, {"message": f"the edge has no {request.method} {request.path}"})
        try:
            return _json(200, await route(json.loads(request.body) if request.body else request.query))
        except Permanent as no:
            return _json(409, {"message": no.message, "way_out": no.way_out})
        except (ValidationError, KeyError, TypeError, ValueError) as error:
            logger.exception("%s %s could not be answered", request.method, request.path)  # it may be a defect of ours
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

    async def _exemplars(self, body: Any) -> Any:
        return self._counts.exemplars(**body).model_dump(mode="json")

    async def _excluded(self, body: Any) -> Any:
        return self._counts.excluded(**body)

    async def _traces(self, body: Any) -> Any:
        return {"traces": [one.model_dump(mode="json") for one in self._counts.traces(**body)]}

    async def _config(self, body: Any) -> Any:
        self._configure(EdgeConfig.model_validate_json(json.dumps(body)))
        return {}

    async def _shutdown(self, _: Any) -> Any:
        self._shut_down()
        return {}


def _holds(request: Request, token: str) -> bool:
    return hmac.compare_digest(request.field("authorization").encode(), f"Bearer {token}".encode())


def _only_looks(request: Request) -> Response:
    told = f"the token in token.read only looks: {request.method} {request.path} is not for it"
    logger.warning("%s", told)
    return _json(403, {"message": told, "way_out": "Whoever may change production holds the token in the file token"})


def _verb(body: Any) -> Verb:
    kind = VERBS.get(body["verb"])
    if kind is None:
        raise Permanent(f"the edge has no verb {body['verb']}")
    return kind.model_validate_json(json.dumps(body["arguments"]))


def _json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode())
