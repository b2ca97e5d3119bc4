"""The embedded platform and telemetry as the loop sees them, over the edge's admin API.

An edge that has died is started again by the first question that finds it gone; it then serves the confirmed release
and says that the canary lapsed. Every call ends well before its verb's deadline. 403 and 409 are the edge's definite
no; anything else leaves open whether it happened, so it is `Unavailable` and the key tells.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from pydantic import TypeAdapter

from controller.adapters.edge_config import EdgeConfig
from controller.adapters.edge_start import EdgeHandle, ensure_edge, handle_of
from controller.domain.counts import TraceGroup, WindowCounts
from controller.domain.events import Label
from controller.domain.ids import Commit, EffectKey, Service
from controller.domain.verbs import Verb
from controller.domain.verdict import Exemplars
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ports import Baseline, PlatformStatus

READ_WITHIN_S = 5.0
MARGIN_S = 2.0  # an act's answer is due this long before its deadline
OK = 200
REFUSED = frozenset({403, 409})
STATUS: TypeAdapter[PlatformStatus] = TypeAdapter(PlatformStatus)
BASELINE: TypeAdapter[Baseline] = TypeAdapter(Baseline)
TRACES: TypeAdapter[list[TraceGroup]] = TypeAdapter(list[TraceGroup])
WINDOWS: TypeAdapter[list[WindowCounts]] = TypeAdapter(list[WindowCounts])


class EdgeLink:
    """Questions to the edge of one folder. With `config=None` a dead edge is left dead.

    `read_only`: with the token that only looks, by which no edge is started either.
    """

    def __init__(self, folder: Path, config: EdgeConfig | None = None, *, read_only: bool = False) -> None:
        if read_only and config is not None:
            raise ConfigError("a link that only looks cannot start an edge", "Open it without a configuration")
        self._read_only = read_only
        self._folder = folder
        self._config = config
        self._client = httpx2.AsyncClient(trust_env=False, timeout=None)  # noqa: S113  every call has its own limit

    async def close(self) -> None:
        await self._client.aclose()

    async def ready(self) -> EdgeHandle:
        """Have it running under the present configuration, which one that has been running for long may not know.

        Raises `ConfigError` when it cannot start, or cannot take the configuration over without being ended first.
        """
        if self._config is None:
            raise Unavailable(f"no edge may be started in {self._folder}", "Give the link a configuration")
        return await ensure_edge(self._folder, self._config)

    async def ask(self, method: str, path: str, within_s: float, **told: Any) -> Any:
        """Raises `Permanent` for a definite no, `Unavailable` when no answer came in time."""
        try:
            async with asyncio.timeout(within_s):
                answer = await self._sent(method, path, **told)
        except (TimeoutError, httpx2.TransportError) as error:
            raise Unavailable(
                f"the edge in {self._folder} did not answer {path} within {within_s:g} s ({error})", "Read its edge.log"
            ) from error
        if answer.status_code == OK:
            return answer.json()
        said = answer.json() if answer.headers.get("content-type") == "application/json" else {"message": answer.text}
        if answer.status_code in REFUSED:
            raise Permanent(said["message"], said.get("way_out", ""))
        raise Unavailable(f"the edge answered {path} with {answer.status_code}: {said['message']}", "Read its edge.log")

    async def _sent(self, method: str, path: str, **told: Any) -> httpx2.Response:
        handle = handle_of(self._folder, read_only=self._read_only)
        if handle is not None:
            try:
                return await self._send(handle, method, path, **told)
            except httpx2.ConnectError:
                if self._config is None:
                    raise
        if self._config is None:
            sought = "no edge that knows a token.read" if self._read_only else "no edge"
            raise Unavailable(
                f"{sought} runs in {self._folder}", "Start it with ensure_edge(), an older one's end first"
            )
        return await self._send(await ensure_edge(self._folder, self._config), method, path, **told)

    async def _send(self, handle: EdgeHandle, method: str, path: str, **told: Any) -> httpx2.Response:
        return await self._client.request(method, handle.admin_url + path, headers=handle.authorization, **told)


class EdgePlatform:
    """`Platform`, and `Hands` for Build, StartCanary, SetWeight, ConfirmRelease and RestoreTraffic."""

    def __init__(self, link: EdgeLink) -> None:
        self._link = link

    async def status(self, service: Service, environment: str) -> PlatformStatus:
        return STATUS.validate_python((await self.details(service, environment))["status"], strict=False)

    async def details(self, service: Service, environment: str) -> dict[str, Any]:
        """Status, the newest weight changes with their `at_ms`, the instances, and the proxy's own answers by cause."""
        params = {"service": service, "environment": environment}
        found: dict[str, Any] = await self._link.ask("GET", "/status", READ_WITHIN_S, params=params)
        return found

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        answer = await self._link.ask("POST", "/act", verb.deadline_s - MARGIN_S, json=_told(key, verb))
        return type(verb).result.model_validate(answer["result"])

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        result = (await self._link.ask("POST", "/find", READ_WITHIN_S, json=_told(key, verb)))["result"]
        return None if result is None else type(verb).result.model_validate(result)


def _told(key: EffectKey, verb: Verb) -> dict[str, Any]:
    return {"key": key, "verb": verb.name, "arguments": verb.model_dump(mode="json")}


class EdgeTelemetry:
    """`Telemetry`. `label` says what the traffic is: only whoever sends it knows."""

    def __init__(self, link: EdgeLink, label: Label = Label.LIVE) -> None:
        self._link = link
        self._label = label
        self._source = "the edge's counts (nothing was asked for yet)"

    @property
    def source(self) -> str:
        """Of the newest answer."""
        return self._source

    @property
    def label(self) -> Label:
        return self._label

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        told = {"service": service, "canary": canary, "baseline": baseline, "from_ms": from_ms, "width_ms": width_ms}
        return WINDOWS.validate_python((await self._asked("/windows", told))["windows"])

    async def baseline(
        self, service: Service, version: Commit, *, from_ms: int, to_ms: int, width_ms: int = 10_000
    ) -> Baseline:
        told = {"service": service, "version": version, "from_ms": from_ms, "to_ms": to_ms, "width_ms": width_ms}
        return BASELINE.validate_python((await self._asked("/baseline", told))["baseline"])

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        found: int | None = (await self._failures(service, version))["first_failure_ms"]
        return found

    async def exemplars(self, service: Service, *, canary: Commit, baseline: Commit) -> Exemplars:
        told = {"service": service, "canary": canary, "baseline": baseline}
        return Exemplars.model_validate_json(json.dumps(await self._told("/exemplars", told)))

    async def excluded(self, service: Service) -> Mapping[str, int]:
        found: dict[str, int] = await self._told("/excluded", {"service": service})
        return found

    async def traces(self, service: Service, *, from_ms: int, to_ms: int) -> list[TraceGroup]:
        told = {"service": service, "from_ms": from_ms, "to_ms": to_ms}
        return TRACES.validate_json(json.dumps((await self._told("/traces", told))["traces"]))

    async def _failures(self, service: Service, version: Commit) -> dict[str, Any]:
        found: dict[str, Any] = await self._told("/failures", {"service": service, "version": version})
        return found

    async def _told(self, path: str, told: dict[str, Any]) -> Any:
        return await self._link.ask("POST", path, READ_WITHIN_S, json=told)

    async def _asked(self, path: str, told: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = await self._told(path, told)
        self._source = found["source"]
        return found
