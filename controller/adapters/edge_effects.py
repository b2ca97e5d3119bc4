"""Verbs of the platform, each done once per key.

A key that was seen gives its recorded result, a key in progress is waited for, and a key with another intent is
refused. A refused verb leaves its key free: nothing was changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from controller.adapters.edge_service import EdgeService
from controller.adapters.edge_state import DoneEffect, StateKeeper
from controller.domain.base import Fact
from controller.domain.ids import EffectKey, digest_of
from controller.domain.verbs import Build, ConfirmRelease, RestoreTraffic, SetWeight, StartCanary, Verb
from controller.errors import Permanent

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
